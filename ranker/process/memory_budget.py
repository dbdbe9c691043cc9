"""How a worker shares out its memory among what callers make it hold.

    worker  = (0.9 x limit - 64 MiB) / workers
    callers = worker - what it holds once its models are loaded

The limit is what the operator says, or the container's, or the machine's; of the latter two,
callers get 384 MiB at most. They get 64 MiB at least: a server has to serve.

Of what is the callers', each kind has a bound of its own: connections and calls in progress by
their number, lists that wait and answers that are not read by their bytes. What arrives can't be
counted before it is there, so there are two marks for all of it together: from the first on the
worker takes in nothing more, from the second on it closes connections
(`ranker.process.flood_guard`).

The marks move with the models that a worker has. The other bounds stay those of its first ones.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, replace

from ranker.process.machine import memory_limit
from ranker.rpc import Limits

USABLE = 0.9
"""The share of the limit that is planned with; the rest is the kernel's, and for surprises."""

OTHERS = 64 * 2**20
"""Bytes for the supervisor and the office."""

LEAST = 64 * 2**20
"""Bytes for callers, even where there is no room for them."""

CONNECTION = 32 * 2**10
"""Bytes that a connection takes, with a part of its read buffer."""

CALL = 24 * 2**10
"""Bytes that a call in progress takes before its message."""

MOST = 384 * 2**20
"""More bytes than that callers get only if the operator says so: one core could not use them."""

_DESCRIPTORS = 100
"""File descriptors for all but connections."""


@dataclass(frozen=True)
class MemoryBudget:
    """A worker's memory.

    Attributes:
        part: the bytes that it may hold in all.
        most: the bytes that callers may make it hold, at most.
        at_rest: the bytes that it holds before any caller comes.
    """

    part: int
    most: int
    at_rest: int

    @classmethod
    def of_worker(cls, limit: int, workers: int, at_rest: int) -> MemoryBudget:
        """Works out the budget of one of several workers.

        Args:
            limit: the bytes that all processes of the server may hold; 0: what there is.
            workers: how many there are.
            at_rest: the bytes that one holds before any caller comes.
        """
        part = int((USABLE * (limit or memory_limit()) - OTHERS) / workers)
        return cls(part, part if limit else MOST, at_rest)

    def with_models(self, more: int) -> MemoryBudget:
        """The same worker's, if its models hold so many more bytes."""
        return replace(self, at_rest=self.at_rest + more)

    @property
    def callers(self) -> int:
        """The bytes that callers may make it hold."""
        return max(min(self.part - self.at_rest, self.most), LEAST)

    @property
    def waiting(self) -> int:
        """Bytes of lists that wait to be scored: a quarter."""
        return self.callers // 4

    @property
    def shadows(self) -> int:
        """Bytes of lists that wait for a shadow: a thirty-second."""
        return self.callers // 32

    @property
    def explanations(self) -> int:
        """Bytes of lists that wait to be explained: a sixteenth."""
        return self.callers // 16

    @property
    def ranking_log(self) -> int:
        """Bytes of lists that wait to be logged: a sixteenth."""
        return self.callers // 16

    @property
    def full(self) -> int:
        """The first mark, in bytes of resident memory: from here on nothing more is taken in."""
        return self.at_rest + self.callers // 2

    @property
    def overfull(self) -> int:
        """The second mark: from here on connections are closed."""
        return self.at_rest + self.callers * 5 // 8

    @property
    def most_held(self) -> int:
        """What the worker holds when callers have taken all that is theirs."""
        return self.at_rest + self.callers

    def limits(self, message_seconds: float) -> Limits:
        """The bounds on connections, on calls and on answers that are not read: an eighth each."""
        descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _DESCRIPTORS
        eighth = self.callers // 8
        return Limits(
            connections=max(min(eighth // CONNECTION, descriptors), 1),
            calls=eighth // CALL,
            unsent_bytes=eighth,
            message_seconds=message_seconds,
        )
