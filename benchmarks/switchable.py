"""A server like `ranker serve`, both exporters on, that records every other moment.

    python -m benchmarks.switchable MODEL METRICS_PORT MONITORING_API WINDOWS

After every few batches it stops recording, or resumes. At SIGUSR1 it writes to
the file WINDOWS, as JSON, what it has done since the last time: for each window
whether it recorded, how many seconds of CPU it used, and for how many requests.

This is what `benchmarks.metrics` measures: two processes that run the same code
differ by several per cent, and so does one process from a second to the next.
"""

from __future__ import annotations

import gc
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ranker.transport import environment

environment.prepare()  # as `ranker serve` does, before anything imports gRPC

from ranker import logs  # noqa: E402
from ranker.metrics.aggregates import Aggregates  # noqa: E402
from ranker.metrics.recorder import Recorder  # noqa: E402
from ranker.process import worker  # noqa: E402
from ranker.process.settings import Settings  # noqa: E402

BATCHES = 8
"""In a window. One more, before it, is left out: its requests began before the switch."""


class Recording(Recorder):
    """A recorder that falls silent after a few batches, and then records again.

    Args:
        aggregates: where to record.
        windows: the file to write what was measured to.
    """

    def __init__(self, aggregates: Aggregates, windows: Path) -> None:
        super().__init__(aggregates)
        self._batch = 0
        self._requests = 0
        self._began = 0.0
        self._windows: list[tuple[bool, float, int]] = []
        self._path = windows
        signal.signal(signal.SIGUSR1, self._write)

    def batch_scored(
        self,
        model: int,
        rows: int,
        requests: int,
        queue_seconds: Sequence[float],
        scoring_seconds: float,
    ) -> None:
        """Records it, and counts it."""
        super().batch_scored(model, rows, requests, queue_seconds, scoring_seconds)
        self._count(requests)

    def _count(self, requests: int) -> None:
        self._batch += 1
        self._requests += requests
        if self._batch == 1:
            self._requests = 0
            self._began = time.process_time()
        elif self._batch == BATCHES + 1:
            seconds = time.process_time() - self._began
            self._windows.append((type(self) is Recording, seconds, self._requests))
            self._batch = 0
            self._switch()

    def _switch(self) -> None:
        if type(self) is Recording:
            self.close()
            self.__class__ = Silent
        else:
            gc.callbacks.append(self._collected)
            self.__class__ = Recording

    def _write(self, *_: object) -> None:
        windows, self._windows = self._windows, []
        self._path.write_text(json.dumps(windows))


def _nothing(*arguments: object) -> None:
    """What the methods of `Silent` are."""


class Silent(Recording):
    """While it is silent: its methods do nothing."""

    def batch_scored(
        self,
        model: int,  # noqa: ARG002
        rows: int,  # noqa: ARG002
        requests: int,
        queue_seconds: Sequence[float],  # noqa: ARG002
        scoring_seconds: float,  # noqa: ARG002
    ) -> None:
        """Counts it."""
        self._count(requests)


for _name in vars(Recorder):
    if not _name.startswith("_") and _name not in ("batch_scored", "close"):
        setattr(Silent, _name, _nothing)


def main() -> None:
    """Serves until SIGTERM."""
    model, port, api, windows = sys.argv[1:]
    logs.configure()
    setattr(worker, "Recorder", lambda aggregates: Recording(aggregates, Path(windows)))  # noqa: B010
    worker.serve_alone(
        Settings(
            (model,),
            host="127.0.0.1",
            port=0,
            metrics_port=int(port),
            gcp_project="p",
            gcp_interval=10.0,
            gcp_emulator=api,
        )
    )


if __name__ == "__main__":
    main()
