"""What a metric is, as `catalogue.py` declares them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """What a metric's value means."""

    COUNTER = "counter"
    """Only ever grows."""
    GAUGE = "gauge"
    """Goes up and down."""
    HISTOGRAM = "histogram"
    """How many observations fell into each bucket, and their sum."""
    INFO = "info"
    """Always 1; the labels are what it says."""


class Across(Enum):
    """What a gauge's value is over several workers; everything else adds up."""

    SUM = "sum"
    MAX = "max"


@dataclass(frozen=True, eq=False)
class Dimension:
    """Labels that vary together, and the values that they may take; equal to itself only.

    Attributes:
        labels: the labels' names.
        values: one tuple per combination of values; empty if they are known
            only when the server starts.
        rare: those that are not expected to occur: published only once they have.
    """

    labels: tuple[str, ...]
    values: tuple[tuple[str, ...], ...] = ()
    rare: frozenset[tuple[str, ...]] = frozenset()


@dataclass(frozen=True, eq=False)
class Metric:
    """One metric; equal to itself only.

    Attributes:
        name: as it is published, unit and `_total` included.
        kind: what its value means.
        unit: the unit of the value; `1` if it has none.
        help: what it measures, in one sentence.
        by: the dimensions of its labels.
        buckets: a histogram's upper bounds, inclusive and ascending; the last
            bucket, without a bound, is implied.
        texts: an info metric's own labels, whose values are facts about the server.
        copies: how many samples of an info metric there may be at a time with the same labels
            but its own.
        from_zero: whether a histogram of a served model is published before it has counted
            anything, as counters are: for rates that are compared with those of a counter.
        exemplars: whether a histogram's buckets remember the trace of a request.
        across: how a gauge is put together from the workers'.
        derived: whether it is worked out when it is read rather than recorded.
    """

    name: str
    kind: Kind
    unit: str
    help: str
    by: tuple[Dimension, ...] = ()
    buckets: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    copies: int = 1
    from_zero: bool = False
    exemplars: bool = False
    across: Across = Across.SUM
    derived: bool = False

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of all labels, in the order in which samples carry their values."""
        return tuple(label for dimension in self.by for label in dimension.labels) + self.texts

    def is_rare(self, labels: Sequence[str]) -> bool:
        """Whether the sample with these label values is published only once it is not 0."""
        begin = 0
        for dimension in self.by:
            end = begin + len(dimension.labels)
            if tuple(labels[begin:end]) in dimension.rare:
                return True
            begin = end
        return False
