"""All metrics of a server, as exporters read them: what was recorded, and what follows from it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from threading import Event, Lock, Thread

import psutil

from ranker.metrics import catalogue as catalog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Family, Sample
from ranker.metrics.gpu import GpuMonitor
from ranker.metrics.metric import Metric

SUPERVISOR = "supervisor"
"""The `worker` of the process that publishes, where that is not a worker itself."""

_WINDOW_SECONDS = 10
_TICK_SECONDS = 1.0


class Reader:
    """The `families.Source` of a server; one per server, in the process that publishes.

    A thread looks at the engines' busy time once a second, so that utilisation
    is that of the last ten seconds whoever reads, and however often.
    """

    def __init__(self, aggregates: Aggregates) -> None:
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
        families = {family.metric: family for family in self._aggregates.snapshot()}
        with self._lock:
            gpus = [sample.labels[0] for sample in families[catalog.GPU_INFO].samples]
            for family in (
                self._utilization.read(), *self._processes.read(), *self._gpu.read(gpus)
            ):  # fmt: skip
                families[family.metric] = family
        return [families[metric] for metric in catalog.METRICS]

    def close(self) -> None:
        """Stops the thread."""
        self._closed.set()
        self._thread.join()

    def _tick(self) -> None:
        while not self._closed.wait(_TICK_SECONDS):
            with self._lock:
                self._utilization.tick()


class _Utilization:
    """The engines' busy time over the last seconds."""

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        [self._busy] = aggregates.offsets(catalog.ENGINE_BUSY)
        [self._alive] = aggregates.offsets(catalog.WORKERS)
        self._seen: deque[tuple[float, float]] = deque(maxlen=_WINDOW_SECONDS)
        self.tick()

    def tick(self) -> None:
        self._seen.append((time.monotonic(), self._sum(self._busy)))

    def read(self) -> Family:
        then, busy = self._seen[0]
        seconds = (time.monotonic() - then) * max(self._sum(self._alive), 1.0)
        ratio = (self._sum(self._busy) - busy) / seconds if seconds > 0 else 0.0
        return Family(catalog.ENGINE_UTILIZATION, (Sample((), ratio),))

    def _sum(self, offset: int) -> float:
        workers = range(self._aggregates.layout.workers)
        return sum(self._aggregates.cells(worker)[offset] for worker in workers)


class _Processes:
    """What the operating system knows of the processes."""

    def __init__(self, aggregates: Aggregates) -> None:
        self._aggregates = aggregates
        slots = aggregates.layout.workers + 1
        self._current: list[psutil.Process | None] = [None] * slots
        # CPU time of a slot's processes: of those before the current one, and its own.
        self._cpu_before = [0.0] * slots
        self._cpu = [0.0] * slots

    def read(self) -> Iterator[Family]:
        samples: dict[Metric, list[Sample]] = {
            catalog.PROCESS_CPU: [],
            catalog.PROCESS_MEMORY: [],
            catalog.PROCESS_FDS: [],
            catalog.PROCESS_START: [],
        }
        for slot, pid in enumerate(self._aggregates.pids()):
            labels = (SUPERVISOR if slot == self._aggregates.publisher else str(slot),)
            for metric, value in self._look(slot, pid):
                samples[metric].append(Sample(labels, value))
            if cpu := self._cpu_before[slot] + self._cpu[slot]:
                samples[catalog.PROCESS_CPU].append(Sample(labels, cpu))
        for metric, found in samples.items():
            yield Family(metric, tuple(found))

    def _look(self, slot: int, pid: int) -> list[tuple[Metric, float]]:
        """The gauges of the slot's process, none if it is gone; takes its CPU time over."""
        process = self._current[slot]
        try:
            if pid and (process is None or process.pid != pid or not process.is_running()):
                process = self._current[slot] = psutil.Process(pid)
                self._cpu_before[slot] += self._cpu[slot]
                self._cpu[slot] = 0.0
            if not pid or process is None:
                return []
            with process.oneshot():
                times = process.cpu_times()
                self._cpu[slot] = times.user + times.system
                return [
                    (catalog.PROCESS_MEMORY, float(process.memory_info().rss)),
                    (catalog.PROCESS_FDS, float(process.num_fds())),
                    (catalog.PROCESS_START, process.create_time()),
                ]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            return []
