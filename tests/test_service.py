from __future__ import annotations

import contextlib
import gc
import math
import time

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2

from exporters import catalog
from exporters.aggregates import Aggregates, Layout
from exporters.families import Distribution
from exporters.metric import Metric
from exporters.recorder import Recorder
from ranker.batcher import Batcher
from ranker.catalogue import Catalogue
from ranker.cost import CostModel
from ranker.dispatcher import Dispatcher, ScoringJob
from ranker.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RankerError,
    UnavailableError,
)
from ranker.metadata import ModelMetadata
from ranker.model import Model
from ranker.ranking import Resources
from ranker.service import SERVICE, STREAM_IN_FLIGHT, RankingService
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import INLINE, BrokenEngine, FakeCall, SumEngine


class Bench:
    """The service over made-up engines, without a transport."""

    def __init__(
        self, *engines, max_queue_rows: int = 10_000, max_queue_bytes: int = 10**9
    ) -> None:
        self.engines = engines or (SumEngine(),)
        names = ("books", "films")[: len(self.engines)]
        metadata = ModelMetadata(feature_names=("a", "b", "c"), trees=5, depth=2)
        models = [
            Model(engine, "made up", metadata, name, "7")
            for engine, name in zip(self.engines, names, strict=True)
        ]
        layout = Layout(tuple((model.name, model.version) for model in models), ("/test",))
        self.aggregates = Aggregates.private(layout)
        self.recorder = Recorder(self.aggregates)
        self.cost = CostModel()
        batcher = Batcher(
            [self.cost] * len(models),
            max_batch_rows=100,
            max_queue_rows=max_queue_rows,
            max_queue_bytes=max_queue_bytes,
        )
        self.dispatcher = Dispatcher(self.engines, batcher, self.recorder, lambda: None, INLINE)
        resources = Resources(Catalogue(models), self.dispatcher, self.recorder, 500)
        self.service = RankingService(resources)
        self.methods = self.service.methods()

    def pump(self) -> None:
        """As a loop with nothing to read does it."""
        while self.dispatcher.pump() is not None:
            pass

    def message(self, method: str, call: FakeCall, message) -> bool:
        data = message if isinstance(message, bytes) else message.SerializeToString()
        handler = self.methods[f"/{SERVICE}/{method}"].handler
        if not call.opened:
            call.opened = True
            handler.opened(call)
        return handler.message(call, data)

    def rank(self, message, **call) -> pb.RankResponse:
        call = FakeCall(**call)
        self.message("Rank", call, message)
        self.pump()
        if call.error is not None:
            raise call.error
        assert call.over
        return pb.RankResponse.FromString(call.sent[0])


