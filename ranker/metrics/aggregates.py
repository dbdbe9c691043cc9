"""The metrics' values: plain doubles in one buffer, shared by all worker processes.

The buffer has a header, which says how it is laid out, and one slot per
process: worker i writes slot i and nothing else, and the process that publishes
(the supervisor; with one process, that one) has the last slot. Whoever holds
the buffer reads all slots without asking their writers, and adds them up. A
worker that replaces another goes on in its slot, so that counters never go
backwards and nothing piles up.

A slot holds, in this order: the writer's process id; every cell that the
catalogue asks for, one per counter or gauge and one per bucket, plus the sum,
of a histogram; the exemplars; the texts of info metrics, in fields of fixed
length. Cells are aligned 8-byte doubles, which the processor stores whole. A
histogram's count is not stored, it is the sum of its buckets, so that the two
agree however a reader and a writer interleave.
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ranker.metrics.catalogue import METHOD, METRICS, MODEL, WORKER
from ranker.metrics.families import Distribution, Exemplar, Family, Sample
from ranker.metrics.metric import Across, Dimension, Kind, Metric

UNKNOWN = "unknown"
"""The method, or the model, of requests whose own is not among those served."""

TEXT_BYTES = 128
"""The length of a text field in UTF-8; what is longer is cut."""

EXEMPLAR_CELLS = 4
"""What an exemplar takes: its time (0: there is none), its value, 16 bytes of trace id."""

_DOUBLE = 8
_CACHE_LINE = 64
_PID = 0
_CELLS_BEGIN = 1


@dataclass(frozen=True)
class Layout:
    """What is counted apart from what: the label values known when the server starts.

    Attributes:
        models: name and version of each model.
        methods: full method names, as gRPC has them: `/package.Service/Method`.
        workers: the number of worker processes.

    Raises:
        ValueError: two models or two methods are the same, or there is no worker.
    """

    models: tuple[tuple[str, str], ...]
    methods: tuple[str, ...]
    workers: int = 1

    def __post_init__(self) -> None:
        """Refuses what would make two children of a metric the same."""
        if self.workers < 1:
            raise ValueError(f"workers: expected at least 1, got {self.workers}")
        for what, values in (("models", self.models), ("methods", self.methods)):
            if len(set(values)) < len(values):
                raise ValueError(f"{what}: each may appear once, got {values}")

    def values(self, dimension: Dimension) -> tuple[tuple[str, ...], ...]:
        """The values of a dimension, `unknown` last where it may occur."""
        if dimension is MODEL:
            return (*self.models, (UNKNOWN, ""))
        if dimension is METHOD:
            return (*((method.removeprefix("/"),) for method in self.methods), (UNKNOWN,))
        return dimension.values

    def children(self, metric: Metric) -> tuple[tuple[str, ...], ...]:
        """The label values of each of the metric's cells in a slot, in the cells' order.

        The slot itself is the worker, which is therefore not among them.
        """
        dimensions = [d for d in metric.by if d is not WORKER]
        return tuple(
            tuple(value for values in combination for value in values)
            for combination in product(*(self.values(d) for d in dimensions))
        )


class Aggregates:
    """The buffer, as its writers and its readers see it."""

    def __init__(self, buffer: mmap.mmap, fd: int | None = None) -> None:
        """Use `private`, `shared` or `attach`."""
        self.fd = fd
        self.layout, self.started = _read_header(buffer)
        self._plan = _Plan(self.layout)
        slots = self.layout.workers + 1
        size = self._plan.stride * _DOUBLE
        begin = len(buffer) - slots * size
        everything = memoryview(buffer)
        self._slots = [everything[i : i + size] for i in range(begin, len(buffer), size)]
        self._cells = [slot.cast("d") for slot in self._slots]
        table = np.frombuffer(buffer, np.float64, offset=begin).reshape(slots, -1)
        self._table: NDArray[np.float64] = table[:, : self._plan.texts_begin]

    @classmethod
    def private(cls, layout: Layout) -> Self:
        """For a server of one process: that process writes and reads."""
        header, size = _new_buffer(layout)
        buffer = mmap.mmap(-1, size)
        buffer[: len(header)] = header
        return cls(buffer)

    @classmethod
    def shared(cls, layout: Layout) -> Self:
        """For a supervisor (Linux only): makes the buffer that its workers `attach` to.

        It lives in memory, has no name, and goes with the last process that holds
        it. Workers inherit `fd`: `Popen(..., pass_fds=[aggregates.fd])`.
        """
        header, size = _new_buffer(layout)
        fd = os.memfd_create("ranker-metrics")
        os.ftruncate(fd, size)
        buffer = mmap.mmap(fd, size)
        buffer[: len(header)] = header
        return cls(buffer, fd)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """For a worker: maps the supervisor's buffer, which says itself how it is laid out.

        Args:
            fd: the supervisor's `fd`, inherited; the caller may close it afterwards.

        Raises:
            OSError, ValueError: `fd` is not such a buffer.
        """
        return cls(mmap.mmap(fd, 0))

    @property
    def publisher(self) -> int:
        """The slot of the process that publishes."""
        return self.layout.workers

    def cells(self, slot: int) -> memoryview[float]:
        """A slot's cells, for its writer; `offsets` says which is which."""
        return self._cells[slot]

    def occupy(self, slot: int) -> memoryview[float]:
        """Makes this process the slot's writer; what its predecessor counted stays.

        Returns:
            The slot's cells.
        """
        self.vacate(slot)
        self._cells[slot][_PID] = os.getpid()
        return self._cells[slot]

    def vacate(self, slot: int) -> None:
        """Clears what a slot says of a process that is gone: its gauges, infos and pid."""
        self._cells[slot][_PID] = 0
        for metric in self._plan.offsets:
            if metric.kind in (Kind.GAUGE, Kind.INFO):
                for offset in self._plan.offsets[metric]:
                    self._cells[slot][offset] = 0

    def pids(self) -> list[int]:
        """Each slot's process; 0 if it has none."""
        return [int(cells[_PID]) for cells in self._cells]

    def offsets(self, metric: Metric) -> tuple[int, ...]:
        """Where each of `Layout.children` begins among the cells of a slot.

        A histogram has one cell per bucket from there on, then one for the sum.
        """
        return self._plan.offsets[metric]

    def exemplar_offsets(self, metric: Metric) -> tuple[int, ...]:
        """Where the exemplars of each of `Layout.children` begin among the cells of a slot."""
        return self._plan.exemplars[metric]

    def write_exemplar(
        self, slot: int, offset: int, trace_id: str, value: float, now: float
    ) -> None:
        """Replaces the exemplar at `offset`, a bucket's: `exemplar_offsets` + bucket * 4."""
        cells = self._cells[slot]
        # A reader takes it only if it finds the same time before and after.
        cells[offset] = 0.0
        cells[offset + 1] = value
        begin = (offset + 2) * _DOUBLE
        self._slots[slot][begin : begin + 16] = bytes.fromhex(trace_id)
        cells[offset] = now

    def write_info(self, slot: int, metric: Metric, child: int, texts: Mapping[str, str]) -> None:
        """Sets an info metric; texts not given are empty, long ones are cut.

        Raises:
            ValueError: a text is not among the metric's.
        """
        if unknown := texts.keys() - set(metric.texts):
            raise ValueError(f"{metric.name}: expected {metric.texts}, got {sorted(unknown)}")
        present = self._plan.offsets[metric][child]
        self._cells[slot][present] = 0.0
        begin = self._plan.texts[metric][child]
        for name in metric.texts:
            # A cut may fall within a character, which the reader then drops; so
            # are surrogates here, which a file's name may hold.
            data = texts.get(name, "").encode("utf-8", "replace")[:TEXT_BYTES]
            self._slots[slot][begin : begin + TEXT_BYTES] = data.ljust(TEXT_BYTES, b"\0")
            begin += TEXT_BYTES
        self._cells[slot][present] = 1.0

    def snapshot(self) -> list[Family]:
        """Every recorded metric, over all slots; derived ones are not here."""
        table = self._table.copy()
        total = table.sum(axis=0).tolist()
        most = table.max(axis=0).tolist()
        families = []
        for metric, offsets in self._plan.offsets.items():
            samples: Iterator[Sample] | Sequence[Sample]
            if metric.kind is Kind.INFO:
                samples = self._info_samples(metric)
            elif WORKER in metric.by:
                samples = self._worker_samples(metric, table)
            else:
                values = most if metric.across is Across.MAX else total
                samples = [
                    Sample(labels, self._value(metric, child, offset, values))
                    for child, (labels, offset) in enumerate(
                        zip(self.layout.children(metric), offsets, strict=True)
                    )
                ]
            families.append(Family(metric, tuple(samples)))
        return families

    def _value(
        self, metric: Metric, child: int, offset: int, values: Sequence[float]
    ) -> float | Distribution:
        if metric.kind is not Kind.HISTOGRAM:
            return values[offset]
        end = offset + len(metric.buckets) + 1
        counts = tuple(int(count) for count in values[offset:end])
        exemplars = self._read_exemplars(metric, child) if metric.exemplars else ()
        return Distribution(counts, values[end], exemplars)

    def _worker_samples(self, metric: Metric, table: NDArray[np.float64]) -> Iterator[Sample]:
        for worker in range(self.layout.workers):
            values = table[worker].tolist()
            for child, (labels, offset) in enumerate(
                zip(self.layout.children(metric), self._plan.offsets[metric], strict=True)
            ):
                value = self._value(metric, child, offset, values)
                yield Sample((str(worker), *labels), value)

    def _info_samples(self, metric: Metric) -> Iterator[Sample]:
        """What the slots say, each once: workers mostly agree."""
        length = len(metric.texts) * TEXT_BYTES
        for child, labels in enumerate(self.layout.children(metric)):
            begin = self._plan.texts[metric][child]
            seen = {
                bytes(slot[begin : begin + length])
                for slot, cells in zip(self._slots, self._cells, strict=True)
                if cells[self._plan.offsets[metric][child]] == 1.0
            }
            for data in sorted(seen):
                texts = (data[i : i + TEXT_BYTES] for i in range(0, length, TEXT_BYTES))
                values = (text.rstrip(b"\0").decode("utf-8", "ignore") for text in texts)
                yield Sample((*labels, *values), 1.0)

    def _read_exemplars(self, metric: Metric, child: int) -> tuple[Exemplar | None, ...]:
        begin = self._plan.exemplars[metric][child]
        return tuple(
            self._read_exemplar(begin + bucket * EXEMPLAR_CELLS)
            for bucket in range(len(metric.buckets) + 1)
        )

    def _read_exemplar(self, offset: int) -> Exemplar | None:
        column = self._table[:, offset]
        slot = int(column.argmax())
        cells = self._cells[slot]
        recorded, value = cells[offset], cells[offset + 1]
        begin = (offset + 2) * _DOUBLE
        trace_id = bytes(self._slots[slot][begin : begin + 16]).hex()
        if recorded == 0.0 or cells[offset] != recorded:
            return None
        return Exemplar(trace_id, value, recorded)


