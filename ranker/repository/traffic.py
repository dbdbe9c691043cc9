"""Who is ranked by which version: a split of units into arms, the same on every server.

A unit's place is the first eight bytes of SHA-256 of `SALT:UNIT` (UTF-8), read as a whole number,
most significant byte first, and divided by 2**64: a number from 0 to 1 that anybody can compute
again. The arms have the line from 0 to 1 in the order of the configuration, each its share; the
arm in whose part a unit's place lies ranks for it. A change of shares moves as few units as such
a line can; another salt draws all of them anew.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate

STABLE = "stable"
"""The label of the version that a request gets which names none, if the traffic is not split; a
version that loses its share loses it to this one."""

_PLACES = float(2**64)


def place(salt: str, unit: str) -> float:
    """Where a unit is on the line from 0 to 1."""
    digest = hashlib.sha256(f"{salt}:{unit}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / _PLACES


class Sample:
    """A share of all units, the same on every server: those whose place is below it.

    Args:
        share: from 0 to 1.
        salt: what makes this sample another one than others of the same units.
    """

    def __init__(self, share: float, salt: str) -> None:
        self._share = share
        self._salt = salt

    @classmethod
    def of_shadow(cls, share: float, salt: str) -> Sample:
        """Of a shadow; not by the split's own salt, so that it has units of every arm.

        Args:
            share: from 0 to 1.
            salt: the split's.
        """
        return cls(share, f"{salt}:shadow")

    def has(self, unit: str) -> bool:
        """Whether a unit is in the sample; drawn at random for a request without a unit."""
        if self._share >= 1.0:
            return True
        return (place(self._salt, unit) if unit else random.random()) < self._share


def given_to_stable(traffic: Mapping[str, float], label: str) -> Mapping[str, float]:
    """The traffic with a label's share given to the stable version."""
    share = traffic.get(label, 0.0)
    if not share:
        return traffic
    if STABLE in traffic:
        # Rounded: what a person has written as 81.6 and 0.1 is 81.7 in all, not 81.69999999999999.
        return {**traffic, label: 0.0, STABLE: round(traffic[STABLE] + share, 9)}
    given: dict[str, float] = {}
    for arm, own in traffic.items():  # in its place on the line: units of the others stay theirs
        given |= {arm: 0.0, STABLE: share} if arm == label else {arm: own}
    return given


class Split:
    """Gives each unit an arm.

    Args:
        shares: of each arm, in the order of the line; their sum is 1 or 100 or whatever.
        salt: what makes this split another one than others of the same units.
    """

    def __init__(self, shares: Mapping[str, float], salt: str) -> None:
        used = {arm: share for arm, share in shares.items() if share > 0.0}
        total = sum(used.values())
        self._arms = tuple(used)
        self._salt = salt
        # The last arm has what is left, so that no rounding leaves a gap at the end.
        self._ends = [end / total for end in accumulate(used.values())][:-1]

    def arm(self, unit: str) -> str:
        """The unit's arm; drawn at random for a request without a unit."""
        at = place(self._salt, unit) if unit else random.random()
        return self._arms[bisect_right(self._ends, at)]
