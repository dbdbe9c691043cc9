"""Every recorded metric at one moment, over all processes of a server."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ranker.metrics.aggregates import Aggregates, read_field
from ranker.metrics.catalogue import WORKER
from ranker.metrics.families import Distribution, Exemplar, Family, Sample
from ranker.metrics.layout import DOUBLE, EXEMPLAR_CELLS, TEXT_BYTES, Name
from ranker.metrics.metric import Across, Kind, Metric


def snapshot(aggregates: Aggregates) -> list[Family]:
    """Reads and adds up all slots; derived metrics are not here."""
    return _Snapshot(aggregates).families()


class _Snapshot:
    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        self._slots = aggregates.slots
        self._layout = aggregates.layout
        self._plan = aggregates.layout.plan
        self._names: tuple[Name, ...] = aggregates.names()
        self._shadows = aggregates.shadows()
        self._callers = aggregates.callers()
        self._rows = [slot.cells[: self._plan.summed].tolist() for slot in self._slots]

    def families(self) -> list[Family]:
        families = []
        for metric in self._plan.cells:
            if metric.kind is Kind.INFO:
                samples = self._info_samples(metric)
            elif WORKER in metric.by:
                samples = self._process_samples(metric)
            else:
                samples = self._server_samples(metric)
            families.append(Family(metric, tuple(samples)))
        return families

    def _children(self, metric: Metric) -> Iterator[tuple[int, int, tuple[str, ...]]]:
        """Number, first cell and label values of each child that there is."""
        labels = self._layout.children(metric, self._names, self._shadows, self._callers)
        for child, (place, values) in enumerate(zip(self._plan.cells[metric], labels, strict=True)):
            if values is not None:
                yield child, place, values

    def _server_samples(self, metric: Metric) -> Iterator[Sample]:
        for child, place, labels in self._children(metric):
            # Child by child: most cells are of models that there are not, and nobody asks for.
            parts = [self._cells(metric, place, row) for row in self._rows]
            total = list(map(sum, zip(*parts, strict=True)))
            if not total[0] and metric.is_rare(labels):
                continue
            if metric.across is Across.MAX:
                yield Sample(labels, max(cells[0] for cells in parts))
            else:
                value = self._value(metric, child, total)
                yield Sample(labels, value, self._aggregates.since(metric, child))

    def _process_samples(self, metric: Metric) -> Iterator[Sample]:
        """Of workers; of the other processes too where they have counted something."""
        for slot, row in zip(self._slots, self._rows, strict=True):
            for child, place, labels in self._children(metric):
                if slot.index < self._layout.workers or row[place]:
                    value = self._value(metric, child, self._cells(metric, place, row))
                    yield Sample((self._layout.process(slot.index), *labels), value)

    def _cells(self, metric: Metric, place: int, row: Sequence[float]) -> Sequence[float]:
        """Those of the child of a metric whose first one is at `place`."""
        return row[place : place + self._plan.cells[metric].step]

    def _value(self, metric: Metric, child: int, cells: Sequence[float]) -> float | Distribution:
        """What the cells of a child say: one, or a histogram's buckets and sum."""
        if metric.kind is not Kind.HISTOGRAM:
            return cells[0]
        counts, total = tuple(map(int, cells[:-1])), cells[-1]
        exemplars = self._exemplars(metric, child, counts) if metric.exemplars else ()
        return Distribution(counts, total, exemplars)

    def _info_samples(self, metric: Metric) -> Iterator[Sample]:
        """What the slots say, each once: workers mostly agree."""
        length = len(metric.texts) * TEXT_BYTES
        for child, place, labels in self._children(metric):
            begin = self._plan.texts[metric][child]
            seen = {
                bytes(slot.bytes[begin + copy * length : begin + (copy + 1) * length])
                for slot in self._slots
                for copy in range(metric.copies)
                if slot.cells[place + copy] == 1.0
            }
            for data in sorted(seen):
                texts = (data[i : i + TEXT_BYTES] for i in range(0, length, TEXT_BYTES))
                yield Sample((*labels, *map(read_field, texts)), 1.0)

    def _exemplars(
        self, metric: Metric, child: int, counts: Sequence[int]
    ) -> tuple[Exemplar | None, ...]:
        """Those of the buckets; most buckets are empty, and have none."""
        begin = self._plan.exemplars[metric][child]
        return tuple(
            self._exemplar(begin + bucket * EXEMPLAR_CELLS) if count else None
            for bucket, count in enumerate(counts)
        )

    def _exemplar(self, place: int) -> Exemplar | None:
        """The latest of all slots."""
        slot = max(self._slots, key=lambda slot: slot.cells[place])
        recorded, value = slot.cells[place], slot.cells[place + 1]
        begin = (place + 2) * DOUBLE
        trace_id = bytes(slot.bytes[begin : begin + 16]).hex()
        if recorded == 0.0 or slot.cells[place] != recorded:
            return None
        return Exemplar(trace_id, value, recorded)
