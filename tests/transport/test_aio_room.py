"""Calls whose messages are on their way leave no room for others, on `aio`."""

from __future__ import annotations

import asyncio
import gc
from types import SimpleNamespace

import grpc
import pytest

from ranker.errors import OverloadedError
from ranker.rpc import Handler, Method
from ranker.transport.aio import _Gate, _Router
from ranker.transport.aio_call import AioCall
from ranker.transport.aio_loop import Loop
from ranker.transport.awaited import Awaited
from tests.waiting import PATIENCE

LONGEST = 100


class Echo(Handler):
    """Answers with what came; a call without metadata is not wanted."""

    def opened(self, call) -> bool:
        if not call.metadata:
            call.finish(b"not wanted")
        return bool(call.metadata)

    def refused(self, call, error) -> None:
        call.fail(error)

    def message(self, call, data) -> bool:
        call.finish(data)
        return False


class Context:
    """Stands in for gRPC's: its message comes when the test says so."""

    def __init__(self, wanted: bool = True) -> None:
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.is_read = False
        self.code: grpc.StatusCode | None = None
        self._metadata = (("wanted", "1"),) if wanted else ()

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata

    def time_remaining(self) -> None:
        return None

    def peer(self) -> str:
        return "ipv4:10.0.0.1:1"

    def add_done_callback(self, callback) -> None:
        self.done = callback

    def end(self) -> None:
        self.done(self)
        if self.is_read and not self.message.done():
            self.message.set_exception(grpc.aio.UsageError())

    async def read(self) -> bytes:
        self.is_read = True
        return await self.message

    async def abort(self, code, *_: object) -> None:
        if self.code is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self.code = code
        raise asyncio.CancelledError


@pytest.fixture
def gate() -> _Gate:
    guard = SimpleNamespace(
        bytes_left=2 * LONGEST, brings_little=lambda _: False, close=lambda _: None
    )
    room = SimpleNamespace(refusal=None, look=lambda *_: None)
    return _Gate({}, 10, room, Awaited(guard, LONGEST), guard)


def run(gate: _Gate, scenario) -> None:
    """Runs a scenario, which gets what begins a call."""
    loop = Loop(lambda: None, [0.0])
    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    router = _Router(loop, {"/toy/Echo": Method(Echo())}, counts, gate)
    serve = router._methods["/toy/Echo"].stream_unary

    def begin(context: Context) -> asyncio.Future[bytes]:
        rpc = asyncio.ensure_future(serve(None, context))
        rpc.add_done_callback(lambda _: context.end())
        return rpc

    loop.run(asyncio.wait_for(scenario(begin), PATIENCE))


def test_a_call_is_refused_while_another_awaits_its_message(gate):
    async def scenario(begin) -> None:
        first, second = Context(), Context()
        answer = begin(first)
        await asyncio.wait([begin(second)])
        assert second.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        first.message.set_result(b"x" * 10)
        assert await answer == b"x" * 10
        # As short ones are expected from now on.
        others = [Context(), Context()]
        answers = [begin(each) for each in others]
        await asyncio.sleep(0.01)
        for each in others:
            each.message.set_result(b"y")
        assert await asyncio.gather(*answers) == [b"y"] * 2

    run(gate, scenario)


def test_a_call_that_ends_leaves_its_room(gate):
    async def scenario(begin) -> None:
        for _ in range(3):
            gone = begin(Context())
            await asyncio.sleep(0.01)
            gone.cancel()  # as gRPC does when the caller has gone
            await asyncio.wait([gone])
        left = Context()
        left.message.set_result(b"x")
        assert await begin(left) == b"x"

    run(gate, scenario)


def test_a_call_that_is_not_wanted_takes_no_room(gate):
    async def scenario(begin) -> None:
        first, unwanted = Context(wanted=False), Context(wanted=False)
        begun = [begin(first), begin(unwanted)]
        read = Context()
        read.message.set_result(b"x")
        assert await begin(read) == b"x"
        assert [await each for each in begun] == [b"not wanted"] * 2

    run(gate, scenario)


