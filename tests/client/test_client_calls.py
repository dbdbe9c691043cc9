"""Both clients' unary calls, against a server that ranks, fails or stalls on command."""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1.health_pb2 import HealthCheckResponse

from ranker.client import Explanation, RankerClient
from ranker.errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    RankerError,
    UnavailableError,
    UnimplementedError,
)
from ranker.v1 import ranking_pb2 as pb
from tests.waiting import PATIENCE, wait_until

FEATURES = np.array([[0.5, 1], [2.5, np.nan], [0.5, 3], [9.5, 4]], dtype=np.float32)
DEFAULT_TIMEOUT = inspect.signature(RankerClient).parameters["timeout"].default
LABELS = {"7": "stable", "8": "canary"}
BEST_FIRST = [3, 1, 0, 2]  # the two 0.5 keep their order


def rank(client, **options):
    return client.rank(FEATURES, **options)


def test_ranking(fake, run):
    ranking = run(fake.target, lambda client: rank(client, request_id="r1"))
    assert ranking.indices.dtype == np.int32
    assert ranking.indices.tolist() == BEST_FIRST
    assert ranking.scores.dtype == np.float32
    assert ranking.scores.tolist() == [9.5, 2.5, 0.5, 0.5]
    assert ranking.ids == ()
    assert (ranking.model, ranking.version, ranking.request_id) == ("fake", "7", "r1")
    assert (ranking.timing.queue_us, ranking.timing.scoring_us, ranking.timing.total_us) == (
        1,
        2,
        4,
    )


def test_a_ranking_tells_its_version_and_the_label_that_chose_it(fake, run_all):
    fake.models = [pb.Model(name="fake", version=v, labels=[label]) for v, label in LABELS.items()]
    fake.arms = {"reader-1": "canary"}
    options = [{}, {"unit": "reader-1"}, {"model_version": "@canary"}, {"model_version": "8"}]
    rankings = run_all(fake.target, [lambda client, o=o: rank(client, **o) for o in options])
    found = [(ranking.version, ranking.arm) for ranking in rankings]
    assert found == [("7", ""), ("8", "canary"), ("8", "canary"), ("8", "")]


def test_top_k_and_ids(fake, run):
    options = {"top_k": 2, "candidate_ids": ["a", "b", "c", "d"]}
    ranking = run(fake.target, lambda client: rank(client, **options))
    assert ranking.indices.tolist() == BEST_FIRST[:2]
    assert ranking.ids == ("d", "b")


def test_explanations(fake, run):
    names = ["relevance", "freshness"]
    ranking = run(fake.target, lambda c: rank(c, explain=2, feature_names=names))
    assert len(ranking.explanations) == 2
    first = ranking.explanations[0]
    assert first.feature_names == ("relevance", "freshness")
    np.testing.assert_array_equal(first.contributions, FEATURES[BEST_FIRST[0]])
    assert first.contributions.dtype == np.float32
    assert first.bias == 0.25
    assert run(fake.target, rank).explanations == ()


def test_what_moved_a_candidate_most_comes_first():
    values = np.array([0.5, -2.0, 0.0, 0.5], np.float32)
    named = Explanation(0.0, values, ("a", "b", "c", "d"))
    assert list(named.strongest(5).items()) == [("b", -2.0), ("a", 0.5), ("d", 0.5)]
    assert list(Explanation(0.0, values, ()).strongest(2)) == ["f1", "f0"]


def test_what_is_sent(fake, run):
    run(
        fake.target,
        lambda client: rank(
            client,
            top_k=3,
            feature_names=["relevance", "freshness"],
            context={"reader_age": 31.5, "mood": float("nan")},
            candidate_ids=["a", "b", "c", "d"],
            model="books",
            model_version="3",
            unit="reader-7",
            explain=2,
            request_id="r2",
        ),
    )
    request = fake.attempts[0].request
    assert request.candidates == pb.Matrix(
        rows=4, columns=2, data_type=pb.DATA_TYPE_FLOAT32, data=FEATURES.tobytes()
    )
    assert list(request.feature_names) == ["relevance", "freshness"]
    assert list(request.context.feature_names) == ["reader_age", "mood"]
    np.testing.assert_array_equal(request.context.values, [31.5, np.nan])
    assert list(request.candidate_ids) == ["a", "b", "c", "d"]
    assert (request.model, request.model_version, request.request_id) == ("books", "3", "r2")
    assert (request.top_k, request.unit, request.explain) == (3, "reader-7", 2)


def test_nothing_is_sent_that_was_not_given(fake, run):
    run(fake.target, rank)
    request = fake.attempts[0].request
    assert [field.name for field, _ in request.ListFields()] == ["candidates"]