@pytest.fixture
def bench():
    made: list[Bench] = []

    def make(*args, **kwargs) -> Bench:
        made.append(Bench(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.dispatcher.close()
        each.recorder.close()


def request(rows, **fields) -> pb.RankRequest:
    rows = np.asarray(rows, "<f4")
    matrix = pb.Matrix(rows=rows.shape[0], columns=rows.shape[1], data=rows.tobytes())
    return pb.RankRequest(candidates=matrix, **fields)


THREE = [[1, 1, 1], [5, 0, 0], [0, 0, 4]]


class TestRank:
    def test_best_first(self, bench):
        response = bench().rank(request(THREE, request_id="q"))
        assert list(response.indices) == [1, 2, 0]
        assert list(response.scores) == [5.0, 4.0, 3.0]
        assert (response.request_id, response.model, response.model_version) == ("q", "books", "7")
        assert response.timing.total_us >= response.timing.scoring_us

    def test_top_k_with_ids(self, bench):
        response = bench().rank(request(THREE, top_k=2, candidate_ids=["x", "y", "z"]))
        assert list(response.candidate_ids) == ["y", "z"]

    def test_a_model_by_name(self, bench):
        engines = SumEngine(), SumEngine()
        b = bench(*engines)
        assert b.rank(request(THREE, model="films")).model == "films"
        assert engines[0].batches == []
        assert engines[1].batches == [[3]]

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            pytest.param({"model": "songs"}, "no model songs", id="name"),
            pytest.param({"model": "books", "model_version": "8"}, "books@8", id="version"),
            pytest.param({"model_version": "9"}, r"\(default\)@9", id="version-of-default"),
        ],
    )
    def test_an_unknown_model_is_not_found(self, bench, fields, words):
        with pytest.raises(NotFoundError, match=words):
            bench().rank(request(THREE, **fields))

    def test_garbage_is_invalid(self, bench):
        with pytest.raises(InvalidRequestError, match=r"ranker\.v1\.RankRequest"):
            bench().message("Rank", FakeCall(), b"\xff\xff")

    def test_more_rows_than_allowed(self, bench):
        with pytest.raises(InvalidRequestError, match="at most 500"):
            bench().rank(request(np.zeros((501, 3))))

    def test_an_overloaded_server_says_when_to_retry(self, bench):
        b = bench(max_queue_rows=4)
        b.message("Rank", FakeCall(), request(THREE))
        with pytest.raises(OverloadedError) as caught:
            b.message("Rank", FakeCall(), request(THREE))
        detail = error_details_pb2.RetryInfo()
        assert caught.value.status().details[0].Unpack(detail)

    def test_a_list_counts_with_all_that_came_with_it(self, bench):
        b = bench(max_queue_bytes=1000)
        b.message("Rank", FakeCall(), request(THREE, candidate_ids=["a" * 300] * 3))
        with pytest.raises(OverloadedError, match="full of bytes"):
            b.message("Rank", FakeCall(), request(THREE, candidate_ids=["a" * 30] * 3))

    def test_a_passed_deadline(self, bench):
        with pytest.raises(DeadlineError):
            bench().rank(request(THREE), deadline=time.monotonic() - 1)

    def test_a_closed_call_is_not_scored(self, bench):
        engine = SumEngine()
        b = bench(engine)
        call = FakeCall()
        b.message("Rank", call, request(THREE))
        b.methods[f"/{SERVICE}/Rank"].handler.closed(call)
        b.pump()
        assert engine.batches == []

    def test_a_bug_in_the_engine_is_internal(self, bench):
        with pytest.raises(InternalError):
            bench(BrokenEngine()).rank(request(THREE))


class Stream:
    """One RankStream call."""

    def __init__(self, bench: Bench, **call) -> None:
        self.bench = bench
        self.call = FakeCall(**call)
        self.handler = bench.methods[f"/{SERVICE}/RankStream"].handler

    def send(self, message) -> bool:
        return self.bench.message("RankStream", self.call, message)

    def answers(self) -> dict[str, pb.RankResponse]:
        self.bench.pump()
        responses = map(pb.RankResponse.FromString, self.call.sent)
        return {response.request_id: response for response in responses}


