"""The metrics' values: plain doubles in one file of memory, shared by all processes of a server.

The file has a header, which says how it is laid out; when models, shadows and callers got their
numbers, and what they are called; and one slot per process. A
process writes its own slot and nothing else. Whoever holds the file reads all slots
without asking their writers, and adds them up. A worker that replaces another goes on in its slot,
so that counters never go backwards and nothing piles up.

A slot holds, in this order: the writer's process id, and when it last said that it
moves (`ranker.process.heartbeat`); every cell that the
catalogue asks for, one per counter or gauge and one per bucket, plus the sum,
of a histogram; the exemplars; the texts of info metrics, in fields of fixed
length. Cells are aligned 8-byte doubles, which the processor stores whole. A
histogram's count is not stored, it is the sum of its buckets, so that the two
agree however a reader and a writer interleave. Between the exemplars and the texts are
the samples of units (`ranker.metrics.unit_sample`), and what callers have left of their quotas
(`ranker.metrics.caller_tokens`).
"""

from __future__ import annotations

import json
import mmap
import os
import time
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Self

from ranker.callers import MAX_NAME, MOST_CALLERS
from ranker.memory_file import new_memory_file
from ranker.metrics import catalogue
from ranker.metrics.catalogue import CALLER, MODEL, SHADOW
from ranker.metrics.layout import DOUBLE, TEXT_BYTES, Layout, Name
from ranker.metrics.metric import Dimension, Kind, Metric
from ranker.metrics.unit_sample import clear

_PID, _BEAT = 0, 1
_NAME_BYTES = 2 * TEXT_BYTES
_ENTRY_BYTES = _NAME_BYTES + TEXT_BYTES
"""Of a model: its name and version, and the version of its shadow."""
_CALLER_BYTES = MAX_NAME + 1


class Slot:
    """One process's part of the file, as its writer and its readers see it.

    Attributes:
        index: the number of the process.
        cells: all of it as doubles.
        bytes: all of it as bytes.
    """

    def __init__(self, index: int, part: memoryview, layout: Layout) -> None:
        self.index = index
        self.bytes = part
        self.cells: memoryview[float] = part.cast("d")
        self._plan = layout.plan

    @property
    def pid(self) -> int:
        """The process that writes here; 0 if there is none."""
        return int(self.cells[_PID])

    @property
    def last_beat(self) -> float:
        """When its writer last said that it moves, on the `time.monotonic` clock."""
        return self.cells[_BEAT]

    def beat(self, now: float) -> None:
        """Its writer moves: says so at that time, on the `time.monotonic` clock."""
        self.cells[_BEAT] = now

    def occupy(self) -> None:
        """Makes this process the writer; what its predecessor counted stays."""
        self.vacate()
        self.cells[_PID] = os.getpid()

    def vacate(self, cpu_seconds: float = 0.0) -> None:
        """Clears what the slot says of a process that is gone: its gauges, infos and pid.

        Args:
            cpu_seconds: the CPU time of that process.
        """
        self.cells[_PID] = 0
        for metric, places in self._plan.cells.items():
            if metric.kind in (Kind.GAUGE, Kind.INFO):
                for place in range(places.start, places.stop):
                    self.cells[place] = 0.0
        self.cells[self._plan.cells[catalogue.PROCESS_CPU][0]] += cpu_seconds

    def write_exemplar(self, place: int, trace_id: str, value: float, now: float) -> None:
        """Replaces the exemplar at `place`, one of a bucket."""
        # A reader takes it only if it finds the same time before and after.
        self.cells[place] = 0.0
        self.cells[place + 1] = value
        begin = (place + 2) * DOUBLE
        self.bytes[begin : begin + 16] = bytes.fromhex(trace_id)
        self.cells[place] = now

    def write_info(
        self, metric: Metric, child: int, texts: Mapping[str, str], copy: int = 0
    ) -> None:
        """Sets an info metric; texts not given are empty, long ones are cut.

        Args:
            metric: which.
            child: which of its children.
            texts: what it says.
            copy: which of the child's samples, below `metric.copies`.

        Raises:
            ValueError: a text is not among the metric's.
        """
        if unknown := texts.keys() - set(metric.texts):
            raise ValueError(f"{metric.name}: expected {metric.texts}, got {sorted(unknown)}")
        present = self._plan.cells[metric][child] + copy
        self.cells[present] = 0.0
        begin = self._plan.texts[metric][child] + copy * len(metric.texts) * TEXT_BYTES
        for name in metric.texts:
            self.bytes[begin : begin + TEXT_BYTES] = as_field(texts.get(name, ""))
            begin += TEXT_BYTES
        self.cells[present] = 1.0

    def clear_info(self, metric: Metric, child: int) -> None:
        """Ends what `write_info` has set."""
        present = self._plan.cells[metric][child]
        for copy in range(metric.copies):
            self.cells[present + copy] = 0.0


