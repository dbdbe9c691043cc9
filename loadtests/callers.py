"""How encoded requests reach a server and come back as statuses: by call or by stream."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, Protocol, Self

import grpc

from loadtests.traffic import Request
from ranker.client import channel as wire
from ranker.v1 import ranking_pb2 as pb

_NAMES = {code.value[0]: code.name for code in grpc.StatusCode}


class Caller(Protocol):
    """Asks a server, any number of times at once. An asynchronous context manager."""

    async def ask(self, request: Request) -> str:
        """Sends a request and waits for its answer.

        Returns:
            The name of the answer's gRPC status.
        """

    async def __aenter__(self) -> Self:
        """Connects."""

    async def __aexit__(self, *raised: object) -> None:
        """Disconnects."""


class UnaryCaller:
    """Calls `Rank`, over one connection."""

    def __init__(self, target: str) -> None:
        self._channel: Any = grpc.aio.insecure_channel(target, options=wire.OPTIONS)
        self._rank = self._channel.unary_unary(wire.RANK[0], None, None)

    async def ask(self, request: Request) -> str:
        """Makes one call."""
        try:
            await self._rank(request.message, timeout=request.timeout)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def __aenter__(self) -> Self:
        """Itself."""
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Closes the connection."""
        await self._channel.close()


class StreamCaller:
    """Sends over one `RankStream`, which costs both sides less. A broken one stays broken."""

    def __init__(self, target: str) -> None:
        self._channel: Any = grpc.aio.insecure_channel(target, options=wire.OPTIONS)
        self._ids = map(str, itertools.count())
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._unsent: asyncio.Queue[bytes] = asyncio.Queue()
        self._end = ""

    async def ask(self, request: Request) -> str:
        """Sends one message and waits for the one with its id."""
        if self._end:
            return self._end
        request_id = next(self._ids)
        future = self._waiting[request_id] = asyncio.get_running_loop().create_future()
        self._unsent.put_nowait(request.on_stream(request_id))
        try:
            async with asyncio.timeout(request.timeout):
                return str(await future)
        except TimeoutError:
            return grpc.StatusCode.DEADLINE_EXCEEDED.name
        finally:
            del self._waiting[request_id]

    async def __aenter__(self) -> Self:
        """Opens the stream."""
        self._call = self._channel.stream_stream(
            wire.RANK_STREAM[0], response_deserializer=pb.RankResponse.FromString
        )()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._read())]
        return self

    async def __aexit__(self, *raised: object) -> None:
        """Ends the stream."""
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _write(self) -> None:
        while not self._end:
            try:
                await self._call.write(await self._unsent.get())
            except (grpc.RpcError, asyncio.InvalidStateError):
                return  # the stream is over; the reader learns why

    async def _read(self) -> None:
        end = grpc.StatusCode.UNAVAILABLE.name
        try:
            async for response in self._call:
                self._answered(response.request_id, _NAMES[response.status.code])
        except grpc.aio.AioRpcError as error:
            end = error.code().name
        self._end = end
        for request_id in self._waiting:
            self._answered(request_id, end)

    def _answered(self, request_id: str, status: str) -> None:
        future = self._waiting.get(request_id)
        if future is not None and not future.done():  # else its caller has stopped waiting
            future.set_result(status)


CALLERS: dict[str, Callable[[str], Caller]] = {"unary": UnaryCaller, "stream": StreamCaller}
