"""A real server, real gRPC, XGBoost's own predictions as the truth."""

from __future__ import annotations

import asyncio
import threading

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from ranker.client import AsyncRankerClient, RankerClient
from ranker.errors import InvalidRequestError, NotFoundError
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import NAMES, on_both_transports
from tests.waiting import PATIENCE

pytestmark = on_both_transports

RANK = "/ranker.v1.RankingService/Rank"


def by_score(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable").tolist()


@pytest.mark.parametrize("n", [1, 2, 10, 100, 1500], ids=lambda n: f"{n}-candidates")
def test_a_list_is_ranked_as_xgboost_ranks_it(client, truth, n):
    rows = truth.rows[:n]
    ranking = client.rank(rows)
    expected = truth.scores(rows)
    assert ranking.indices.tolist() == by_score(expected)
    np.testing.assert_array_equal(ranking.scores, expected[ranking.indices])
    assert (ranking.model, ranking.version) == ("books", "7")


def test_top_k_with_ids(client, truth):
    rows = truth.rows[200:250]
    ids = [f"book-{i}" for i in range(50)]
    ranking = client.rank(rows, top_k=5, candidate_ids=ids)
    assert list(ranking.ids) == [ids[i] for i in by_score(truth.scores(rows))[:5]]


def test_named_subset_in_another_order_with_context(client, truth):
    rows = truth.rows[:40].copy()
    rows[:, 3] = rows[0, 3] if not np.isnan(rows[0, 3]) else 0.5
    rows[:, [5, 6]] = np.nan
    sent = [11, 0, 7, 1, 2, 4, 8, 9, 10]
    ranking = client.rank(
        rows[:, sent],
        feature_names=[NAMES[i] for i in sent],
        context={NAMES[3]: float(rows[0, 3])},
    )
    assert ranking.indices.tolist() == by_score(truth.scores(rows))


def test_equal_scores_keep_the_order_of_the_request(client, truth):
    rows = np.repeat(truth.rows[:2], 20, axis=0)
    assert client.rank(rows).indices.tolist() == by_score(truth.scores(rows))


def test_many_callers_at_once_each_get_their_own_answer(server, truth):
    lists = [truth.rows[i * 17 : i * 17 + 1 + i % 40] for i in range(100)]
    failures: list[Exception] = []

    def work(part: int) -> None:
        try:
            with RankerClient(server.address, timeout=30.0) as client:
                for rows in lists[part::4]:
                    scores = truth.scores(rows)
                    np.testing.assert_array_equal(client.rank(rows).indices, by_score(scores))
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_stream_answers_every_request(server, truth):
    async def run() -> None:
        async with (
            AsyncRankerClient(server.address, timeout=PATIENCE) as client,
            client.stream() as stream,
        ):
            lists = [truth.rows[i : i + 1 + i % 30] for i in range(200)]
            rankings = await asyncio.gather(*(stream.submit(rows, timeout=30.0) for rows in lists))
            for rows, ranking in zip(lists, rankings, strict=True):
                assert ranking.indices.tolist() == by_score(truth.scores(rows))
            with pytest.raises(NotFoundError):
                await stream.submit(lists[0], model="films")
            ranking = await stream.submit(lists[5])  # the stream lives on
            assert len(ranking.indices) == 6

    asyncio.run(run())


class Raw:
    """Requests as they go over the wire, wrong ones included."""

    def __init__(self, server) -> None:
        self.channel = grpc.insecure_channel(server.address)
        self.rank = self.channel.unary_unary(RANK)

    def refusal(self, request) -> tuple[grpc.StatusCode, list[tuple[str, str]]]:
        data = request if isinstance(request, bytes) else request.SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            self.rank(data, timeout=30)
        status = rpc_status.from_call(caught.value)
        violations = []
        for detail in status.details if status else []:
            bad = error_details_pb2.BadRequest()
            if detail.Unpack(bad):
                violations += [(v.field, v.description) for v in bad.field_violations]
        return caught.value.code(), violations


@pytest.fixture
def raw(server):
    raw = Raw(server)
    yield raw
    raw.channel.close()


def request(rows: int = 2, columns: int = 12, data: bytes | None = None, **fields):
    data = bytes(rows * columns * 4) if data is None else data
    matrix = pb.Matrix(rows=rows, columns=columns, data=data)
    return pb.RankRequest(candidates=matrix, **fields)


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        pytest.param(b"\xff\xff\xff", "request", id="garbage"),
        pytest.param(b"", "candidates.rows", id="empty-message"),
        pytest.param(request(data=bytes(95)), "candidates.data", id="byte-length"),
        pytest.param(request(columns=11), "candidates.columns", id="feature-count"),
        pytest.param(
            request(columns=1, feature_names=["mood"]), "feature_names[0]", id="unknown-feature"
        ),
        pytest.param(
            request(columns=2, feature_names=[NAMES[1]] * 2), "feature_names[1]", id="repeated"
        ),
        pytest.param(request(rows=0), "candidates.rows", id="zero-rows"),
        pytest.param(request(rows=10_001), "candidates.rows", id="too-many-rows"),
        pytest.param(request(candidate_ids=["a"]), "candidate_ids", id="ids-do-not-match"),
        pytest.param(request(top_k=-1), "top_k", id="negative-top-k"),
    ],
)
def test_bad_input_is_invalid_argument_and_names_its_field(raw, client, truth, bad, field):
    code, violations = raw.refusal(bad)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert [name for name, _ in violations] == [field]
    assert violations[0][1]
    assert len(client.rank(truth.rows[:3]).indices) == 3  # the server is none the worse


