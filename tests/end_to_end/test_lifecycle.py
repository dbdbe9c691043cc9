"""Servers come and go: none is met before it is ready, and what a leaving one still answers."""

from __future__ import annotations

import signal
import threading

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from ranker.client import RankerClient
from ranker.client.request import rank_request
from ranker.errors import DeadlineError, RankerError, UnavailableError
from tests.end_to_end.broken_server import LARGE, LOST, STUCK
from tests.end_to_end.conftest import Broken, RunningServer, on_both_transports
from tests.office.support import ask as ask_http
from tests.waiting import PATIENCE, wait_until


def asked(channel: grpc.Channel, rows: np.ndarray) -> grpc.Future:
    """A call that has begun. Our client would make it again, until its deadline."""
    return channel.unary_unary("/ranker.v1.RankingService/Rank").future(
        rank_request(rows), timeout=60.0
    )


@on_both_transports
def test_draining_finishes_what_is_in_flight_and_takes_nothing_new(start, truth):
    server = start("--max-batch-delay", "600")  # so that there is something in flight
    rows = truth.rows[:20]
    answers: list[object] = []

    def ask() -> None:
        try:
            answers.append(client.rank(rows, timeout=30.0).indices.tolist())
        except RankerError as error:
            answers.append(error)

    with (
        RankerClient(server.address, timeout=PATIENCE) as client,
        grpc.insecure_channel(server.address) as channel,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        threads = [threading.Thread(target=ask) for _ in range(5)]
        for thread in threads:
            thread.start()
        wait_until(lambda: server.metric("ranker_queue_rows") == 100)
        assert ask_http(server.http_port, "/readyz").status == 200
        server.signal(signal.SIGTERM)
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        for thread in threads:
            thread.join()
        expected = np.argsort(-truth.scores(rows), kind="stable").tolist()
        assert answers == [expected] * 5
        assert server.process.wait(60) == 0
        with pytest.raises((UnavailableError, DeadlineError)):  # whichever attempt is the last
            client.rank(truth.rows[:3], timeout=1.0)


def test_a_second_signal_does_not_wait(start, truth):
    server = start("--drain-timeout", "600", kind=Broken)
    rows = truth.rows[:LARGE].copy()
    rows[0, 0] = STUCK
    with grpc.insecure_channel(server.address) as channel:
        call = asked(channel, rows)
        server.wait_for_log("the engine is stuck")
        server.signal()
        server.wait_for_log("draining")
        server.signal()
        server.process.wait(30)
        assert call.code() is grpc.StatusCode.UNAVAILABLE


def test_a_draining_server_waits_for_no_company(start, truth):
    server = start("--max-batch-delay", "600", "--drain-timeout", "600")
    with grpc.insecure_channel(server.address) as channel:
        left, waits = asked(channel, truth.rows[:3]), asked(channel, truth.rows[:4])
        wait_until(lambda: server.metric("ranker_queue_rows") == 7)
        left.cancel()
        server.signal()
        assert waits.code() is grpc.StatusCode.OK
    assert server.process.wait(30) == 0


def test_an_engine_that_is_lost_after_sigterm_does_not_ask_for_another_process(start, truth):
    server = start("--max-batch-delay", "600", kind=Broken)  # until the signal comes
    rows = truth.rows[:3].copy()
    rows[0, 0] = LOST
    with grpc.insecure_channel(server.address) as channel:
        call = asked(channel, rows)
        wait_until(lambda: server.metric("ranker_queue_rows") == 3)
        server.signal(signal.SIGTERM)
        assert call.code() is grpc.StatusCode.UNAVAILABLE
        assert server.process.wait(30) == 0
    server.wait_for_log("(?s)SIGTERM: draining.*a GPU that fell off the bus.*drained")


def test_a_server_whose_engine_is_stuck_ends_all_the_same(start, truth):
    server = start("--drain-timeout", "1", kind=Broken)
    rows = truth.rows[:LARGE].copy()
    rows[0, 0] = STUCK
    with grpc.insecure_channel(server.address) as channel:
        call = asked(channel, rows)
        server.wait_for_log("the engine is stuck")
        server.signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        assert call.code() is grpc.StatusCode.UNAVAILABLE
    server.wait_for_log("ending with requests unanswered")


class Unasked(RunningServer):
    """A server that listens, and has been asked nothing yet."""

    def wait_ready(self) -> None:
        pass


@pytest.mark.parametrize("workers", ["1", "2"])
def test_nobody_meets_a_cold_worker(start, workers):
    server = start("--workers", workers, kind=Unasked)
    for _ in range(20):
        own = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(server.address, own) as channel:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
