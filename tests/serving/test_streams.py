"""Streams: many lists over one call, each with its own answer."""

from __future__ import annotations

import gc
import time

import grpc
import pytest

from ranker.errors import UnavailableError
from ranker.serving.dispatcher import ScoringJob
from ranker.serving.services import STREAM_IN_FLIGHT
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import SumEngine
from tests.serving.conftest import THREE, Stream, request


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
