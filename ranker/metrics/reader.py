"""All metrics of a server, as exporters read them: what was recorded, and what follows from it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from threading import Event, Lock, Thread

import psutil

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.drift import Drift
from ranker.metrics.drift import families as drift_families
from ranker.metrics.families import Family, Sample
from ranker.metrics.gpu import GpuMonitor
from ranker.metrics.metric import Metric
from ranker.metrics.snapshot import snapshot
from ranker.metrics.unit_sample import SplitCheck, split_checks

_WINDOW_SECONDS = 10
_TICK_SECONDS = 1.0

_PerWorker = tuple[float, ...]


class Reader:
    """The `families.Source` of a server; one per server, in its office.

    A thread looks at the engines' busy time once a second, so that utilisation
    is that of the last ten seconds whoever reads, and however often.

    Args:
        aggregates: what was counted.
        drift: what was counted of features; None: nothing.

    Attributes:
        drift: likewise.
    """

    def __init__(self, aggregates: Aggregates, drift: Drift | None = None) -> None:
        self.drift = drift or Drift()
        self.started = aggregates.started
        self._aggregates = aggregates
        self._processes = _Processes(aggregates)
        self._gpu = GpuMonitor()
        self._utilization = _Utilization(aggregates)
        self._lock = Lock()
        self._closed = Event()
        self._thread = Thread(target=self._tick, name="metrics-tick", daemon=True)
        self._thread.start()

    def snapshot(self) -> Sequence[Family]:
        """Every metric now, in the catalogue's order. May be called from any thread."""
        families = {family.metric: family for family in snapshot(self._aggregates)}
        with self._lock:
            gpus = [sample.labels[0] for sample in families[catalogue.GPU_INFO].samples]
            for family in (
                *self._utilization.read(),
                *self._processes.read(families[catalogue.PROCESS_CPU]),
                *self._gpu.read(gpus),
            ):
                families[family.metric] = family
        for family in (*_splits(self.splits()), *drift_families(self.drift.models())):
            families[family.metric] = family
        return [families[metric] for metric in catalogue.METRICS]

    def serving(self) -> int:
        """How many workers serve now."""
        [place] = self._aggregates.layout.plan.cells[catalogue.WORKERS_SERVING]
        return int(sum(slot.cells[place] for slot in self._aggregates.slots))

    def splits(self) -> list[SplitCheck]:
        """What is known of each split of the traffic. May be called from any thread."""
        return list(split_checks(self._aggregates))

    def close(self) -> None:
        """Stops the thread."""
        self._closed.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                self._utilization.tick()


def _splits(checks: Sequence[SplitCheck]) -> Iterator[Family]:
    """The families of the splits."""
    shares: list[Sample] = []
    units: list[Sample] = []
    for check in checks:
        for version, share, count in zip(check.versions, check.shares, check.units, strict=True):
            shares.append(Sample((check.model, version), share))
            units.append(Sample((check.model, version), float(count)))
    yield Family(catalogue.SPLIT_SHARE, tuple(shares))
    yield Family(catalogue.SPLIT_UNITS, tuple(units))
    found = [(check.model, check.p_value) for check in checks if check.p_value is not None]
    yield Family(catalogue.SPLIT_P_VALUE, tuple(Sample((name,), p) for name, p in found))


class _Utilization:
    """How busy workers and engines were over the last seconds."""

    def __init__(self, aggregates: Aggregates) -> None:
        self._workers = aggregates.slots[: aggregates.layout.workers]
        [self._busy] = aggregates.layout.plan.cells[catalogue.ENGINE_BUSY]
        [self._alive] = aggregates.layout.plan.cells[catalogue.WORKERS]
        [self._worked] = aggregates.layout.plan.cells[catalogue.WORKER_BUSY]
        [self._load] = aggregates.layout.plan.cells[catalogue.ENGINE_LOAD]
        self._seen: deque[tuple[float, _PerWorker, _PerWorker, _PerWorker]]
        self._seen = deque(maxlen=_WINDOW_SECONDS)
        self.tick()

    def tick(self) -> None:
        places = self._busy, self._load, self._worked
        busy, engines, loops = (self._of(place) for place in places)
        self._seen.append((time.monotonic(), busy, engines, loops))

    def read(self) -> Iterator[Family]:
        then, *before = self._seen[0]
        seconds = (time.monotonic() - then) * max(sum(self._of(self._alive)), 1.0)
        busy, engines, loops = (
            [max(0.0, new - old) for new, old in zip(self._of(place), olds, strict=True)]
            for place, olds in zip((self._busy, self._load, self._worked), before, strict=True)
        )
        workers = map(max, engines, loops)
        for metric, total in (
            (catalogue.ENGINE_UTILIZATION, sum(busy)),
            (catalogue.WORKER_UTILIZATION, sum(workers)),
        ):
            yield Family(metric, (Sample((), total / seconds if seconds > 0 else 0.0),))

    def _of(self, place: int) -> _PerWorker:
        return tuple(worker.cells[place] for worker in self._workers)


class _Processes:
    """What the operating system knows of the processes."""

    def __init__(self, aggregates: Aggregates) -> None:
        self._layout = aggregates.layout
        self._slots = aggregates.slots
        self._current: list[psutil.Process | None] = [None] * len(self._slots)
        self._cpu = [0.0] * len(self._slots)

    def read(self, recorded_cpu: Family) -> Iterator[Family]:
        """The families of the processes.

        Args:
            recorded_cpu: the CPU time of the processes that have ended.
        """
        ended = {sample.labels[0]: sample.value for sample in recorded_cpu.samples}
        samples: dict[Metric, list[Sample]] = {
            catalogue.PROCESS_CPU: [],
            catalogue.PROCESS_MEMORY: [],
            catalogue.PROCESS_FDS: [],
            catalogue.PROCESS_START: [],
        }
        for slot in self._slots:
            name = self._layout.process(slot.index)
            values = self._ask(slot.index, slot.pid)
            before = ended.get(name, 0.0)
            assert isinstance(before, float)
            # The moment at which a process ends, and is counted as ended, must not show.
            cpu = max(self._cpu[slot.index], before + values.get(catalogue.PROCESS_CPU, 0.0))
            if cpu:
                self._cpu[slot.index] = values[catalogue.PROCESS_CPU] = cpu
            for metric, value in values.items():
                samples[metric].append(Sample((name,), value))
        for metric, found in samples.items():
            yield Family(metric, tuple(found))

    def _ask(self, index: int, pid: int) -> dict[Metric, float]:
        """The figures of a slot's process now; none if it is gone."""
        process = self._current[index]
        try:
            if pid and (process is None or process.pid != pid or not process.is_running()):
                process = self._current[index] = psutil.Process(pid)
            if not pid or process is None:
                return {}
            with process.oneshot():
                times = process.cpu_times()
                return {
                    catalogue.PROCESS_CPU: times.user + times.system,
                    catalogue.PROCESS_MEMORY: float(process.memory_info().rss),
                    catalogue.PROCESS_FDS: float(process.num_fds()),
                    catalogue.PROCESS_START: process.create_time(),
                }
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return {}
