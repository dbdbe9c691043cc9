"""How far features and scores are from the training data: what all workers have counted, compared.

A row that was counted weighs half as much after `HALF_LIFE`, so that the last hour or so counts.
The counts of all workers are added up before they are compared.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from ranker.metrics import catalogue
from ranker.metrics.drift_log import SCORES, CountedFeature, ModelKey
from ranker.metrics.families import Family, Sample
from ranker.metrics.layout import Name

HALF_LIFE = 900.0
"""Seconds."""

LEAST_LISTS = 200.0
"""Before so many lists were counted nothing is said: the candidates of one list have much in
common, and the index of a few lists is large by chance."""

MOST_PUBLISHED = 50
"""Features of a model that have series of their own: those that drift most."""

NAMED_AFTER = 10
NAMED_AFTER_WITHOUT_REFERENCE = 100
"""Lists that have to be alike before a feature is named for it."""

CHANCE = 0.001
"""And it has to be less probable than this if lists were like the training data."""


@dataclass(frozen=True)
class FeatureDrift:
    """How one feature is now.

    Attributes:
        name: what it is called.
        psi: the population stability index; None: it can't be told.
        missing: the share of candidates that have no value.
        missing_before: that of the training data; None: it isn't known.
        finding: what is wrong with it at this moment; empty: nothing is.
    """

    name: str
    psi: float | None
    missing: float
    missing_before: float | None
    finding: str = ""


@dataclass(frozen=True)
class ModelDrift:
    """How the features and scores of one version are now.

    Attributes:
        model: its name.
        version: likewise.
        reference: whether it has one; else no index can be told.
        rows: candidates that were counted, older ones as a part of one.
        enough: whether these are enough to tell.
        scores: the index of the scores; None: it can't be told.
        features: the worst first: by the index, then by the share that is missing.
    """

    model: str
    version: str
    reference: bool
    rows: float
    enough: bool
    scores: float | None
    features: tuple[FeatureDrift, ...]


def stability_index(before: Sequence[float], now: Sequence[float]) -> float:
    """The population stability index of two histograms.

    It is the sum of (q - p) ln(q / p) over the bins, where p and q are a bin's shares; half a row
    is added to each bin of both, since an empty one would make it infinite.

    Args:
        before: rows in each bin.
        now: likewise.
    """
    all_before, all_now = (sum(counts) + 0.5 * len(counts) for counts in (before, now))
    pairs = (
        ((then + 0.5) / all_before, (count + 0.5) / all_now)
        for then, count in zip(before, now, strict=True)
    )
    return sum((q - p) * math.log(q / p) for p, q in pairs)


@dataclass
class _Feature:
    """What is known of a feature.

    Attributes:
        name: what it is called.
        reference: rows of the training data in each bin, and without a value; None: not known.
        counts: those of the candidates, aged.
        lists: the lists that these belong to, likewise.
        at: when they were aged.
        state: what is wrong with the latest ones, and the value if they have but one.
        alike: the lists that have been so without a break.
        alike_before: the share of the training data that is so.
    """

    name: str
    reference: tuple[int, ...] | None
    counts: list[float]
    lists: float = 0.0
    at: float = 0.0
    state: tuple[str, float | None] = ("", None)
    alike: int = 0
    alike_before: float = 0.0

    def add(self, counted: CountedFeature, now: float) -> None:
        self.age(now)
        self.lists += counted.lists
        self.counts = [old + new for old, new in zip(self.counts, counted.counts, strict=True)]
        state, before = _state(counted)
        if state != self.state:
            self.state, self.alike = state, 0
        self.alike += counted.lists
        self.alike_before = before

    def age(self, now: float) -> None:
        """Has what was counted weigh less."""
        factor = 0.5 ** ((now - self.at) / HALF_LIFE)
        self.at = now
        self.lists *= factor
        self.counts = [count * factor for count in self.counts]

    @property
    def psi(self) -> float | None:
        if self.reference is None or self.lists < LEAST_LISTS:
            return None
        return stability_index(self.reference, self.counts)

    @property
    def finding(self) -> str:
        """What is wrong with it; empty: nothing, or that isn't certain yet."""
        known = self.reference is not None
        least = NAMED_AFTER if known else NAMED_AFTER_WITHOUT_REFERENCE
        if self.alike < least or (known and self.alike_before**self.alike >= CHANCE):
            return ""
        return self.state[0]


