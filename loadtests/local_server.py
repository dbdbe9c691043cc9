"""A server to load, started for the occasion and ended after it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ranker.client import RankerClient

READY_SECONDS = 60.0
STOP_SECONDS = 40.0
"""More than the server's own limit for draining."""


@dataclass(frozen=True)
class LocalServer:
    """A server that serves.

    Attributes:
        target: its gRPC address.
        metrics: the URL of its metrics.
        pid: its process; 0 if it was not started here.
    """

    target: str
    metrics: str
    pid: int = 0


@contextmanager
def local_server(model: Path, log: Path, *arguments: str) -> Iterator[LocalServer]:
    """Serves a model on free ports of the loopback interface.

    Args:
        model: an ONNX file.
        log: where the server's log goes.
        arguments: further ones of `ranker serve`.

    Raises:
        RuntimeError: it did not start, or did not end with exit code 0.
    """
    command = [sys.executable, "-m", "ranker", "serve", str(model), *arguments]
    ports = ["--host", "127.0.0.1", "--port", "0", "--metrics-port", "0", "--log-format", "text"]
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, *ports], stdout=stream, stderr=stream)
    try:
        port = _logged(r"listening on \S+:(\d+)", log, process)
        metrics_port = _logged(r"metrics on port (\d+)", log, process)
        metrics = f"http://127.0.0.1:{metrics_port}/metrics"
        server = LocalServer(f"127.0.0.1:{port}", metrics, process.pid)
        with RankerClient(server.target) as client:
            client.wait_ready(READY_SECONDS)
        yield server
        process.terminate()
        if process.wait(STOP_SECONDS) != 0:
            raise RuntimeError(f"the server ended badly:\n{log.read_text()}")
    finally:
        process.kill()
        process.wait()


def _logged(pattern: str, log: Path, process: subprocess.Popen[bytes]) -> str:
    limit = time.monotonic() + READY_SECONDS
    while True:
        ended = process.poll() is not None
        text = log.read_text()
        if found := re.search(pattern, text):
            return found[1]
        if ended or time.monotonic() > limit:
            raise RuntimeError(f"the server did not start:\n{text}")
        time.sleep(0.02)
