"""Streams: many lists over one call, each with its own answer."""

from __future__ import annotations

import gc
import time

import pytest

from ranker.errors import Code, UnavailableError
from ranker.serving.stream import MAX_WAITING
from ranker.serving.task import RankTask
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import SumEngine
from tests.serving.support import THREE, StreamOfLists, request


class TestRankStream:
    def test_answers_are_matched_by_id(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE[:2], request_id="b"))
        answers = stream.answers()
        assert list(answers["a"].indices) == [1, 2, 0]
        assert list(answers["b"].indices) == [1, 0]
        assert not stream.call.over

    @pytest.mark.parametrize(
        ("bad", "request_id", "code"),
        [
            pytest.param(b"\xff\xff", "", Code.INVALID_ARGUMENT, id="garbage"),
            pytest.param(request(THREE), "", Code.INVALID_ARGUMENT, id="without-request-id"),
            pytest.param(
                request(THREE, request_id="x", candidate_ids=[""] * 40_000),
                "x",
                Code.INVALID_ARGUMENT,
                id="too-many-fields",
            ),
            pytest.param(
                request(THREE, request_id="x").SerializeToString() + b"\xff",
                "x",
                Code.INVALID_ARGUMENT,
                id="broken-after-the-id",
            ),
            pytest.param(
                request(THREE, request_id="x", top_k=-1),
                "x",
                Code.INVALID_ARGUMENT,
                id="invalid",
            ),
            pytest.param(
                request(THREE, request_id="x", model="songs"),
                "x",
                Code.NOT_FOUND,
                id="unknown-model",
            ),
        ],
    )
    def test_an_error_belongs_to_its_request(self, serving, bad, request_id, code):
        stream = StreamOfLists(serving())
        assert stream.send(bad)
        stream.send(request(THREE, request_id="good"))
        answers = stream.answers()
        assert answers[request_id].status.code == code
        assert list(answers["good"].indices) == [1, 2, 0]
        assert not stream.call.over

    def test_an_id_still_in_flight_is_refused(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE, request_id="a"))
        stream.serving.turn_until_idle()
        first, second = map(pb.RankResponse.FromString, stream.call.sent)
        assert first.status.code == Code.INVALID_ARGUMENT
        assert not second.HasField("status")
        stream.send(request(THREE, request_id="a"))  # free again
        assert list(stream.answers()["a"].indices) == [1, 2, 0]

    def test_it_tells_the_transport_whether_its_caller_waits_for_answers(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE))  # without an id: refused at once
        assert not stream.call.unanswered
        stream.send(request(THREE, request_id="a"))
        stream.send(request(THREE, request_id="b"))
        assert stream.call.unanswered
        stream.answers()
        assert not stream.call.unanswered

    def test_admission_learns_how_their_deadlines_turn_out(self, serving):
        stream = StreamOfLists(serving())
        learned = []
        stream.serving.intake.admission.on_end = lambda *, in_time: learned.append(in_time)
        stream.send(request(THREE, request_id="alone", deadline_ms=60_000))
        stream.answers()
        assert not learned  # nothing was ahead of it
        stream.send(request(THREE, request_id="first", deadline_ms=60_000))
        stream.send(request(THREE, request_id="patient", deadline_ms=60_000))
        stream.answers()
        assert learned == [True]
        stream.send(request(THREE, request_id="first", deadline_ms=60_000))
        stream.send(request(THREE, request_id="hurry", deadline_ms=300))
        time.sleep(0.35)
        stream.answers()
        assert learned == [True, False]

    def test_each_request_has_its_own_deadline(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE, request_id="hurry", deadline_ms=1))
        stream.send(request(THREE, request_id="patient", deadline_ms=60_000))
        time.sleep(0.005)
        answers = stream.answers()
        assert answers["hurry"].status.code == Code.DEADLINE_EXCEEDED
        assert not answers["patient"].HasField("status")

    def test_the_streams_deadline_bounds_them_all(self, serving):
        stream = StreamOfLists(serving(), deadline=time.monotonic() - 1)
        stream.send(request(THREE, request_id="a", deadline_ms=60_000))
        code = stream.answers()["a"].status.code
        assert code == Code.DEADLINE_EXCEEDED

    def test_a_bounded_number_is_in_flight(self, serving):
        stream = StreamOfLists(serving())
        wants_more = [stream.send(request(THREE, request_id=str(i))) for i in range(MAX_WAITING)]
        assert wants_more == [True] * (MAX_WAITING - 1) + [False]
        assert len(stream.answers()) == MAX_WAITING
        assert stream.call.resumed == 1

    def test_it_ends_when_all_is_answered(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE, request_id="a"))
        stream.handler.half_closed(stream.call)
        assert not stream.call.over
        stream.answers()
        assert stream.call.code is Code.OK

    def test_an_empty_stream_ends_at_once(self, serving):
        stream = StreamOfLists(serving())
        stream.handler.half_closed(stream.call)
        assert stream.call.code is Code.OK

    def test_a_closed_stream_takes_its_requests_along(self, serving):
        engine = SumEngine()
        stream = StreamOfLists(serving(engine))
        stream.send(request(THREE, request_id="a"))
        stream.handler.closed(stream.call)
        stream.serving.turn_until_idle()
        assert engine.batches == []

    def test_draining_ends_a_stream_that_has_said_nothing_yet(self, serving):
        stream = StreamOfLists(serving())
        stream.handler.opened(stream.call)
        stream.serving.service.drain()
        assert stream.call.error.code is Code.UNAVAILABLE

    def test_draining_answers_what_is_in_flight_and_refuses_the_rest(self, serving):
        stream = StreamOfLists(serving())
        stream.send(request(THREE, request_id="before"))
        stream.serving.service.drain()
        asked = stream.serving.intake.last_asked
        stream.send(request(THREE, request_id="after"))
        assert stream.serving.intake.last_asked > asked
        answers = stream.answers()
        assert list(answers["before"].indices) == [1, 2, 0]
        assert answers["after"].status.code == Code.UNAVAILABLE
        assert stream.call.code is Code.UNAVAILABLE

    def test_a_stream_refused_while_draining_is_somebody_who_asks(self, serving):
        stream = StreamOfLists(serving())
        stream.serving.service.drain()
        asked = stream.serving.intake.last_asked
        with pytest.raises(UnavailableError, match="draining"):
            stream.handler.opened(stream.call)
        assert stream.serving.intake.last_asked > asked


