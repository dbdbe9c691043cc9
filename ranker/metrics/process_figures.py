"""CPU time, memory, open files and start of a server's processes, as the system tells them."""

from __future__ import annotations

from collections.abc import Iterator

import psutil

from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.families import Family, Sample
from ranker.metrics.metric import Metric


class ProcessFigures:
    """What the operating system knows of a server's processes.

    Args:
        aggregates: has the processes.
    """

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
