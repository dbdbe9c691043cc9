"""Toy servers on every transport, each a subprocess, and raw clients."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.waiting import PATIENCE, wait_until

ROOT = Path(__file__).parents[2]

TRANSPORTS = [
    pytest.param(["aio"], id="aio"),
    pytest.param(["core"], id="core"),
    pytest.param(["core", "--own-readers"], id="core-with-grpc-reading"),
]


class ToyServer:
    """A running toy server and a channel to it."""

    def __init__(self, arguments: list[str], program: str = "toy_server.py") -> None:
        self.transport = (*arguments, "")[0]
        script = Path(__file__).with_name(program)
        environment = {k: v for k, v in os.environ.items() if k != "GRPC_EXPERIMENTS"}
        self._log = tempfile.TemporaryFile("a+")  # noqa: SIM115
        self.process = subprocess.Popen(
            [sys.executable, str(script), *arguments],
            env={**environment, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log()
        self.address = f"127.0.0.1:{int(line)}"
        self.channel = self.connect()

    def connect(self) -> grpc.Channel:
        """A channel that shares its connection with no other."""
        return grpc.insecure_channel(
            self.address,
            options=[
                ("grpc.use_local_subchannel_pool", 1),
                ("grpc.max_receive_message_length", -1),
                ("grpc.enable_retries", 0),
            ],
        )

    def unary(self, method: str, data: bytes = b"", case: str = "", **options: Any) -> bytes:
        """Calls a unary method."""
        call = self.channel.unary_unary(f"/toy/{method}")
        return call(data, **self._options(case, options))

    def stream(self, method: str, messages: Iterator[bytes], case: str = "", **options: Any) -> Any:
        """Calls a bidirectional method."""
        call = self.channel.stream_stream(f"/toy/{method}")
        return call(messages, **self._options(case, options))

    @staticmethod
    def _options(case: str, options: dict[str, Any]) -> dict[str, Any]:
        metadata = [("case", case)]
        if "server_deadline" in options:
            # As metadata, so that the server alone knows of this deadline: where the client
            # knows it too, its own cancelling can arrive before the server's clock strikes.
            metadata.append(("grpc-timeout", options.pop("server_deadline")))
        else:
            options.setdefault("timeout", PATIENCE)
        return {**options, "metadata": metadata}

    def journal(self, case: str = "") -> dict[str, Any]:
        """What the server has noted about a case, and about itself."""
        return json.loads(self.unary("Journal", case.encode()))

    def events(self, case: str) -> list[list[Any]]:
        """What happened to the calls of a case."""
        return self.journal(case)["events"]

    def await_closed(self, case: str, calls: int = 1) -> list[list[Any]]:
        """Waits until so many calls of a case are closed; returns these events."""

        def closed() -> list[list[Any]]:
            return [event for event in self.events(case) if event[0] == "closed"]

        wait_until(lambda: len(closed()) >= calls)
        return closed()

    def terminate(self) -> None:
        """Has the server leave."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> int:
        """Waits for the server's end; returns its exit status."""
        return self.process.wait(PATIENCE)

    def log(self) -> str:
        """What the server has logged so far."""
        self._log.seek(0)
        return self._log.read()

    def close(self) -> None:
        """Ends it all."""
        self.channel.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self._log.close()


@pytest.fixture(scope="session", params=TRANSPORTS)
def server(request) -> Iterator[ToyServer]:
    """One toy server per transport, for all tests that leave it running."""
    running = ToyServer(request.param)
    yield running
    assert running.process.poll() is None, "the server died on the way"
    running.close()


@pytest.fixture(params=TRANSPORTS[:2])
def start(request) -> Iterator[Callable[..., ToyServer]]:
    """Starts servers of a test's own."""
    started = []

    def start(*options: str) -> ToyServer:
        started.append(ToyServer([*request.param, *options]))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def case() -> str:
    """A fresh name to find a test's calls in the journal."""
    return uuid.uuid4().hex