class _Plan:
    """Where everything is in a slot; cells and exemplars in doubles, texts in bytes."""

    def __init__(self, layout: Layout) -> None:
        stored = [metric for metric in METRICS if not metric.derived]
        self.offsets: dict[Metric, tuple[int, ...]] = {}
        self.exemplars: dict[Metric, tuple[int, ...]] = {}
        self.texts: dict[Metric, tuple[int, ...]] = {}
        end = _CELLS_BEGIN
        for metric in stored:
            size = len(metric.buckets) + 2 if metric.kind is Kind.HISTOGRAM else 1
            count = len(layout.children(metric))
            self.offsets[metric] = tuple(range(end, end + count * size, size))
            end += count * size
        for metric in stored:
            if metric.exemplars:
                size = (len(metric.buckets) + 1) * EXEMPLAR_CELLS
                count = len(layout.children(metric))
                self.exemplars[metric] = tuple(range(end, end + count * size, size))
                end += count * size
        self.texts_begin = end
        end *= _DOUBLE
        for metric in stored:
            if metric.kind is Kind.INFO:
                size = len(metric.texts) * TEXT_BYTES
                count = len(layout.children(metric))
                self.texts[metric] = tuple(range(end, end + count * size, size))
                end += count * size
        # Whole cache lines, so that no two processes write to the same one.
        self.stride = -(-end // _CACHE_LINE) * _CACHE_LINE // _DOUBLE


def _new_buffer(layout: Layout) -> tuple[bytes, int]:
    """What a buffer begins with, and its whole length."""
    text = json.dumps({"started": time.time(), "layout": asdict(layout)}).encode()
    header = text.ljust((len(text) // mmap.PAGESIZE + 1) * mmap.PAGESIZE, b"\0")
    return header, len(header) + (layout.workers + 1) * _Plan(layout).stride * _DOUBLE


def _read_header(buffer: mmap.mmap) -> tuple[Layout, float]:
    """The layout, and when counting began."""
    header = json.loads(buffer[: buffer.find(b"\0")])
    layout = header["layout"]
    models = tuple((name, version) for name, version in layout["models"])
    return Layout(models, tuple(layout["methods"]), layout["workers"]), header["started"]
