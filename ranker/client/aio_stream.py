"""Many requests over one call, for asyncio."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict
from typing import Any, Self, Unpack

import grpc
from google.rpc import status_pb2

from ranker.client.question import AsyncWriter, Question, changed
from ranker.client.ranking import Ranking
from ranker.client.request import RankOptions, checked_timeout, with_deadline
from ranker.client.stream import CLOSE_GRACE, end_of, in_use
from ranker.errors import (
    CancelledError,
    DeadlineError,
    InternalError,
    RankerError,
    UnavailableError,
)
from ranker.frames import Features
from ranker.status import from_status, to_status
from ranker.v1 import ranking_pb2

OVERWRITTEN = "Internal error from Core"
"""What grpc.aio puts in place of the server's status if it comes while a
message is being written: https://github.com/grpc/grpc/issues/36066."""


class _InFlight:
    """A request on its way, and whether the server has answered it."""

    def __init__(self) -> None:
        self.future: asyncio.Future[Ranking] = asyncio.get_running_loop().create_future()
        self.answered = False


class AsyncRankStream:
    """Ranks many lists over one call; answers come as they finish, in any order.

        async with client.stream() as stream:
            rankings = await asyncio.gather(
                *(stream.submit(features, top_k=10) for features in lists)
            )

    What `RankStream` says of errors, of a broken stream and of reopening holds here too.
    """

    def __init__(
        self,
        call: grpc.aio.StreamStreamCall[bytes, ranking_pb2.RankResponse],
        writer: AsyncWriter,
        timeout: float,
        max_in_flight: int,
    ) -> None:
        """Takes an open call; `AsyncRankerClient.stream` calls this.

        Args:
            call: a call of `RankStream`.
            writer: writes the requests.
            timeout: the seconds that a request may take, unless it says otherwise.
            max_in_flight: how many requests may wait for their answers; one
                more waits in `submit`.
        """
        self._call = call
        self._writer = writer
        self._timeout = timeout
        self._slots = asyncio.Semaphore(max_in_flight)
        # Without those that somebody else has given to a request that is not answered.
        self._made_up_ids = filter(self._is_free, map(str, itertools.count(1)))
        self._in_flight: dict[str, _InFlight] = {}
        self._given_up: set[str] = set()  # ids whose answers nobody waits for, and which may come
        # With the time that each request's caller stops waiting, and its id if that is made up.
        self._unsent: OrderedDict[str, tuple[bytes, float, str]] = OrderedDict()
        self._work = asyncio.Event()
        self._closing = False
        self._end: status_pb2.Status | None = None
        self._reading = asyncio.create_task(self._read())
        self._writing = asyncio.create_task(self._write())

    async def submit(
        self, features: Features, *, timeout: float | None = None, **options: Unpack[RankOptions]
    ) -> Ranking:
        """Sends a request and waits for its answer; cancel it to stop waiting.

        Args:
            features: as for `RankerClient.rank`.
            timeout: the seconds until the answer, waiting for others included;
                None for the client's own.
            **options: see `RankOptions`.

        Raises:
            DeadlineError: the answer did not come in time.
            InvalidRequestError: the request can't be sent, or does not suit the model.
            RankerError: of the class that says what else went wrong with it, or
                with the stream.
        """
        seconds = checked_timeout(self._timeout if timeout is None else timeout)
        deadline = time.monotonic() + seconds
        given_id = options.get("request_id")
        question = Question(features, options)
        message, known = await self._writer.write(question, deadline)
        try:
            async with asyncio.timeout(deadline - time.monotonic()), self._slots:
                if self._closing:
                    raise UnavailableError("the stream is closed")
                if self._end is not None:
                    raise from_status(self._end)
                if given_id and not self._is_free(given_id):
                    raise in_use(given_id)
                made_up_id = "" if given_id else next(self._made_up_ids)
                request_id = given_id or made_up_id
                entry = self._in_flight[request_id] = _InFlight()
                self._unsent[request_id] = message, deadline, made_up_id
                self._work.set()
                try:
                    ranking = await entry.future
                finally:
                    del self._in_flight[request_id]
                    unsent = self._unsent.pop(request_id, None)
                    if unsent is None and not entry.answered:
                        self._given_up.add(request_id)
        except TimeoutError:
            raise DeadlineError("the deadline passed before the answer came") from None
        if await self._writer.other(question, known, ranking, deadline) is not None:
            raise changed(known, ranking)
        return ranking

    async def close(self) -> None:
        """Waits for the requests in flight, each within its own deadline, and ends the stream."""
        self._closing = True
        self._work.set()
        if self._in_flight:
            await asyncio.wait([each.future for each in self._in_flight.values()])
        await asyncio.wait([self._reading], timeout=CLOSE_GRACE)
        self._call.cancel()
        self._writing.cancel()  # grpc.aio's write waits for the connection even so
        await asyncio.wait([self._reading, self._writing])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.close()

    def _is_free(self, request_id: str) -> bool:
        return request_id not in self._in_flight and request_id not in self._given_up

    async def _write(self) -> None:
        """Sends what is unsent.

        A task of its own, because a write that is cancelled ends the whole
        call, and flow control may hold up a write for longer than its request's
        caller waits.
        """
        try:
            while self._end is None:
                if self._unsent:
                    _, (message, deadline, made_up_id) = self._unsent.popitem(last=False)
                    left = deadline - time.monotonic()
                    await self._call.write(with_deadline(message, left, made_up_id))
                elif self._closing:
                    await self._call.done_writing()
                    return
                else:
                    self._work.clear()
                    await self._work.wait()
        except (grpc.RpcError, asyncio.InvalidStateError, asyncio.CancelledError):
            return  # the call is over; the reader learns why

    async def _read(self) -> None:
        """Hands out the answers until the stream ends."""
        try:
            async for response in self._call:
                self._answer(response)
            end: RankerError = UnavailableError("the server ended the stream")
        except grpc.aio.AioRpcError as error:
            end = end_of(error)
            if error.details() == OVERWRITTEN:
                end = UnavailableError(
                    "the stream ended while a request was being sent; grpc.aio lost the reason"
                )
        except asyncio.CancelledError:
            # So grpc.aio calls the end of a call that was cancelled on this side: by the client as
            # it closes, or by close(), which leaves no request in flight.
            end = CancelledError("the client was closed before the answer came")
        except Exception as error:  # whatever it is: others wait for this task
            end = InternalError(f"an answer can't be read: {error!r}")
        self._end = to_status(end)
        self._work.set()
        for entry in self._in_flight.values():
            if not entry.future.done():
                entry.future.set_exception(from_status(self._end))

    def _answer(self, response: Any) -> None:
        entry = self._in_flight.get(response.request_id)
        if entry is None:
            self._given_up.discard(response.request_id)
            return
        entry.answered = True
        future = entry.future
        if future.done():
            return  # its caller has just stopped waiting
        if response.status.code:
            future.set_exception(from_status(response.status))
        else:
            future.set_result(Ranking.from_response(response))
