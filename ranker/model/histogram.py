"""Histograms of a model's features and scores: what they were in the training data.

A feature's bins are cut at thresholds of the model itself, so that values which no split tells
apart are in one bin. A value equal to a cut is in the bin above it, as XGBoost's `x < threshold`
sends it to the right. A categorical feature has a bin for each of its most frequent codes,
and one for all others. Missing values (NaN) are in no bin, and are counted apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ranker.errors import ModelError

MOST_BINS = 16
"""Of a feature. A model's file grows by about 300 bytes a feature."""

MOST_FEATURES = 1000
"""So many features have a histogram at most."""

MOST_CODE = 1 << 24
"""Codes are below it: float32 has all integers up to here."""

_MOST_ROWS = 2**53

_SHOWN = 100


@dataclass(frozen=True)
class Bins:
    """How numbers are put into bins. One of the two is empty.

    Attributes:
        cuts: float32 numbers, ascending, finite: bin i is from cut i - 1, inclusive, to cut i,
            exclusive; the first begins at -inf, and the last ends with inf, inclusive.
        codes: of a categorical feature, ascending: bin i is code i, and the last one has all other
            numbers. A code is read off a number by rounding it down.

    Raises:
        ModelError: they are something else.
    """

    cuts: tuple[float, ...] = ()
    codes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Checks them."""
        if self.cuts and self.codes:
            raise ModelError("expected cuts or codes, got both")
        with np.errstate(over="ignore"):
            cuts = np.array(self.cuts, np.float32)  # 0.1 stands for the nearest such number
        if not np.isfinite(cuts).all():
            raise ModelError("cuts: expected finite numbers of 32 bits")
        object.__setattr__(self, "cuts", tuple(cuts.tolist()))
        values = self.cuts or self.codes
        if any(low >= high for low, high in pairwise(values)):
            raise ModelError("expected ascending numbers")
        if self.codes and not 0 <= self.codes[0] <= self.codes[-1] < MOST_CODE:
            raise ModelError(f"expected codes from 0 to {MOST_CODE - 1}")

    @property
    def count(self) -> int:
        """How many bins there are."""
        return len(self.cuts or self.codes) + 1

    def borders(self) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """The bins as intervals, each from a border, inclusive, to the next one.

        Returns:
            float32 [b], ascending; and [b + 1], the bin of each interval.
        """
        if not self.codes:
            return np.array(self.cuts, np.float32), np.arange(self.count)
        rest = self.count - 1
        starts = {float(code): place for place, code in enumerate(self.codes)}
        starts = {code + 1: rest for code in starts} | starts
        borders = sorted(starts)
        return np.array(borders, np.float32), np.array([rest, *map(starts.__getitem__, borders)])

    def find(self, values: NDArray[np.float32]) -> NDArray[np.intp]:
        """The bin of each number; NaN has none, which is `count`."""
        borders, bins = self.borders()
        found = bins[np.searchsorted(borders, values, side="right")]
        return np.where(np.isnan(values), self.count, found)


@dataclass(frozen=True)
class Histogram:
    """How many rows are in each bin.

    Attributes:
        bins: which bins.
        counts: a number of rows for each.
        missing: rows without a value.
    """

    bins: Bins
    counts: tuple[int, ...]
    missing: int = 0

    @classmethod
    def of(cls, bins: Bins, values: NDArray[np.float32]) -> Histogram:
        """Counts values [n]."""
        found = np.bincount(bins.find(values), minlength=bins.count + 1).tolist()
        return cls(bins, tuple(found[:-1]), found[-1])

    def to_facts(self) -> dict[str, object]:
        """For JSON; `from_facts` reads it back."""
        bins = (
            {"codes": list(self.bins.codes)}
            if self.bins.codes
            else {"cuts": list(map(_shortest, self.bins.cuts))}
        )
        return {**bins, "counts": list(self.counts), "missing": self.missing}

    @classmethod
    def from_facts(cls, facts: Any, rows: int, most: int = MOST_BINS) -> Histogram:
        """Reads what `to_facts` wrote.

        Args:
            facts: what JSON has.
            rows: how many rows it must have.
            most: how many bins it may have.

        Raises:
            ModelError: it is something else; says which part.
        """
        if not isinstance(facts, dict) or facts.keys() - {"codes"} - {"cuts"} != {
            "counts",
            "missing",
        }:
            raise ModelError("expected cuts or codes, counts and missing")
        codes, cuts = _list(facts, "codes", int), _list(facts, "cuts", (int, float))
        bins = Bins(tuple(map(_as_float, cuts)), tuple(codes))
        counts, missing = tuple(_list(facts, "counts", int)), facts["missing"]
        if len(counts) != bins.count or bins.count > most:
            raise ModelError(f"counts: expected {bins.count}, at most {most}, got {len(counts)}")
        if type(missing) is not int or min(missing, *counts) < 0:
            raise ModelError("counts, missing: expected integers from 0 on")
        if sum(counts) + missing != rows:
            raise ModelError(f"counts, missing: expected {rows} rows, got {sum(counts) + missing}")
        return cls(bins, counts, missing)


@dataclass(frozen=True)
class Reference:
    """What a model was trained on.

    Attributes:
        rows: how many rows were counted; at least one.
        features: a histogram for each feature that splits read, by its position; of the
            `MOST_FEATURES` that are read most, if there are more.
        scores: that of the model's scores.
    """

    rows: int
    scores: Histogram
    features: Mapping[int, Histogram] = field(default_factory=dict, hash=False)

    def to_facts(self) -> dict[str, object]:
        """For JSON; `from_facts` reads it back."""
        features = {str(column): each.to_facts() for column, each in self.features.items()}
        return {"rows": self.rows, "scores": self.scores.to_facts(), "features": features}

    @classmethod
    def from_facts(cls, facts: Any) -> Reference:
        """Reads what `to_facts` wrote.

        Raises:
            ModelError: it is something else; names the part.
        """
        if not isinstance(facts, dict) or facts.keys() != {"rows", "scores", "features"}:
            raise ModelError(f"expected rows, scores and features, got {_short(facts)}")
        rows, features = facts["rows"], facts["features"]
        if type(rows) is not int or not 1 <= rows <= _MOST_ROWS:
            raise ModelError(f"rows: expected an integer from 1 on, got {_short(rows)}")
        if not isinstance(features, dict) or len(features) > MOST_FEATURES:
            raise ModelError(f"features: expected an object of at most {MOST_FEATURES}")
        return cls(
            rows,
            _histogram("scores", facts["scores"], rows),
            {
                _position(text): _histogram(f"feature {text}", features[text], rows)
                for text in features
            },
        )

    def check(self, num_features: int) -> None:
        """Holds it against its model.

        Raises:
            ModelError: the model has no such feature.
        """
        if self.features and max(self.features) >= num_features:
            raise ModelError(f"metadata ranker.reference: no feature {max(self.features)}")


def spread_cuts(
    values: NDArray[np.float32], thresholds: NDArray[np.float32], most: int = MOST_BINS
) -> tuple[float, ...]:
    """Thresholds to cut at, so that bins hold about equally many of some values.

    The smallest and the largest are always among them: what lies outside all is in a bin of
    its own.

    Args:
        values: [n], without NaN.
        thresholds: ascending, each once.
        most: how many bins there may be.
    """
    some = thresholds[np.isfinite(thresholds)]
    if len(some) >= most:
        below = np.searchsorted(np.sort(values), some)  # how many are less than each
        wanted = len(values) * np.arange(1, most - 2) / (most - 2)
        right = np.clip(np.searchsorted(below, wanted), 1, len(some) - 1)
        nearer = right - (wanted - below[right - 1] < below[right] - wanted)
        some = some[np.unique(np.concatenate(([0, len(some) - 1], nearer)))]
    return tuple(map(float, some))


def frequent_codes(values: NDArray[np.float32], most: int = MOST_BINS) -> tuple[int, ...]:
    """The codes that stand most often among some values, ascending; those that are none left out.

    Args:
        values: [n], without NaN.
        most: how many bins there may be, with that for the others.
    """
    rounded = np.floor(values)
    codes, counts = np.unique(rounded[(rounded >= 0) & (rounded < MOST_CODE)], return_counts=True)
    best = np.argsort(-counts, kind="stable")[: most - 1]
    return tuple(sorted(int(code) for code in codes[best]))


def decile_cuts(values: ArrayLike) -> tuple[float, ...]:
    """At most nine numbers that cut values [n] into tenths, as far as ties allow."""
    numbers = np.asarray(values, np.float32)
    finite = numbers[np.isfinite(numbers)]
    if not len(finite):
        return ()
    cuts = np.quantile(finite, np.arange(1, 10) / 10, method="higher")
    return tuple(map(float, np.unique(cuts.astype(np.float32))))


def _shortest(value: float) -> float:
    """The number of 64 bits with the fewest digits that is this one in 32 bits."""
    short = float(str(np.float32(value)))
    return short if np.float32(short) == np.float32(value) else value


def _histogram(what: str, facts: Any, rows: int) -> Histogram:
    try:
        return Histogram.from_facts(facts, rows)
    except ModelError as error:
        raise ModelError(f"{what}: {error.message}") from error


def _position(text: str) -> int:
    if not re.fullmatch("0|[1-9][0-9]{0,8}", text):
        raise ModelError(f"features: expected positions, got {_short(text)}")
    return int(text)


def _as_float(value: float) -> float:
    """Also of integers that are beyond any float."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _list(facts: Mapping[str, Any], name: str, kind: Any) -> list[Any]:
    values = facts.get(name, [])
    if not isinstance(values, list) or any(
        isinstance(value, bool) or not isinstance(value, kind) for value in values
    ):
        raise ModelError(f"{name}: expected numbers, got {_short(values)}")
    return values


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
