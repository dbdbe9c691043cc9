"""How a worker shares out its memory among what callers make it hold.

    worker  = (0.9 x limit - 64 MiB) / workers
    callers = worker - what it holds once its models are loaded

The limit is what the operator says, or the container's, or the machine's; of the latter two,
callers get 384 MiB at most. They get 64 MiB at least: a server has to serve.

Of what is the callers', each kind has a bound of its own: connections and calls in progress by
their number, lists that wait and answers that are not read by their bytes. What arrives can't be
counted before it is there, so there are two marks for all of it together: from the first on the
worker takes in nothing more, from the second on it closes connections (`ranker.process.guard`).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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

_CGROUPS = Path("/sys/fs/cgroup")
_UNLIMITED = 2**60


@dataclass(frozen=True)
class MemoryBudget:
    """A worker's memory.

    Attributes:
        at_rest: the bytes that it holds before any caller comes.
        callers: the bytes that callers may make it hold.
    """

    at_rest: int
    callers: int

    @classmethod
    def of_worker(cls, limit: int, workers: int, at_rest: int) -> MemoryBudget:
        """Works out the budget of one of several workers.

        Args:
            limit: the bytes that all processes of the server may hold; 0: what there is.
            workers: how many there are.
            at_rest: the bytes that one holds before any caller comes.
        """
        worker = (USABLE * (limit or memory_limit()) - OTHERS) / workers
        callers = max(int(worker) - at_rest, LEAST)
        return cls(at_rest, callers if limit else min(callers, MOST))

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


def memory_limit() -> int:
    """The bytes that this process and its like may hold: the container's limit, or the machine."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *_cgroup_limits(_CGROUPS, Path("/proc/self/cgroup"))])


def _cgroup_limits(root: Path, membership: Path) -> Iterator[int]:
    """The limits of this process's memory cgroup and of those around it, of either version.

    A container may see the name of its group on the host, where it sees that group as the root.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            folder, file = root, "memory.max"
        elif "memory" in controllers.split(","):
            folder, file = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        group = folder / name.lstrip("/")
        for place in {folder, group, *group.parents}:
            if place == folder or folder in place.parents:
                yield from _read_limit(place / file)


def _read_limit(path: Path) -> Iterator[int]:
    try:
        limit = int(path.read_text())
    except (OSError, ValueError):  # there is no such group, or it says "max"
        return
    if limit < _UNLIMITED:
        yield limit
