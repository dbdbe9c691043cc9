"""Where each metric's values are in a process's slot: see `ranker.metrics.aggregates`."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, product

from ranker.callers import MOST_CALLERS
from ranker.metrics.caller_tokens import OVERFLOW_CELLS
from ranker.metrics.catalogue import CALLER, EXPORTER, METHOD, METRICS, MODEL, SHADOW, WORKER
from ranker.metrics.metric import Dimension, Kind, Metric
from ranker.metrics.unit_sample import SIZE

UNKNOWN = "unknown"
"""The method, or the model, of requests whose own is not among those served."""

OTHER_CALLERS = ("other", "none")
"""Callers that have a name which the operator does not know, and those without one; their numbers
come after those of the others."""

TEXT_BYTES = 128
"""The length of a text field in UTF-8; what is longer is cut."""

EXEMPLAR_CELLS = 4
"""What an exemplar takes: its time (0: there is none), its value, 16 bytes of trace id."""

DOUBLE = 8
_CACHE_LINE = 64

FIRST_CELL = 2
"""Before all metrics come the process id of the slot's writer, and when it last said that it
moves."""

OTHERS = ("supervisor", "office")
"""The processes of a server beside its workers; their slots come after the workers'."""

Name = tuple[str, str]
"""A model's name and version; empty: nothing is served under that number."""


@dataclass(frozen=True)
class Layout:
    """What is counted apart from what: what is known when the server starts.

    Attributes:
        models: how many models may be served at a time. Each has a number, and
            tells its name and version once it is loaded.
        methods: full method names, as gRPC has them: `/package.Service/Method`.
        workers: the number of worker processes.
        exporters: the names of the exporters that may publish.

    Raises:
        ValueError: two methods are the same, or there is no worker.
    """

    models: int
    methods: tuple[str, ...]
    workers: int = 1
    exporters: tuple[str, ...] = ()
    plan: Plan = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Refuses what would make two children of a metric the same."""
        if self.workers < 1:
            raise ValueError(f"workers: expected at least 1, got {self.workers}")
        if len(set(self.methods)) < len(self.methods):
            raise ValueError(f"methods: each may appear once, got {self.methods}")
        object.__setattr__(self, "plan", Plan(self))

    @property
    def slots(self) -> int:
        """How many processes record."""
        return self.workers + len(OTHERS)

    def slot(self, process: str) -> int:
        """The slot of one of `OTHERS`."""
        return self.workers + OTHERS.index(process)

    def process(self, slot: int) -> str:
        """What the process of a slot is called: a worker's number, or one of `OTHERS`."""
        return str(slot) if slot < self.workers else OTHERS[slot - self.workers]

    def count(self, dimension: Dimension) -> int:
        """How many values a dimension has, `unknown` included where it may occur."""
        if dimension is MODEL:
            return self.models + 1
        if dimension is CALLER:
            return MOST_CALLERS + len(OTHER_CALLERS)
        return len(self._fixed_values(dimension))

    def of_caller(self, metric: Metric, number: int) -> range:
        """The places of those of a metric's children that have the caller with this number."""
        places = self.plan.cells[metric]
        each = len(places) // self.count(CALLER)
        return places[number * each : (number + 1) * each]

    def of_model(self, metric: Metric, number: int) -> range:
        """The places of those of a metric's children that have the model with this number."""
        places = self.plan.cells[metric]
        each = len(places) // (self.models + 1)
        return places[number * each : (number + 1) * each]

    def exemplars_of_model(self, metric: Metric, number: int) -> range:
        """Likewise the places of their exemplars; none if the metric has none."""
        places = self.plan.exemplars.get(metric, range(0))
        each = len(places) // (self.models + 1)
        return places[number * each : (number + 1) * each]

    def children(
        self,
        metric: Metric,
        names: tuple[Name, ...],
        shadows: tuple[str, ...],
        callers: tuple[str, ...],
    ) -> list[tuple[str, ...] | None]:
        """The label values of each of the metric's cells in a slot, in the cells' order.

        The slot itself is the worker, which is therefore not among them.

        Args:
            metric: which.
            names: those of the models, by their numbers.
            shadows: the versions of their shadows; empty: none.
            callers: the names of callers, by their numbers; empty: none.

        Returns:
            None for the cells of a number that no model or caller has, or, of a shadow's metric,
            no model with a shadow.
        """
        free: tuple[str, ...] = ("",) if CALLER in metric.by else ("", "")
        known: list[tuple[tuple[str, ...], ...]] = []
        for dimension in metric.by:
            if dimension is MODEL and SHADOW in metric.by:
                pairs = zip(names, shadows, strict=True)
                known.append(
                    (*((*name, shadow) if shadow else free for name, shadow in pairs), free)
                )
            elif dimension is MODEL:
                known.append((*names, (UNKNOWN, "")))
            elif dimension is CALLER:
                others = OTHER_CALLERS if any(callers) else ("",) * len(OTHER_CALLERS)
                known.append(tuple((name,) for name in (*callers, *others)))
            elif dimension is not WORKER and dimension is not SHADOW:
                known.append(self._fixed_values(dimension))
        combinations = product(*known)
        if MODEL not in metric.by and CALLER not in metric.by:
            return [tuple(chain(*combination)) for combination in combinations]
        return [
            None if free in combination else tuple(chain(*combination))
            for combination in combinations
        ]

    def _fixed_values(self, dimension: Dimension) -> tuple[tuple[str, ...], ...]:
        if dimension is METHOD:
            return (*((method.removeprefix("/"),) for method in self.methods), (UNKNOWN,))
        if dimension is EXPORTER:
            return tuple((name,) for name in self.exporters)
        return dimension.values


