"""Both clients' streams, against servers that are silent, stop reading, break and die."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading

import grpc
import pytest
from grpc_status import rpc_status

from ranker.client import AsyncRankerClient, RankerClient, aio_stream
from ranker.client import stream as stream_module
from ranker.errors import (
    DeadlineError,
    InternalError,
    OverloadedError,
    RankerError,
    UnavailableError,
)
from ranker.status import to_status
from ranker.v1 import ranking_pb2 as pb
from tests.client.fake_server import a_list, silent
from tests.waiting import PATIENCE


def test_a_silent_server(fake, submit_all):
    """Each request ends at its own deadline; late answers are dropped; the stream lives on."""

    def late_then_prompt(requests, _context):
        received = []
        for request in requests:
            received.append(request)
            if request.request_id == "prompt":  # which comes when the others have given up
                yield from map(fake.answer, received)

    fake.stream = late_then_prompt
    outcomes = submit_all(
        fake.target,
        [(a_list(0), {"timeout": 0.1}), (a_list(1), {"timeout": 0.2})],
        then=[(a_list(2), {"request_id": "prompt"})],
    )
    assert [type(outcome) for outcome in outcomes[:2]] == [DeadlineError, DeadlineError]
    assert outcomes[2].indices[0] == 2


def test_a_stream_to_a_server_that_says_nothing_is_closed(kind):
    """One that takes the connection, and never speaks HTTP/2."""

    def threads(target: str) -> BaseException | None:
        with RankerClient(target) as client, client.stream() as lane:
            return lane.submit(a_list(0), timeout=0.1).exception(PATIENCE)

    async def aio(target: str) -> BaseException | None:
        async with asyncio.timeout(PATIENCE), AsyncRankerClient(target) as client:
            async with client.stream() as lane:
                [error] = await asyncio.gather(
                    lane.submit(a_list(0), timeout=0.1), return_exceptions=True
                )
            return error

    with socket.create_server(("127.0.0.1", 0)) as mute:
        target = f"127.0.0.1:{mute.getsockname()[1]}"
        error = threads(target) if kind == "threads" else asyncio.run(aio(target))
    assert isinstance(error, DeadlineError)


def test_a_shorter_deadline_after_a_longer_one(fake):
    go = fake.hold_streams()
    with RankerClient(fake.target) as client, client.stream() as lane:
        long = lane.submit(a_list(0), timeout=PATIENCE)
        short = lane.submit(a_list(1), timeout=0.1)
        assert isinstance(short.exception(PATIENCE), DeadlineError)
        assert not long.done()
        go.set()
        assert long.result(PATIENCE).indices[0] == 0


def test_an_answer_at_the_last_moment(fake, monkeypatch):
    """A request is late as its answer comes, and another one has its id before that is told."""
    go, is_late, go_on = fake.hold_streams(), threading.Event(), threading.Event()

    def late(message):
        is_late.set()
        go_on.wait(PATIENCE)
        return DeadlineError(message)

    monkeypatch.setattr(stream_module, "DeadlineError", late)
    with RankerClient(fake.target, timeout=PATIENCE) as client, client.stream() as lane:
        try:
            first = lane.submit(a_list(0), request_id="x", timeout=0.2)
            assert is_late.wait(PATIENCE)
            go.set()
            assert first.result(PATIENCE).indices[0] == 0
            go.clear()
            second = lane.submit(a_list(1), request_id="x")
            go_on.set()
            third = lane.submit(a_list(2), timeout=0.1)
            assert isinstance(third.exception(PATIENCE), DeadlineError)
            assert not second.done()
        finally:
            go.set()
            go_on.set()
        assert second.result(PATIENCE).indices[0] == 1


def test_a_server_that_stops_reading(fake, submit_all):
    """Flow control holds the sender up; deadlines hold all the same. What is late stays unsent."""
    read_on = threading.Event()
    received = []

    def stuck(requests, _context):
        read_on.wait(PATIENCE)
        for request in requests:
            received.append(request.request_id)
            yield fake.answer(request)

    def last():
        read_on.set()
        yield a_list(3), {"timeout": PATIENCE, "request_id": "last"}

    fake.stream = stuck
    large = a_list(0, rows=4096, columns=64)
    try:
        outcomes = submit_all(fake.target, [(large, {"timeout": 0.3})] * 8, then=last())
    finally:
        read_on.set()
    assert [type(outcome) for outcome in outcomes[:8]] == [DeadlineError] * 8
    assert outcomes[8].indices[0] == 3
    assert received[-1] == "last"
    assert len(received) < 9


@pytest.mark.parametrize(
    ("end", "expected", "words"),
    [
        pytest.param(
            lambda context: context.abort(grpc.StatusCode.UNAVAILABLE, "draining"),
            UnavailableError,
            "draining",
            id="unavailable",
        ),
        pytest.param(
            lambda context: context.abort_with_status(
                rpc_status.to_status(to_status(OverloadedError("too many streams", 2.0)))
            ),
            OverloadedError,
            "too many streams",
            id="overloaded",
        ),
        pytest.param(
            lambda context: context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)"
            ),
            UnavailableError,
            "one of its messages: Received message larger than max (9 vs. 4)",
            id="a-message-too-large",
        ),
        pytest.param(lambda _context: None, UnavailableError, "ended the stream", id="ended"),
    ],
)
def test_a_broken_stream(fake, submit_all, end, expected, words):
    """All in flight fail with what broke it, and so do the next; none hangs."""

    def breaks(requests, context):
        first, *_others = itertools.islice(requests, 5)
        yield fake.answer(first)
        end(context)

    fake.stream = breaks
    outcomes = submit_all(fake.target, [a_list(i) for i in range(5)], then=[a_list(0), a_list(1)])
    assert outcomes[0].indices[0] == 0
    assert [type(outcome) for outcome in outcomes[1:]] == [expected] * 6
    assert all(words in outcome.message for outcome in outcomes[1:])
    assert len(set(map(id, outcomes))) == len(outcomes)


def test_a_stream_that_breaks_while_it_sends(fake, submit_all, kind):
    """What is still being sent fails too, and by nothing of the client's own making."""

    def breaks(requests, context):
        next(requests)
        context.abort_with_status(
            rpc_status.to_status(to_status(OverloadedError("too many streams", 2.0)))
        )
        yield

    fake.stream = breaks
    # grpc.aio may lose the server's status; the stream says so.
    allowed = {OverloadedError} if kind == "threads" else {OverloadedError, UnavailableError}
    for _ in range(20):
        outcomes = submit_all(fake.target, [a_list(0, rows=100, columns=64)] * 8)
        assert {type(outcome) for outcome in outcomes} <= allowed


