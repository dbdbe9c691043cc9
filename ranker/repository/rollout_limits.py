"""When a version that has a share of the traffic is worse than the stable one.

Both are held to the same limits in the same time, and only what is beyond a limit, beyond what
stable does, and beyond chance counts. Callers are the same for both, so that an error which comes
much more often from one of them is that version's, whatever its code says: a version that
wants other columns refuses requests as INVALID_ARGUMENT, and it is the version that is wrong. What
is wrong with the machine, or with the callers, shows in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

LEAST_REQUESTS = 100
"""So many requests each of the two versions must have had."""

LONGEST_SECONDS = 5.0
"""The most that `RolloutLimits.p99` may be: the histogram of answers has no bound beyond, so that
longer times are not told apart."""

_BEYOND_CHANCE = 3.0
"""Standard deviations between what was counted and the bounds of what it may stand for."""


@dataclass(frozen=True)
class RolloutLimits:
    """What a version may do before its share of the traffic goes back to stable.

    Attributes:
        errors: the share of its requests that may fail, from 0 to 1; None: any.
        p99: seconds within which 99 of 100 answers must leave; None: any.
        minutes: for how long requests count.
    """

    errors: float | None = None
    p99: float | None = None
    minutes: float = 5.0


class Counts(NamedTuple):
    """What one version has done in some time.

    Attributes:
        requests: that have ended, but for those whose callers went away.
        failed: how many of them had no answer.
        answered: how many had one; those of the time that is meant.
        slow: how many of these took longer than `RolloutLimits.p99`.
    """

    requests: float
    failed: float
    answered: float
    slow: float

    def since(self, before: Counts) -> Counts:
        """What came after another moment's counts."""
        return Counts(*(now - then for now, then in zip(self, before, strict=True)))


def verdict(version: Counts, stable: Counts, limits: RolloutLimits) -> str | None:
    """Why a version's share of the traffic is to go to the stable one; None: it may stay."""
    if limits.errors is not None and _worse(
        version.failed, version.requests, stable.failed, stable.requests, limits.errors
    ):
        return (
            f"{version.failed:.0f} of {version.requests:.0f} requests failed, of stable's "
            f"{stable.failed:.0f} of {stable.requests:.0f}; the limit is {100 * limits.errors:g} %"
        )
    if limits.p99 is not None and _worse(
        version.slow, version.answered, stable.slow, stable.answered, 0.01
    ):
        return (
            f"{version.slow:.0f} of {version.answered:.0f} answers took longer than "
            f"{1e3 * limits.p99:g} ms, of stable's {stable.slow:.0f} of {stable.answered:.0f}; "
            "the limit is 1 %"
        )
    return None


def _worse(bad: float, total: float, stable_bad: float, stable_total: float, limit: float) -> bool:
    """Whether a version's share of something bad is beyond the limit, stable's, and chance."""
    if min(total, stable_total) < LEAST_REQUESTS:
        return False
    least, _ = _bounds(bad, total)
    _, most = _bounds(stable_bad, stable_total)
    return least > limit and least > most


def _bounds(count: float, total: float) -> tuple[float, float]:
    """Wilson's score interval of a share: what it may be if `count` of `total` were seen."""
    z = _BEYOND_CHANCE
    share, weight = count / total, z * z / total
    middle = share + weight / 2
    width = z * math.sqrt(share * (1 - share) / total + weight / total / 4)
    return (middle - width) / (1 + weight), (middle + width) / (1 + weight)


@dataclass
class Window:
    """The counts of the last minutes, over which a version is judged.

    Attributes:
        seconds: how long it is.
        step: seconds between two moments that are kept.
    """

    seconds: float
    step: float
    _kept: list[tuple[float, tuple[Counts, ...]]] = field(default_factory=list)

    def add(self, now: float, counts: Sequence[Counts]) -> list[Counts]:
        """Takes the counts of now, of several versions; returns what came within the window."""
        if not self._kept or now - self._kept[-1][0] >= self.step:
            self._kept.append((now, tuple(counts)))
        while len(self._kept) > 1 and self._kept[1][0] <= now - self.seconds:
            del self._kept[0]
        first = self._kept[0][1]
        return [then.since(before) for then, before in zip(counts, first, strict=True)]