def test_a_refusal_that_waits_to_be_sent_keeps_no_frames():
    def refuse() -> None:
        raise OverloadedError("too much", 1.0)

    async def scenario() -> None:
        call = AioCall(loop, "/toy/Echo", Context(), streaming=False)
        with pytest.raises(OverloadedError) as raised:
            refuse()
        call.fail(raised.value)
        assert raised.value.__traceback__ is None

    loop = Loop(lambda: None, [0.0])
    loop.run(scenario())


def test_a_call_whose_message_does_not_come_can_be_ended(gate):
    """Its coroutine reads, and can't end it by itself."""

    async def scenario(begin) -> None:
        context = Context()
        rpc = begin(context)
        await asyncio.sleep(0.01)
        [call] = gate.calls
        assert call.awaits_message()
        call.evict(OverloadedError("no room", 1.0))
        await asyncio.sleep(0.01)
        assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        context.message.set_exception(grpc.aio.AbortError())  # as gRPC does with what it aborts
        await asyncio.wait([rpc])
        assert call.code is OverloadedError.code
        assert not gate.calls

    run(gate, scenario)


def test_a_call_that_is_ended_just_as_its_message_comes(gate, caplog):
    async def scenario(begin) -> None:
        context = Context()
        rpc = begin(context)
        await asyncio.sleep(0.01)
        [call] = gate.calls
        context.message.set_result(b"message")
        call.evict(OverloadedError("no room", 1.0))
        await asyncio.wait([rpc])
        await asyncio.sleep(0.01)
        assert context.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not call.heard

    run(gate, scenario)
    gc.collect()  # of a task that failed asyncio tells when it is gone
    assert not caplog.records


def test_a_call_whose_metadata_may_not_be_is_not_read(gate):
    async def scenario(begin) -> None:
        context = Context()
        context._metadata = (("large", "x" * 20_000),)
        await asyncio.wait([begin(context)])
        assert context.code is grpc.StatusCode.INVALID_ARGUMENT
        assert not context.is_read

    run(gate, scenario)


def test_a_stream_whose_caller_waits_for_answers_does_not_stand_still():
    async def scenario() -> None:
        call = AioCall(SimpleNamespace(), "", Context(), streaming=True)
        call.reading = True
        assert call.stands_still()
        call.unanswered = True
        assert not call.stands_still()

    asyncio.run(scenario())


class Chat(Echo):
    """Takes all messages of a stream, and answers none."""

    def message(self, call, data) -> bool:  # noqa: ARG002
        return True

    def half_closed(self, call) -> None:
        call.finish()


class StreamContext(Context):
    """A stream of three messages."""

    def __init__(self) -> None:
        super().__init__()
        self.left = [b"1", b"2", b"3", grpc.aio.EOF]

    async def read(self) -> bytes:
        return self.left.pop(0)


@pytest.mark.parametrize(
    "little", [pytest.param(False, id="much"), pytest.param(True, id="little")]
)
def test_while_memory_is_short_only_streams_that_bring_little_are_read(gate, monkeypatch, little):
    monkeypatch.setattr("ranker.transport.aio._LOOK_SECONDS", 0.001)
    gate._guard.short, gate._guard.brings_little = True, lambda _: little
    method = Method(Chat(), request_streaming=True, response_streaming=True)

    async def scenario() -> None:
        context = StreamContext()
        rpc = asyncio.ensure_future(serve(None, context))
        await asyncio.sleep(0.05)
        assert len(context.left) == (0 if little else 3)  # one is read before it is known
        gate._guard.short = False
        await rpc
        assert not context.left
        context.end()

    loop = Loop(lambda: None, [0.0])
    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    serve = _Router(loop, {"/toy/Chat": method}, counts, gate)._methods["/toy/Chat"].stream_stream
    loop.run(asyncio.wait_for(scenario(), PATIENCE))