@pytest.mark.parametrize(
    ("client_options", "call_options", "seconds"),
    [
        pytest.param({"timeout": DEFAULT_TIMEOUT}, {}, 1.0, id="by default one second"),
        pytest.param({"timeout": 5.0}, {}, 5.0, id="the client's"),
        pytest.param({"timeout": 5.0}, {"timeout": 2.0}, 2.0, id="the call's"),
        pytest.param({"timeout": 5.0}, {"timeout": None}, 5.0, id="None is the client's"),
    ],
)
def test_every_call_has_a_deadline(fake, run, client_options, call_options, seconds):
    def arrives() -> bool:
        """Whether a call has come in time to tell; a busy machine may take seconds for one."""
        with contextlib.suppress(DeadlineError):
            run(fake.target, lambda client: rank(client, **call_options), **client_options)
        return any(attempt.seconds_left > seconds / 2 for attempt in fake.attempts)

    wait_until(arrives)
    assert max(attempt.seconds_left for attempt in fake.attempts) <= seconds + 0.05


@pytest.mark.parametrize("timeout", [0, -0.1], ids=str)
def test_no_time_left(fake, run, timeout):
    with pytest.raises(DeadlineError, match="no time left"):
        run(fake.target, lambda client: rank(client, timeout=timeout))
    assert not fake.attempts


@pytest.mark.parametrize("timeout", [float("nan"), float("inf"), 1e6], ids=str)
def test_a_timeout_that_is_none(fake, run, timeout):
    with pytest.raises(InvalidRequestError, match="timeout"):
        run(fake.target, lambda client: rank(client, timeout=timeout))


def test_slow_server(fake, run):
    release = threading.Event()
    fake.steps.append(lambda _context: release.wait(PATIENCE))
    try:
        with pytest.raises(DeadlineError):
            run(fake.target, lambda client: rank(client, timeout=0.2))
    finally:
        release.set()


@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize(
    "error",
    [
        pytest.param(UnavailableError("draining"), id="unavailable"),
        pytest.param(CancelledError(""), id="cancelled-by-the-server"),
    ],
)
def test_what_no_server_has_looked_at_is_sent_again(fake, run, error, failures):
    fake.fail(error, times=failures)
    ranking = run(fake.target, rank)
    assert ranking.indices.tolist() == BEST_FIRST
    assert len(fake.attempts) == 1 + failures


def test_retries_end_with_the_deadline(fake, run):
    fake.fail(UnavailableError("draining"), times=1000)
    # The last attempt may have too little time left on a busy machine.
    with pytest.raises((UnavailableError, DeadlineError), match=r"draining$"):
        run(fake.target, lambda client: rank(client, timeout=6.0))
    assert 3 < len(fake.attempts) < 50


def test_a_server_that_is_away_for_a_while_is_waited_for(fake, run):
    fake.stop()
    back = threading.Timer(0.7, fake.start)
    back.start()
    try:
        ranking = run(fake.target, lambda client: rank(client, timeout=PATIENCE))
    finally:
        back.join()
    assert ranking.indices.tolist() == BEST_FIRST


def test_a_retry_goes_to_another_connection(fake, run_all):
    fake.fail(UnavailableError("draining"))
    run_all(fake.target, [rank], channels=2)
    first, second = fake.attempts
    assert first.peer != second.peer


def test_a_large_request_is_retried_too(fake, run):
    fake.fail(UnavailableError("draining"))
    large = np.zeros((4096, 64), dtype=np.float32)  # 1 MiB
    ranking = run(fake.target, lambda client: client.rank(large, top_k=1))
    assert ranking.indices.tolist() == [0]
    assert len(fake.attempts) == 2


def test_overload_is_retried_when_the_server_says_so(fake, run):
    fake.overloaded(pushback="100")
    started = time.monotonic()
    run(fake.target, rank)
    assert len(fake.attempts) == 2
    assert time.monotonic() - started >= 0.1


def test_overload_is_not_retried_when_the_server_says_so(fake, run):
    fake.overloaded(pushback="-1")
    with pytest.raises(OverloadedError, match=r"^queue is full$") as raised:
        run(fake.target, rank)
    assert raised.value.retry_after == 0.25
    assert len(fake.attempts) == 1


def test_no_retry_outlives_the_deadline(fake, run):
    fake.overloaded(pushback="60000")
    started = time.monotonic()
    with pytest.raises(DeadlineError):
        run(fake.target, lambda client: rank(client, timeout=5.0))
    assert time.monotonic() - started < 50  # the server says 60
    assert len(fake.attempts) == 1


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NotFoundError("no model 'x'"), id="not found"),
        pytest.param(InternalError("incident 7"), id="internal"),
        pytest.param(RankerError("who knows"), id="unknown"),
    ],
)
def test_other_errors_are_not_retried(fake, run, error):
    fake.fail(error)
    with pytest.raises(RankerError) as raised:
        run(fake.target, rank)
    assert type(raised.value) is type(error)
    assert raised.value.message == error.message
    assert len(fake.attempts) == 1