def _state(counted: CountedFeature) -> tuple[tuple[str, float | None], float]:
    """What all rows that were just counted have in common, and its share in the training data."""
    *bins, missing = counted.counts
    *before, missing_before = counted.reference or (0,) * len(counted.counts)
    known, known_before = sum(bins), max(1, sum(before))
    if counted.column == SCORES or not known + missing:
        return ("", None), 0.0
    if not known:
        return ("missing everywhere", None), missing_before / max(1, sum(counted.reference or ()))
    place = max(range(len(bins)), key=bins.__getitem__)
    share = before[place] / known_before
    if counted.only is not None and (not missing or counted.reference is not None):
        return ("constant", counted.only), share
    if counted.ordered and bins[0] == known:
        return ("below all thresholds", None), share
    if counted.ordered and bins[-1] == known:
        return ("above all thresholds", None), share
    return ("", None), 0.0


@dataclass
class _Model:
    digest: str
    features: dict[int, _Feature] = field(default_factory=dict)


class Drift:
    """Adds up what the workers count. May be used from any thread.

    Args:
        clock: in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        self._models: dict[Name, _Model] = {}

    def add(self, entries: Sequence[Any]) -> None:
        """Takes what `DriftLog.counted` has sent."""
        key, now = ModelKey(*entries[0]), self._clock()
        with self._lock:
            model = self._models.setdefault((key.name, key.version), _Model(key.digest))
            if model.digest != key.digest:
                model = self._models[key.name, key.version] = _Model(key.digest)
            for entry in entries[1:]:
                counted = CountedFeature(*entry)
                feature = model.features.get(counted.column)
                if feature is None:
                    nothing = [0.0] * len(counted.counts)
                    feature = _Feature(counted.name, counted.reference, nothing, at=now)
                    model.features[counted.column] = feature
                feature.add(counted, now)

    def serve(self, entries: Iterable[Any]) -> None:
        """Takes what `DriftLog.served` has sent; what others have counted is forgotten."""
        keys = {ModelKey(*entry) for entry in entries}
        with self._lock:
            for name, model in list(self._models.items()):
                if ModelKey(*name, model.digest) not in keys:
                    del self._models[name]

    def keep(self, names: Collection[Name]) -> None:
        """Forgets models that have no series any more."""
        with self._lock:
            for name in self._models.keys() - set(names):
                del self._models[name]

    def models(self) -> list[ModelDrift]:
        """How all models are now, by their names."""
        now = self._clock()
        with self._lock:
            return [
                _drift(name, model.features, now) for name, model in sorted(self._models.items())
            ]


def _drift(name: Name, known: dict[int, _Feature], now: float) -> ModelDrift:
    features, scores = [], None
    rows = lists = 0.0
    for column, feature in known.items():
        feature.age(now)
        total = sum(feature.counts)
        rows, lists = max(rows, total), max(lists, feature.lists)
        if column == SCORES:
            scores = feature.psi
            continue
        reference = feature.reference
        features.append(
            FeatureDrift(
                feature.name,
                feature.psi,
                feature.counts[-1] / total if total else 0.0,
                None if reference is None else reference[-1] / max(1, sum(reference)),
                feature.finding,
            )
        )
    features.sort(key=lambda each: (-(each.psi or 0.0), -each.missing, each.name))
    reference_known = any(feature.reference is not None for feature in known.values())
    enough = lists >= LEAST_LISTS
    return ModelDrift(*name, reference_known, rows, enough, scores, tuple(features))


def families(models: Sequence[ModelDrift]) -> Iterator[Family]:
    """What is published of them."""
    psi: list[Sample] = []
    missing: list[Sample] = []
    scores: list[Sample] = []
    rows: list[Sample] = []
    for each in models:
        name = (each.model, each.version)
        rows.append(Sample(name, float(round(each.rows))))
        if each.scores is not None:
            scores.append(Sample(name, each.scores))
        if not each.enough:
            continue
        for feature in each.features[:MOST_PUBLISHED]:
            labels = (*name, feature.name)
            missing.append(Sample(labels, feature.missing))
            if feature.psi is not None:
                psi.append(Sample(labels, feature.psi))
    yield Family(catalogue.DRIFT_FEATURE_PSI, tuple(psi))
    yield Family(catalogue.DRIFT_FEATURE_MISSING, tuple(missing))
    yield Family(catalogue.DRIFT_SCORE_PSI, tuple(scores))
    yield Family(catalogue.DRIFT_ROWS, tuple(rows))
