"""Which units a split of the traffic has given to which version: a sample, of bounded size.

A test of the split's shares must count each unit once, however often it asks: requests of one
busy reader are not independent of each other. So each unit falls into one of many buckets, by its
CRC-32, and each bucket keeps one unit only: the one with the largest rest of its CRC-32. Which
unit that is depends on nothing but the units that have asked; so the samples of several workers
are put together by taking the larger, and a worker that replaces another goes on with its
sample. CRC-32 has nothing to do with SHA-256, which the split draws by
(`ranker.repository.traffic`), so the sample's shares are those of all units.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

if TYPE_CHECKING:
    from ranker.metrics.aggregates import Aggregates

BUCKETS = 4096
"""The most units in a sample. With so many, a share of 5 % that is 6.6 % is noticed."""

SIZE = 2 + BUCKETS
"""What a sample takes in a slot: the split's mark, the version's share of it, the buckets."""

LEAST_UNITS = 1000
LEAST_EXPECTED = 5.0
"""Nothing is said of shares before there are so many units, and as many as this are expected for
each version: below that the test is not valid."""

_SHIFT = BUCKETS.bit_length() - 1
_NONE = array("d", bytes(8 * SIZE))


class UnitSample:
    """A version's part of a sample, as one process writes it.

    Args:
        cells: the process's slot.
        begin: where the sample is in it.
    """

    def __init__(self, cells: memoryview[float], begin: int) -> None:
        self._cells = cells
        self._begin = begin
        self._buckets = begin + 2

    def start(self, mark: float, share: float = 0.0) -> None:
        """Starts anew if the split is another one.

        Args:
            mark: tells a split from others; 0: there is none.
            share: the version's, from 0 to 1; only the supervisor writes it.
        """
        if self._cells[self._begin] != mark:
            clear(self._cells, self._begin)
            self._cells[self._begin] = mark
        self._cells[self._begin + 1] = share

    def add(self, unit: str) -> None:
        """The split has given a unit to the version, again or for the first time."""
        code = crc32(unit.encode())
        at = self._buckets + (code & (BUCKETS - 1))
        rest = float((code >> _SHIFT) + 1)
        if rest > self._cells[at]:
            self._cells[at] = rest


def clear(cells: memoryview[float], begin: int) -> None:
    """Forgets a sample."""
    cells[begin : begin + SIZE] = memoryview(_NONE)


class SplitCheck(NamedTuple):
    """What is known of one model's split.

    Attributes:
        model: its name.
        versions: those that have a share.
        shares: of each, as configured; 1 in all.
        units: of each, how many of the sample's units have got it.
        p_value: how probable it is that shares are at least as far off by chance; None as long as
            there are too few units to tell.
    """

    model: str
    versions: tuple[str, ...]
    shares: tuple[float, ...]
    units: tuple[int, ...]
    p_value: float | None


def split_checks(aggregates: Aggregates) -> Iterator[SplitCheck]:
    """Holds the units of each split against its shares."""
    layout, names = aggregates.layout, aggregates.names()
    served = aggregates.slots[layout.slot("supervisor")].cells
    split: dict[str, list[int]] = {}
    for number, (name, _) in enumerate(names):
        if name and served[layout.plan.units[number] + 1] > 0.0:
            split.setdefault(name, []).append(number)
    for name, numbers in split.items():
        shares = [served[layout.plan.units[number] + 1] for number in numbers]
        units = _units([_merged(aggregates, layout.plan.units[number]) for number in numbers])
        versions = tuple(names[number][1] for number in numbers)
        yield SplitCheck(name, versions, tuple(shares), units, p_value(units, shares))


def _merged(aggregates: Aggregates, begin: int) -> list[float]:
    """A version's buckets, over all workers that know the split that is served."""
    mark = aggregates.slots[aggregates.layout.slot("supervisor")].cells[begin]
    tables = [
        list(slot.cells[begin + 2 : begin + SIZE])
        for slot in aggregates.slots[: aggregates.layout.workers]
        if slot.cells[begin] == mark
    ]
    return [max(values) for values in zip([0.0] * BUCKETS, *tables, strict=True)]


def _units(tables: Sequence[Sequence[float]]) -> tuple[int, ...]:
    """How many buckets each version has: those where its unit has the largest rest of all."""
    counts = [0] * len(tables)
    for rests in zip(*tables, strict=True):
        most = max(rests)
        if most and rests.count(most) == 1:  # else two units have one CRC-32: neither counts
            counts[rests.index(most)] += 1
    return tuple(counts)


def p_value(units: Sequence[int], shares: Sequence[float]) -> float | None:
    """Pearson's chi-squared test of counts against shares.

    Args:
        units: how many units each version has got.
        shares: what each should have; 1 in all, none is 0.

    Returns:
        The probability of counts at least as far off; None if there are too few to tell, or
        there is but one version.
    """
    total = sum(units)
    expected = [total * share for share in shares]
    if len(units) < 2 or total < LEAST_UNITS or min(expected) < LEAST_EXPECTED:
        return None
    square = sum((n - mean) ** 2 / mean for n, mean in zip(units, expected, strict=True))
    return _chi_squared_tail(square, len(units) - 1)


def _chi_squared_tail(x: float, degrees: int) -> float:
    """The probability of more than x: Abramowitz and Stegun, 26.4.4 and 26.4.5."""
    half = x / 2
    if degrees % 2:
        tail, k = math.erfc(math.sqrt(half)), 0.5
    else:
        tail, k = math.exp(-half), 1.0
    while 2 * k < degrees:
        tail += math.exp(k * math.log(half) - half - math.lgamma(k + 1)) if half else 0.0
        k += 1
    return min(tail, 1.0)