def test_the_client_raises_it_as_the_same_error(client, truth):
    with pytest.raises(InvalidRequestError) as caught:
        client.rank(truth.rows[:3, :5])
    assert caught.value.field == "candidates.columns"


def test_an_unknown_model_is_not_found(raw):
    assert raw.refusal(request(model="films"))[0] is grpc.StatusCode.NOT_FOUND


def test_an_unknown_method_is_unimplemented(raw):
    call = raw.channel.unary_unary("/ranker.v1.RankingService/Guess")
    with pytest.raises(grpc.RpcError) as caught:
        call(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_the_model_describes_itself(client):
    model = client.get_model()
    assert list(model.feature_names) == list(NAMES)
    assert (model.name, model.version, model.is_default) == ("books", "7", True)
    assert (model.num_features, model.num_trees) == (12, 60)
    assert model.objective == "rank:ndcg"
    assert model.engine
    assert client.list_models() == (model,)


@pytest.mark.parametrize("service", ["", "ranker.v1.RankingService"], ids=["server", "service"])
def test_health(raw, service):
    stub = health_pb2_grpc.HealthStub(raw.channel)
    request = health_pb2.HealthCheckRequest(service=service)
    assert stub.Check(request, timeout=30).status == health_pb2.HealthCheckResponse.SERVING
    watch = stub.Watch(request, timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
    watch.cancel()


def test_health_of_an_unknown_service(raw):
    stub = health_pb2_grpc.HealthStub(raw.channel)
    request = health_pb2.HealthCheckRequest(service="films")
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(request, timeout=30)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    watch = stub.Watch(request, timeout=30)
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def test_reflection_tells_what_can_be_called(raw):
    database = ProtoReflectionDescriptorDatabase(raw.channel)
    assert {"ranker.v1.RankingService", "grpc.health.v1.Health"} <= set(database.get_services())
    found = database.FindFileContainingSymbol("ranker.v1.RankingService")
    assert found.name == "ranker/v1/ranking.proto"


def test_requests_are_counted(server, client, truth):
    def counts() -> tuple[float, ...]:
        return (
            server.metric("ranker_requests_total", code="OK", model="books", version="7"),
            server.metric("ranker_requests_total", code="INVALID_ARGUMENT"),
            server.metric("ranker_candidates_scored_total", model="books"),
        )

    before = counts()
    for n in (3, 4, 5):
        client.rank(truth.rows[:n])
    with pytest.raises(InvalidRequestError):
        client.rank(truth.rows[:3, :5])
    after = counts()
    assert [b - a for a, b in zip(before, after, strict=True)] == [3, 1, 12]