class Aggregates:
    """The file, mapped by one of the server's processes.

    Attributes:
        fd: the file's descriptor, for the processes that are to share it.
        layout: how it is laid out.
        started: when counting began, in seconds since the Unix epoch.
        slots: the processes' parts: workers first, then `layout.OTHERS`.
    """

    def __init__(self, fd: int) -> None:
        """Use `create` or `attach`."""
        buffer = mmap.mmap(fd, 0)
        self.fd = fd
        self.layout, self.started = _read_header(buffer)
        size = self.layout.plan.stride * DOUBLE
        begin = len(buffer) - self.layout.slots * size
        everything = memoryview(buffer)
        names = everything[begin - _names_size(self.layout) : begin]
        self._since = names[: _since_size(self.layout)].cast("d")
        self._names = names[_since_size(self.layout) :]
        self._callers_begin = self.layout.models * _ENTRY_BYTES
        self.slots = [
            Slot(index, everything[at : at + size], self.layout)
            for index, at in enumerate(range(begin, len(buffer), size))
        ]

    @classmethod
    def create(cls, layout: Layout) -> Self:
        """Makes the file. It has no name, and goes with the last process that holds it.

        Other processes inherit `fd`: `Popen(..., pass_fds=[aggregates.fd])`.
        """
        text = json.dumps(
            {
                "started": time.time(),
                "models": layout.models,
                "methods": layout.methods,
                "workers": layout.workers,
                "exporters": layout.exporters,
            }
        ).encode()
        header = text.ljust((len(text) // mmap.PAGESIZE + 1) * mmap.PAGESIZE, b"\0")
        fd = new_memory_file("ranker-metrics")
        os.write(fd, header)
        slots = layout.slots * layout.plan.stride * DOUBLE
        os.ftruncate(fd, len(header) + _names_size(layout) + slots)
        return cls(fd)

    @classmethod
    def attach(cls, fd: int) -> Self:
        """Maps the file that another process has made.

        Raises:
            OSError, ValueError: `fd` is not such a file.
        """
        return cls(fd)

    def since(self, metric: Metric, child: int) -> float:
        """When a child of a metric began to count, in seconds since the Unix epoch."""
        models = self.layout.models
        began = self.started
        if MODEL in metric.by:
            model = child // len(self.layout.of_model(metric, 0))
            if model < models:  # else it is of requests for no model that is served
                began = max(began, self._since[model])
            if SHADOW in metric.by and model < models:
                began = max(began, self._since[models + model])
        elif CALLER in metric.by:
            caller = child // len(self.layout.of_caller(metric, 0))
            if caller < MOST_CALLERS:
                began = max(began, self._since[2 * models + caller])
        return began

    def begin_model(self, model: int) -> None:
        """A model gets this number; one process alone may say so."""
        self._since[model] = time.time()

    def name_model(self, model: int, name: Name) -> None:
        """Says what a model is called; all workers that serve it say the same.

        Args:
            model: its number, below `layout.models`.
            name: its name and version; two empty texts free the number.
        """
        begin = model * _ENTRY_BYTES
        self._names[begin : begin + _NAME_BYTES] = b"".join(map(as_field, name))

    def name_shadow(self, model: int, version: str) -> None:
        """Says which version is a model's shadow; what was counted of another one is forgotten.

        Args:
            model: its number, below `layout.models`.
            version: the shadow's; empty: it has none.
        """
        if not self.has_shadow(model, version):
            begin = model * _ENTRY_BYTES + _NAME_BYTES
            self._names[begin : begin + TEXT_BYTES] = as_field(version)
            self._clear(model, SHADOW)
            self._since[self.layout.models + model] = time.time()

    def has_shadow(self, model: int, version: str) -> bool:
        """Whether this version is the model's shadow."""
        begin = model * _ENTRY_BYTES + _NAME_BYTES
        return self._names[begin : begin + TEXT_BYTES] == as_field(version)

    def name_callers(self, names: Sequence[str]) -> None:
        """Gives each of these callers a number; one process alone may do so.

        A caller keeps its number, and what was counted of it, also when it is not named any more,
        until there is no other number for a new one.

        Args:
            names: at most `MOST_CALLERS`.
        """
        had = self.callers()
        free = sorted(
            (number for number, name in enumerate(had) if name not in names),
            key=lambda number: had[number] != "",
        )
        for name, number in zip((each for each in names if each not in had), free, strict=False):
            if had[number]:
                self._clear_caller(number)
            self._since[2 * self.layout.models + number] = time.time()
            begin = self._callers_begin + number * _CALLER_BYTES
            self._names[begin : begin + _CALLER_BYTES] = name.encode().ljust(_CALLER_BYTES, b"\0")

    def callers(self) -> tuple[str, ...]:
        """The names of the callers, by their numbers; empty where there is none."""
        begin = self._callers_begin
        return tuple(
            read_field(self._names[at : at + _CALLER_BYTES])
            for at in range(begin, begin + MOST_CALLERS * _CALLER_BYTES, _CALLER_BYTES)
        )

    def _clear_caller(self, number: int) -> None:
        """Forgets what was counted of a caller."""
        for metric in self.layout.plan.cells:
            if CALLER in metric.by:
                own = self.layout.of_caller(metric, number)
                for slot in self.slots:
                    for place in range(own.start, own.stop):
                        slot.cells[place] = 0.0
        overflows = self.layout.plan.overflows
        for slot in self.slots:
            for place in range(overflows[number], overflows[number] + overflows.step):
                slot.cells[place] = 0.0

    def clear_model(self, model: int) -> None:
        """Forgets a model that no process serves any more: its name, and all that was counted."""
        self.name_shadow(model, "")
        self.name_model(model, ("", ""))
        self._clear(model, MODEL)
        for slot in self.slots:
            clear(slot.cells, self.layout.plan.units[model])

    def _clear(self, model: int, dimension: Dimension) -> None:
        """Forgets what metrics of a dimension have counted of a model."""
        for metric in self.layout.plan.cells:
            if dimension not in metric.by:
                continue
            own = self.layout.of_model(metric, model)
            exemplars = self.layout.exemplars_of_model(metric, model)
            for slot in self.slots:
                for place in chain(
                    range(own.start, own.stop), range(exemplars.start, exemplars.stop)
                ):
                    slot.cells[place] = 0.0

    def names(self) -> tuple[Name, ...]:
        """The names and versions of the models, by their numbers; empty where there is none."""
        fields = self._fields()
        return tuple(zip(fields[::3], fields[1::3], strict=True))

    def shadows(self) -> tuple[str, ...]:
        """The versions of the models' shadows, by the models' numbers; empty: it has none."""
        return tuple(self._fields()[2::3])

    def _fields(self) -> list[str]:
        return [
            read_field(self._names[begin : begin + TEXT_BYTES])
            for begin in range(0, self.layout.models * _ENTRY_BYTES, TEXT_BYTES)
        ]


def as_field(text: str) -> bytes:
    """A text as a field of `TEXT_BYTES`, cut if it is longer."""
    # A cut may fall within a character, which the reader then drops; so are
    # surrogates here, which a file's name may hold.
    return text.encode("utf-8", "replace")[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")


def read_field(field: bytes | memoryview) -> str:
    """What `as_field` wrote."""
    return bytes(field).rstrip(b"\0").decode("utf-8", "ignore")


def _since_size(layout: Layout) -> int:
    """The bytes of when models, their shadows, and callers got their numbers."""
    return (2 * layout.models + MOST_CALLERS) * DOUBLE


def _names_size(layout: Layout) -> int:
    """The bytes of that, and of the models' names and the callers': whole pages."""
    size = _since_size(layout) + layout.models * _ENTRY_BYTES + MOST_CALLERS * _CALLER_BYTES
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE


def _read_header(buffer: mmap.mmap) -> tuple[Layout, float]:
    """The layout, and when counting began."""
    header = json.loads(buffer[: buffer.find(b"\0")])
    layout = Layout(
        header["models"],
        tuple(header["methods"]),
        header["workers"],
        tuple(header["exporters"]),
    )
    return layout, header["started"]
