"""A closed-loop load: so many requests in flight, each answer followed by the next request."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import grpc.aio
import numpy as np

RANK = "/ranker.v1.RankingService/Rank"
RANK_STREAM = "/ranker.v1.RankingService/RankStream"

Check = Callable[[int, bytes], None]
"""Is given a request's position and its answer; raises if the answer is wrong."""


@dataclass
class Load:
    """What came of a load.

    Attributes:
        seconds: how long it lasted.
        latencies: seconds per answered request.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def requests(self) -> int:
        """How many were answered."""
        return len(self.latencies)

    def percentile(self, q: float) -> float:
        """A percentile of the latency, in seconds."""
        return float(np.percentile(self.latencies, q))


def run(
    address: str,
    requests: Sequence[bytes],
    *,
    concurrency: int,
    seconds: float,
    check: Check,
    streaming: bool = False,
    check_every: int = 50,
) -> Load:
    """Sends requests in rotation for so many seconds, and waits for the last answers.

    Args:
        address: the server.
        requests: encoded RankRequests; on a stream, each must carry its position
            as its `request_id`.
        concurrency: how many are in flight.
        seconds: for how long new ones are sent.
        check: called for one in `check_every` answers.
        streaming: over one `RankStream` call instead of unary ones.
        check_every: see `check`.
    """
    drive = _stream if streaming else _unary
    return asyncio.run(drive(address, requests, concurrency, seconds, check, check_every))


async def _unary(
    address: str,
    requests: Sequence[bytes],
    concurrency: int,
    seconds: float,
    check: Check,
    check_every: int,
) -> Load:
    load = Load()
    positions: Iterator[int] = itertools.cycle(range(len(requests)))
    async with grpc.aio.insecure_channel(address) as channel:
        rank: Any = channel.unary_unary(RANK, None, None)
        began = time.monotonic()

        async def caller() -> None:
            while time.monotonic() - began < seconds:
                position = next(positions)
                sent = time.perf_counter()
                answer = await rank(requests[position])
                load.latencies.append(time.perf_counter() - sent)
                if len(load.latencies) % check_every == 0:
                    check(position, answer)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
        load.seconds = time.monotonic() - began
    return load


async def _stream(
    address: str,
    requests: Sequence[bytes],
    concurrency: int,
    seconds: float,
    check: Check,
    check_every: int,
) -> Load:
    from ranker.v1 import ranking_pb2 as pb

    load = Load()
    sent: dict[int, float] = {}
    positions = itertools.cycle(range(len(requests)))
    if concurrency >= len(requests):
        raise ValueError("a stream needs more requests than are in flight")
    async with grpc.aio.insecure_channel(address) as channel:
        open_stream: Any = channel.stream_stream(RANK_STREAM, None, None)
        call = open_stream()

        async def send() -> None:
            position = next(positions)
            sent[position] = time.perf_counter()
            await call.write(requests[position])

        began = time.monotonic()
        for _ in range(concurrency):
            await send()
        while sent:
            answer = await call.read()
            if answer == grpc.aio.EOF:  # type: ignore[attr-defined]
                raise EOFError("the server ended the stream")
            position = int(pb.RankResponse.FromString(answer).request_id)
            load.latencies.append(time.perf_counter() - sent.pop(position))
            if len(load.latencies) % check_every == 0:
                check(position, answer)
            if time.monotonic() - began < seconds:
                await send()
        load.seconds = time.monotonic() - began
        await call.done_writing()
    return load