class Plan:
    """Where everything is in a slot; cells and exemplars in doubles, texts in bytes.

    Attributes:
        cells: of each recorded metric, where each child's cells begin. A histogram
            has one cell per bucket from there on, then one for the sum; an info metric one
            for each copy.
        exemplars: where the exemplars of each child begin, `EXEMPLAR_CELLS` a bucket.
        texts: where the texts of each child of an info metric begin.
        units: where each model's sample of units begins (`ranker.metrics.unit_sample`).
        overflows: where those of each caller begin, of requests and of candidates
            (`ranker.metrics.caller_tokens`).
        summed: how many cells, from the slot's begin, are numbers to add up.
        stride: the doubles of a slot: whole cache lines, so that no two
            processes write to the same one.
    """

    def __init__(self, layout: Layout) -> None:
        recorded = [metric for metric in METRICS if not metric.derived]
        counts = {metric: _children(layout, metric) for metric in recorded}
        self.cells: dict[Metric, range] = {}
        self.exemplars: dict[Metric, range] = {}
        self.texts: dict[Metric, range] = {}
        end = FIRST_CELL
        for metric in recorded:
            histogram = metric.kind is Kind.HISTOGRAM
            size = len(metric.buckets) + 2 if histogram else metric.copies
            self.cells[metric], end = _places(end, counts[metric], size)
        self.summed = end
        for metric in recorded:
            if metric.exemplars:
                size = (len(metric.buckets) + 1) * EXEMPLAR_CELLS
                self.exemplars[metric], end = _places(end, counts[metric], size)
        self.units, end = _places(end, layout.models + 1, SIZE)
        self.overflows, end = _places(end, layout.count(CALLER), 2 * OVERFLOW_CELLS)
        end *= DOUBLE
        for metric in recorded:
            if metric.kind is Kind.INFO:
                size = metric.copies * len(metric.texts) * TEXT_BYTES
                self.texts[metric], end = _places(end, counts[metric], size)
        self.stride = -(-end // _CACHE_LINE) * _CACHE_LINE // DOUBLE


def _children(layout: Layout, metric: Metric) -> int:
    count = 1
    for dimension in metric.by:
        if dimension is not WORKER:
            count *= layout.count(dimension)
    return count


def _places(begin: int, count: int, size: int) -> tuple[range, int]:
    """Where `count` things of that size begin, one after the other, and where they end."""
    end = begin + count * size
    return range(begin, end, size), end


def by_value(dimension: Dimension, places: range) -> dict[str, int]:
    """The places of a metric's children by the value of their last label."""
    return {value: place for (value,), place in zip(dimension.values, places, strict=True)}
