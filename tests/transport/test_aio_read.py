"""No read is begun on an RPC that is over: grpc.aio would lose memory with each."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

from ranker.rpc import Handler, Method
from ranker.transport.aio import _Gate, _Router
from ranker.transport.aio_loop import Loop
from ranker.transport.awaited import Awaited
from tests.waiting import PATIENCE


class HoldsBack(Handler):
    """Wants no second message."""

    def message(self, call, data) -> bool:  # noqa: ARG002
        return False


class Context:
    """Stands in for gRPC's: there is always one more message."""

    def __init__(self) -> None:
        self.reads = 0

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def time_remaining(self) -> None:
        return None

    def add_done_callback(self, callback) -> None:
        self.done = callback

    async def read(self) -> bytes:
        self.reads += 1
        return b"message"


def test_caller_leaves_while_its_stream_is_held_back():
    loop = Loop(lambda: None, [0.0])
    methods = {"/toy/Hold": Method(HoldsBack(), request_streaming=True, response_streaming=True)}
    counts = SimpleNamespace(in_flight=[0.0], waited=[0.0], ended=lambda _: [0.0] * 17)
    room = SimpleNamespace(refusal=None, look=lambda *_: None)
    gate = _Gate({}, 10, room, Awaited(None, 100), None)
    router = _Router(loop, methods, counts, gate)

    async def scenario() -> None:
        context = Context()
        serve = router._methods["/toy/Hold"].stream_stream
        rpc = asyncio.ensure_future(serve(None, context))
        rpc.add_done_callback(lambda _: context.done(context))
        while not context.reads:
            await asyncio.sleep(0)
        rpc.cancel()  # as gRPC does when the caller has gone
        await asyncio.wait([rpc])
        await asyncio.sleep(0.05)
        assert context.reads == 1

    loop.run(asyncio.wait_for(scenario(), PATIENCE))