class TestRankStream:
    def test_answers_are_matched_by_id(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE[:2], request_id="b"))
        answers = stream.answers()
        assert list(answers["a"].indices) == [1, 2, 0]
        assert list(answers["b"].indices) == [1, 0]
        assert not stream.call.over

    @pytest.mark.parametrize(
        ("bad", "request_id", "code"),
        [
            pytest.param(b"\xff\xff", "", grpc.StatusCode.INVALID_ARGUMENT, id="garbage"),
            pytest.param(
                request(THREE), "", grpc.StatusCode.INVALID_ARGUMENT, id="without-request-id"
            ),
            pytest.param(
                request(THREE, request_id="x", top_k=-1),
                "x",
                grpc.StatusCode.INVALID_ARGUMENT,
                id="invalid",
            ),
            pytest.param(
                request(THREE, request_id="x", model="songs"),
                "x",
                grpc.StatusCode.NOT_FOUND,
                id="unknown-model",
            ),
        ],
    )
    def test_an_error_belongs_to_its_request(self, bench, bad, request_id, code):
        stream = Stream(bench())
        assert stream.send(bad)
        stream.send(request(THREE, request_id="good"))
        answers = stream.answers()
        assert answers[request_id].status.code == code.value[0]
        assert list(answers["good"].indices) == [1, 2, 0]
        assert not stream.call.over

    def test_an_id_still_in_flight_is_refused(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE, request_id="a"))
        stream.bench.pump()
        first, second = map(pb.RankResponse.FromString, stream.call.sent)
        assert first.status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
        assert not second.HasField("status")
        stream.send(request(THREE, request_id="a"))  # free again
        assert list(stream.answers()["a"].indices) == [1, 2, 0]

    def test_each_request_has_its_own_deadline(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE, request_id="hurry", deadline_ms=1))
        stream.send(request(THREE, request_id="patient", deadline_ms=60_000))
        time.sleep(0.005)
        answers = stream.answers()
        assert answers["hurry"].status.code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        assert not answers["patient"].HasField("status")

    def test_the_streams_deadline_bounds_them_all(self, bench):
        stream = Stream(bench(), deadline=time.monotonic() - 1)
        stream.send(request(THREE, request_id="a", deadline_ms=60_000))
        code = stream.answers()["a"].status.code
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]

    def test_a_bounded_number_is_in_flight(self, bench):
        stream = Stream(bench())
        wants_more = [
            stream.send(request(THREE, request_id=str(i))) for i in range(STREAM_IN_FLIGHT)
        ]
        assert wants_more == [True] * (STREAM_IN_FLIGHT - 1) + [False]
        assert len(stream.answers()) == STREAM_IN_FLIGHT
        assert stream.call.resumed == 1

    def test_it_ends_when_all_is_answered(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE, request_id="a"))
        stream.handler.half_closed(stream.call)
        assert not stream.call.over
        stream.answers()
        assert stream.call.code is grpc.StatusCode.OK

    def test_an_empty_stream_ends_at_once(self, bench):
        stream = Stream(bench())
        stream.handler.half_closed(stream.call)
        assert stream.call.code is grpc.StatusCode.OK

    def test_a_closed_stream_takes_its_requests_along(self, bench):
        engine = SumEngine()
        stream = Stream(bench(engine))
        stream.send(request(THREE, request_id="a"))
        stream.handler.closed(stream.call)
        stream.bench.pump()
        assert engine.batches == []

    def test_draining_ends_a_stream_that_has_said_nothing_yet(self, bench):
        stream = Stream(bench())
        stream.handler.opened(stream.call)
        stream.bench.service.drain()
        assert stream.call.error.code is grpc.StatusCode.UNAVAILABLE

    def test_draining_answers_what_is_in_flight_and_refuses_the_rest(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE, request_id="before"))
        stream.bench.service.drain()
        asked = stream.bench.dispatcher.last_asked
        stream.send(request(THREE, request_id="after"))
        assert stream.bench.dispatcher.last_asked > asked
        answers = stream.answers()
        assert list(answers["before"].indices) == [1, 2, 0]
        assert answers["after"].status.code == grpc.StatusCode.UNAVAILABLE.value[0]
        assert stream.call.code is grpc.StatusCode.UNAVAILABLE

    def test_a_stream_refused_while_draining_is_somebody_who_asks(self, bench):
        stream = Stream(bench())
        stream.bench.service.drain()
        asked = stream.bench.dispatcher.last_asked
        with pytest.raises(UnavailableError, match="draining"):
            stream.handler.opened(stream.call)
        assert stream.bench.dispatcher.last_asked > asked


def counted(bench: Bench, *metrics: Metric) -> dict[str, dict[str, float]]:
    """Per metric, what was counted under which labels; histograms by their count."""
    found: dict[str, dict[str, float]] = {}
    for family in bench.aggregates.snapshot():
        for sample in family.samples if family.metric in metrics else ():
            value = sample.value
            number = value.count if isinstance(value, Distribution) else value
            if number:
                found.setdefault(family.metric.name, {})[" ".join(sample.labels)] = number
    return found


