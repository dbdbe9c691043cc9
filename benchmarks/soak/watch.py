"""What a server holds over time: memory, file descriptors, threads."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

MIB = 2**20


@dataclass(frozen=True)
class Sample:
    """One look at a server's processes, added up.

    Attributes:
        seconds: since the watch began.
        rss: resident bytes.
        fds: open file descriptors.
        threads: threads.
        cpu: seconds of CPU time so far.
    """

    seconds: float
    rss: int
    fds: int
    threads: int
    cpu: float

    def __str__(self) -> str:
        return f"{self.rss / MIB:.1f} MiB resident, {self.fds} fds, {self.threads} threads"


class Watch:
    """Samples a process and its children until it is left.

    Args:
        pid: the process.
        interval: seconds between samples.

    Attributes:
        samples: what it has seen so far.
    """

    def __init__(self, pid: int, interval: float) -> None:
        self.samples: list[Sample] = []
        self._process = psutil.Process(pid)
        self._interval = interval
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch")

    def look(self) -> Sample:
        """A sample of now."""
        processes = [self._process, *self._process.children(recursive=True)]
        return Sample(
            time.monotonic() - self._began,
            sum(process.memory_info().rss for process in processes),
            sum(process.num_fds() for process in processes),
            sum(process.num_threads() for process in processes),
            sum(sum(process.cpu_times()[:2]) for process in processes),
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self.samples.append(self.look())


@dataclass(frozen=True)
class Growth:
    """How a server's memory went once it was warm, which it is after a third of the time.

    Attributes:
        middle: median bytes of the second third.
        last: median bytes of the last third.
        slope: bytes per second, fitted to both.
    """

    middle: float
    last: float
    slope: float

    @classmethod
    def of(cls, samples: list[Sample]) -> Growth:
        """Needs at least six samples."""
        third = len(samples) // 3
        middle, last = samples[third : 2 * third], samples[2 * third :]
        fit = statistics.linear_regression(
            [sample.seconds for sample in middle + last], [sample.rss for sample in middle + last]
        )
        return cls(
            statistics.median(sample.rss for sample in middle),
            statistics.median(sample.rss for sample in last),
            fit.slope,
        )

    @property
    def gained(self) -> float:
        """Bytes from the middle third to the last."""
        return self.last - self.middle
