"""A server and all that it depends on, each of which can be made to fail."""

from __future__ import annotations

import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.launch import RankerServer
from tests.chaos import clock, limits
from tests.chaos.truth import Truth
from tests.end_to_end.conftest import RunningServer
from tests.exporters.gcp_monitoring.metric_service import LocalMetricService
from tests.repository import buckets

MODEL, UNREAD = "books", "unread"
"""The model that is loaded and reloaded, and one for callers whose requests nobody can count."""
VERSIONS = ("7", "8", "9")
"""That the server is asked for in turn, and has fetched."""
UNSEEN = ("10", "11")
"""That lie in the bucket, too: what must be fetched while it is dead."""
WORKERS = 2
_DISK_MEBIBYTES = 8
_LOG_BYTES = 2 * 2**20


class Server(RunningServer):
    """One that is started with more in its environment."""

    program = ("-m", "tests.chaos.server")

    def __init__(self, log: Path, environment: dict[str, str], *arguments: str) -> None:
        RankerServer.__init__(self, *arguments, log=log, environment=environment)

    def workers(self) -> list[int]:
        """Their pids."""
        return [self.worker(index) for index in range(WORKERS)]


class Site:
    """A folder with a bucket, an API for metrics, a disk for the ranking log, and a server.

    Attributes:
        truth: what the models must say.
        bucket: where they are.
        api: what the metrics are sent to.
        disk: the folder of the ranking log, a disk of its own.
        clock: the server's; None where there is no C compiler.
        server: the one that was started last.
        first_call: the number of the load's first call that this server can have answered.
    """

    def __init__(self) -> None:
        self._held = ExitStack()

    def __enter__(self) -> Site:
        with self._held:
            enter = self._held.enter_context
            self._folder = Path(enter(tempfile.TemporaryDirectory()))
            self.truth = Truth(self._folder, (*VERSIONS, *UNSEEN))
            self.bucket = enter(buckets.google())
            os.environ.update(self.bucket.environment)  # for `publish`, too
            for version in (*VERSIONS, *UNSEEN):
                self.truth.publish(version, self.bucket.address)
            self.api = LocalMetricService(spacing=0.5)
            self._held.callback(self.api.stop)
            self.disk = self._folder / "disk"
            self.disk.mkdir()
            enter(limits.small_disk(self.disk, _DISK_MEBIBYTES))
            self.clock = clock.Clock(self._folder) if clock.compiler() else None
            self.ask_for(VERSIONS[0])
            self._logs = 0
            self.first_call = 0
            self.server = self._start("--port", "0")
            self._held.callback(lambda: self.server.kill())
            self._held = self._held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def ask_for(self, version: str) -> None:
        """Has the server's configuration name a version."""
        loaded = f"{MODEL}: {{source: '{self.bucket.address}', labels: {{stable: {version}}}}}"
        other = f"{UNREAD}: {{source: {VERSIONS[0]}.onnx}}"
        new = self._folder / "new.yaml"
        new.write_text(f"models: {{{loaded}, {other}}}\npoll_seconds: 1\n")
        new.rename(self._folder / "ranker.yaml")

    def processes(self) -> dict[int, str]:
        """The names of the server's processes that stay, by their pids."""
        server = self.server
        names = {server.process.pid: "supervisor", server.office(): "office"}
        return names | {pid: f"worker {i}" for i, pid in enumerate(server.workers())}

    def start_again(self) -> None:
        """Starts the server on the port that it had."""
        self.server = self._start("--port", self.server.address.rpartition(":")[2])

    def log(self) -> str:
        """What all servers have said."""
        return "\n".join(
            (self._folder / f"{number}.log").read_text() for number in range(self._logs)
        )

    def _start(self, *options: str) -> Server:
        log = self._folder / f"{self._logs}.log"
        self._logs += 1
        environment = {"GCE_METADATA_HOST": "127.0.0.1:1"}
        environment |= self.clock.environment if self.clock else {}
        places = {
            "--config": self._folder / "ranker.yaml", "--model-cache": self._folder / "cache",
            "--log-rankings": self.disk, "--log-max-bytes": _LOG_BYTES, "--log-rate": 1,
            "--gcp-emulator": self.api.address, "--gcp-project": "chaos", "--gcp-interval": 1,
            "--workers": WORKERS, "--log-format": "text",
        }  # fmt: skip
        arguments = [str(word) for pair in places.items() for word in pair]
        return Server(log, environment, *arguments, *options)