GARBAGE = b"\xff\xff"


def answered(stream: Stream) -> None:
    stream.send(request(THREE, request_id="a"))
    assert list(stream.answers()["a"].indices) == [1, 2, 0]


def refused(stream: Stream) -> None:
    stream.send(request(THREE, request_id="a"))
    stream.send(request(THREE, request_id="b"))  # which finds the queue full
    answers = stream.answers()
    assert answers["b"].status.code == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


def cancelled(stream: Stream) -> None:
    stream.send(request(THREE, request_id="a"))
    stream.call.code = grpc.StatusCode.CANCELLED
    stream.handler.closed(stream.call)
    stream.bench.pump()


@pytest.mark.parametrize("end", [answered, refused, cancelled])
def test_a_list_that_has_ended_does_not_wait_for_the_garbage_collector(bench, end):
    """It may be half a megabyte, and the collector comes seldom: a stream's fill 30 MB by then."""
    stream = Stream(bench(max_queue_rows=4))
    gc.collect()
    gc.disable()
    try:
        end(stream)
        assert [thing for thing in gc.get_objects() if isinstance(thing, ScoringJob)] == []
    finally:
        gc.enable()


class TestCounts:
    """Every request is counted once, whatever becomes of it."""

    @pytest.mark.parametrize(
        ("message", "labels"),
        [
            pytest.param(request(THREE, request_id="x"), "books 7 OK", id="answered"),
            pytest.param(GARBAGE, "unknown  INVALID_ARGUMENT", id="garbage"),
            pytest.param(
                request(THREE, request_id="x", model="songs"), "unknown  NOT_FOUND", id="model"
            ),
            pytest.param(
                request(THREE, request_id="x", top_k=-1), "books 7 INVALID_ARGUMENT", id="invalid"
            ),
        ],
    )
    @pytest.mark.parametrize("method", ["Rank", "RankStream"])
    def test_by_status(self, bench, method, message, labels):
        b = bench()
        with contextlib.suppress(RankerError):
            b.message(method, FakeCall(), message)
        b.pump()
        model = labels.rpartition(" ")[0]
        outcome = "ok" if labels.endswith("OK") else "error"
        metrics = catalog.REQUESTS, catalog.REQUEST_DURATION, catalog.NO_DEADLINE
        assert counted(b, *metrics) == {
            "ranker_requests_total": {labels: 1},
            "ranker_request_duration_seconds": {f"{model} {outcome}": 1},
            "ranker_requests_without_deadline_total": {model: 1},
        }

    def test_what_a_stream_refuses_itself(self, bench):
        stream = Stream(bench())
        stream.send(request(THREE))  # no id
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE, request_id="a"))
        stream.bench.service.drain()
        stream.send(request(THREE, request_id="b"))
        assert len(stream.answers()) == 3
        assert counted(stream.bench, catalog.REQUESTS, catalog.SHED) == {
            "ranker_requests_total": {
                "unknown  INVALID_ARGUMENT": 2,
                "unknown  UNAVAILABLE": 1,
                "books 7 OK": 1,
            },
            "ranker_requests_shed_total": {"unknown  draining": 1},
        }

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            pytest.param(grpc.StatusCode.CANCELLED, "cancelled", id="cancelled"),
            pytest.param(grpc.StatusCode.DEADLINE_EXCEEDED, "deadline", id="deadline"),
        ],
    )
    @pytest.mark.parametrize("method", ["Rank", "RankStream"])
    def test_a_caller_that_goes(self, bench, method, code, reason):
        b = bench()
        # The deadline of our own clock has not come: the transport knows better.
        call = FakeCall(deadline=time.monotonic() + 60)
        b.message(method, call, request(THREE, request_id="a"))
        call.code, call.over = code, True
        call.send = call.fail = lambda _: None  # as of a call that is over
        b.methods[f"/{SERVICE}/{method}"].handler.closed(call)
        b.pump()
        assert counted(b, catalog.REQUESTS, catalog.EXPIRED, catalog.DEADLINE_SLACK) == {
            "ranker_requests_total": {f"books 7 {code.name}": 1},
            "ranker_requests_expired_total": {f"books 7 {reason}": 1},
            "ranker_request_deadline_slack_seconds": {"books 7": 1},
        }

    def test_a_refusal_of_the_queue(self, bench):
        b = bench(max_queue_rows=4)
        b.message("Rank", FakeCall(), request(THREE))
        with pytest.raises(OverloadedError):
            b.message("Rank", FakeCall(), request(THREE))
        assert counted(b, catalog.REQUESTS, catalog.SHED) == {
            "ranker_requests_total": {"books 7 RESOURCE_EXHAUSTED": 1},
            "ranker_requests_shed_total": {"books 7 queue_rows": 1},
        }

    def test_a_list_refused_unread(self, bench):
        b = bench()
        b.message("Rank", FakeCall(), request(THREE))
        b.cost.fixed = 10.0
        with pytest.raises(OverloadedError):
            b.methods[f"/{SERVICE}/Rank"].handler.opened(FakeCall(deadline=time.monotonic() + 5))
        assert counted(b, catalog.REQUESTS, catalog.SHED, catalog.DEADLINE_SLACK) == {
            "ranker_requests_total": {"unknown  RESOURCE_EXHAUSTED": 1},
            "ranker_requests_shed_total": {"unknown  deadline": 1},
            "ranker_request_deadline_slack_seconds": {"unknown ": 1},
        }

    def test_a_bug_in_the_engine(self, bench, caplog):
        b = bench(BrokenEngine())
        traced, untraced = FakeCall(), FakeCall()
        traced.metadata.append(("traceparent", f"00-{'4b' * 16}-{'00f0' * 4}-01"))
        for call in (traced, untraced):
            b.message("Rank", call, request(THREE))
        b.pump()
        assert counted(b, catalog.REQUESTS, catalog.QUEUE_DURATION) == {
            "ranker_requests_total": {"books 7 INTERNAL": 2}
        }
        traces = [record.trace.trace_id for record in caplog.records if hasattr(record, "trace")]
        assert traces == ["4b" * 16]

    def test_a_bug_in_reading(self, bench, monkeypatch):
        def broken(*_: object) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr("ranker.ranking.read_candidates", broken)
        b = bench()
        for method in ("Rank", "RankStream"):
            with pytest.raises(RuntimeError):
                b.message(method, FakeCall(), request(THREE, request_id="a"))
        assert counted(b, catalog.REQUESTS)["ranker_requests_total"] == {"books 7 INTERNAL": 2}


class TestModels:
    def test_the_default_and_a_named_one(self, bench):
        b = bench(SumEngine(), SumEngine())
        for name, found, default in (("", "books", True), ("films", "films", False)):
            call = FakeCall()
            b.message("GetModel", call, pb.GetModelRequest(model=name))
            model = pb.GetModelResponse.FromString(call.sent[0]).model
            assert (model.name, model.is_default) == (found, default)

    def test_what_a_caller_needs_to_know(self, bench):
        call = FakeCall()
        bench().message("ListModels", call, pb.ListModelsRequest())
        (model,) = pb.ListModelsResponse.FromString(call.sent[0]).models
        assert list(model.feature_names) == ["a", "b", "c"]
        assert (model.num_features, model.num_trees, model.max_depth) == (3, 5, 2)
        assert (model.engine, model.engine_reason) == ("sum", "made up")
        assert model.output == "margin"

    def test_an_unknown_one_is_not_found(self, bench):
        with pytest.raises(NotFoundError):
            bench().message("GetModel", FakeCall(), pb.GetModelRequest(model="songs"))


def test_no_deadline_is_never(bench):
    assert list(bench().rank(request(THREE), deadline=math.inf).indices) == [1, 2, 0]