def test_no_server(fake, submit_all):
    fake.stop()
    outcomes = submit_all(fake.target, [a_list(0)], then=[a_list(0)])
    assert [type(outcome) for outcome in outcomes] == [UnavailableError] * 2


def test_a_server_that_dies(fake, submit_all):
    def dies(requests, _context):
        next(requests)
        threading.Thread(target=fake.stop).start()
        yield from silent(requests, _context)

    fake.stream = dies
    outcomes = submit_all(fake.target, [(a_list(0), {"timeout": PATIENCE})] * 3)
    assert all(isinstance(outcome, RankerError) for outcome in outcomes)
    assert not any(isinstance(outcome, DeadlineError) for outcome in outcomes)


def test_no_room_in_time(fake, submit_all):
    fake.stream = silent
    outcomes = submit_all(
        fake.target,
        [(a_list(0), {"timeout": 0.5}), (a_list(1), {"timeout": 0.1})],
        max_in_flight=1,
    )
    assert [type(outcome) for outcome in outcomes] == [DeadlineError, DeadlineError]


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
def test_a_stream_whose_reader_fails_can_be_closed(fake, monkeypatch, kind):
    """A bug in the reader must not leave its requests, or `close`, waiting for ever."""

    def bug(_status):
        raise RuntimeError("a bug")

    def refuse(requests, _context):
        for request in requests:
            yield pb.RankResponse(request_id=request.request_id, status=pb.Status(code=5))

    async def with_asyncio() -> BaseException | None:
        async with AsyncRankerClient(fake.target, timeout=PATIENCE) as client:
            async with client.stream() as stream:
                [outcome] = await asyncio.gather(stream.submit(a_list(0)), return_exceptions=True)
            return outcome

    def with_threads() -> BaseException | None:
        with RankerClient(fake.target, timeout=PATIENCE) as client, client.stream() as stream:
            return stream.submit(a_list(0)).exception(PATIENCE)

    fake.stream = refuse
    module = stream_module if kind == "threads" else aio_stream
    real = module.from_status
    calls = iter([bug])
    monkeypatch.setattr(module, "from_status", lambda status: next(calls, real)(status))
    outcome = with_threads() if kind == "threads" else asyncio.run(with_asyncio())
    assert type(outcome) is InternalError
    assert "a bug" in str(outcome)