def test_a_bad_request_names_its_field(fake, run):
    fake.fail(InvalidRequestError("feature_names", "'oops' is no feature of the model"))
    with pytest.raises(InvalidRequestError) as raised:
        run(fake.target, rank)
    assert raised.value.field == "feature_names"
    assert raised.value.description == "'oops' is no feature of the model"
    assert str(raised.value) == "feature_names: 'oops' is no feature of the model"
    assert len(fake.attempts) == 1


def test_no_server(fake, run):
    fake.stop()
    with pytest.raises((UnavailableError, DeadlineError), match="refused"):
        run(fake.target, lambda client: rank(client, timeout=5.0))


def test_a_call_whose_time_runs_out_says_why_it_was_made_again(fake, run):
    release = threading.Event()
    fake.fail(UnavailableError("draining"))
    fake.steps.append(lambda _context: release.wait(PATIENCE))
    with pytest.raises(DeadlineError, match=r"Deadline Exceeded; .* ended with: draining$"):
        run(fake.target, lambda client: rank(client, timeout=5.0))
    release.set()


def test_channels_are_connections_and_take_turns(fake, run_all):
    run_all(fake.target, [rank] * 8, channels=4)
    assert sorted(Counter(attempt.peer for attempt in fake.attempts).values()) == [2, 2, 2, 2]


def test_no_channels(fake, run_all):
    with pytest.raises(ValueError, match="at least 1"):
        run_all(fake.target, [rank], channels=0)


def test_all_addresses_take_turns_and_one_may_go(fake, run_all, another_fake):
    """No request fails when one of two servers stops without a word."""

    def stop_one(client):
        another_fake.stop()
        return rank(client)

    give_up = time.monotonic() + PATIENCE

    def actions():
        while not another_fake.attempts and time.monotonic() < give_up:
            yield rank
        yield stop_one
        yield from [rank] * 50

    rankings = run_all(f"ipv4:{fake.target},{another_fake.target}", actions())
    assert all(ranking.indices.tolist() == BEST_FIRST for ranking in rankings)
    assert another_fake.attempts
    assert len(fake.attempts) >= 50


def test_a_server_that_comes_back_is_found(fake, run_all):
    def restart(client):
        fake.stop()
        fake.start()
        return client.wait_ready(PATIENCE)

    run_all(fake.target, [rank, restart, rank])
    assert len(fake.attempts) == 2


def test_get_model(fake, run_all):
    by_default, by_name = run_all(
        fake.target, [lambda client: client.get_model(), lambda client: client.get_model("fake")]
    )
    assert by_default == by_name
    assert list(by_default.feature_names) == ["relevance", "freshness", "reader_age"]


def test_get_model_that_is_not_there(fake, run):
    with pytest.raises(NotFoundError, match="no model 'x'"):
        run(fake.target, lambda client: client.get_model("x"))


def test_list_models(fake, run):
    models = run(fake.target, lambda client: client.list_models())
    assert [model.name for model in models] == ["fake"]


def test_wait_ready_until_serving(fake, run):
    fake.health.set("", HealthCheckResponse.NOT_SERVING)
    later = threading.Timer(0.2, fake.health.set, ("", HealthCheckResponse.SERVING))
    started = time.monotonic()
    later.start()
    run(fake.target, lambda client: client.wait_ready(PATIENCE), channels=2)
    assert time.monotonic() - started >= 0.15
    later.join()


def test_wait_ready_for_a_server_that_starts_later(fake, run):
    fake.stop()
    later = threading.Timer(0.2, fake.start)
    later.start()
    run(fake.target, lambda client: client.wait_ready(PATIENCE))
    later.join()


@pytest.mark.parametrize("trouble", ["not serving", "not there"])
def test_wait_ready_ends(fake, run, trouble):
    if trouble == "not serving":
        fake.health.set("", HealthCheckResponse.NOT_SERVING)
    else:
        fake.stop()
    with pytest.raises(DeadlineError, match=r"is not serving after 0\.3 s"):
        run(fake.target, lambda client: client.wait_ready(0.3))


def test_wait_ready_without_a_health_service(run, bare_server):
    with pytest.raises(UnimplementedError):
        run(bare_server, lambda client: client.wait_ready(PATIENCE))


@pytest.fixture
def another_fake(fake):
    server = type(fake)()
    yield server
    server.stop()


@pytest.fixture
def bare_server():
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=None).wait()
