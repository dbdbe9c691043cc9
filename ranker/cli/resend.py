"""Sends the lists of a ranking log to a server again, in their order and at their pace."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from ranker.client import Tls
from ranker.client import channel as wire
from ranker.ranking_log.reader import LoggedList


@dataclass
class Resent:
    """What came of it.

    Attributes:
        sent: how many lists were sent.
        equal: answers that are the log's: candidates, order, scores to the bit.
        different: answers that are not.
        first_different: the first of these, for a person; empty: there is none.
        excluded: lists whose features were left out of the log: answers say nothing.
        errors: how many calls ended with another status, by its name.
        seconds: how long all of it took.
        behind: by how many seconds the last list was sent too late, at most.
        latencies: of each answer, in seconds, from when it was due to be sent.
    """

    sent: int = 0
    equal: int = 0
    different: int = 0
    first_different: str = ""
    excluded: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    behind: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def percentile(self, percentile: float) -> float:
        """Of the latencies, in seconds; NaN if there is none."""
        return float(np.percentile(self.latencies, percentile)) if self.latencies else float("nan")

    def to_json(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": 1,
            "sent": self.sent,
            "equal": self.equal,
            "different": self.different,
            "first_different": self.first_different,
            "excluded": self.excluded,
            "errors": dict(self.errors),
            "seconds": self.seconds,
            "behind_seconds": self.behind,
            "p50_seconds": self.percentile(50) if self.latencies else None,
            "p99_seconds": self.percentile(99) if self.latencies else None,
        }


async def resend(
    lists: Iterable[LoggedList],
    target: str,
    *,
    speed: float,
    in_flight: int,
    timeout: float,
    tls: Tls | None = None,
) -> Resent:
    """Sends lists as unary calls, the request's bytes as they were logged.

    Args:
        lists: in the order of their times.
        target: the server's host and port.
        speed: how many times as fast as they were answered then; 0: as fast as it goes.
        in_flight: so many may wait for their answers; the next is sent late rather.
        timeout: seconds that each may take.
        tls: how to connect; None: plain HTTP/2.
    """
    found, running = Resent(), set[asyncio.Task[None]]()
    room = asyncio.Semaphore(in_flight)
    async with wire.connect(grpc.aio, target, wire.OPTIONS, tls) as channel:
        rank = channel.unary_unary(*wire.RANK)

        async def ask(logged: LoggedList, due: float) -> None:
            try:
                answer = await rank(logged.record.request, timeout=timeout)
            except grpc.aio.AioRpcError as error:
                found.errors[error.code().name] += 1
            else:
                found.latencies.append(time.monotonic() - due)
                _compare(found, logged, answer)
            finally:
                room.release()

        began, first = time.monotonic(), 0
        for logged in lists:
            first = first or logged.record.time_unix_nanos
            now = time.monotonic()
            after = (logged.record.time_unix_nanos - first) / 1e9 / speed if speed else 0.0
            due = began + after if speed else now
            if due > now:
                await asyncio.sleep(due - now)
            await room.acquire()
            if speed:
                found.behind = max(found.behind, time.monotonic() - due)
            else:
                due = time.monotonic()
            found.sent += 1
            task = asyncio.create_task(ask(logged, due))
            running.add(task)
            task.add_done_callback(running.discard)
        await asyncio.gather(*running)
        found.seconds = time.monotonic() - began
    return found


def _compare(found: Resent, logged: LoggedList, answer: Any) -> None:
    if logged.record.excluded_features:
        found.excluded += 1
        return
    logged_answer = logged.response
    if (
        list(answer.indices) == list(logged_answer.indices)
        and np.array(answer.scores, np.float32).tobytes()
        == np.array(logged_answer.scores, np.float32).tobytes()
        and list(answer.candidate_ids) == list(logged_answer.candidate_ids)
    ):
        found.equal += 1
    else:
        found.different += 1
        found.first_different = found.first_different or str(logged)