def answered(stream: StreamOfLists) -> None:
    stream.send(request(THREE, request_id="a"))
    assert list(stream.answers()["a"].indices) == [1, 2, 0]


def refused(stream: StreamOfLists) -> None:
    stream.send(request(THREE, request_id="a"))
    stream.send(request(THREE, request_id="b"))  # which finds the queue full
    answers = stream.answers()
    assert answers["b"].status.code == Code.RESOURCE_EXHAUSTED


def cancelled(stream: StreamOfLists) -> None:
    stream.send(request(THREE, request_id="a"))
    stream.call.code = Code.CANCELLED
    stream.handler.closed(stream.call)
    stream.serving.turn_until_idle()


@pytest.mark.parametrize("end", [answered, refused, cancelled])
def test_a_list_that_has_ended_does_not_wait_for_the_garbage_collector(serving, end):
    """It may be half a megabyte, and the collector comes seldom: a stream's fill 30 MB by then."""
    stream = StreamOfLists(serving(max_queue_rows=4))
    gc.collect()
    gc.disable()
    others = {id(task) for task in tasks()}  # that other tests have left somewhere
    try:
        end(stream)
        assert [task for task in tasks() if id(task) not in others] == []
    finally:
        gc.enable()


def tasks() -> list[RankTask]:
    """All that there are."""
    return [thing for thing in gc.get_objects() if isinstance(thing, RankTask)]
