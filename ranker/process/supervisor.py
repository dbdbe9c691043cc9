"""Worker processes behind one port.

Each worker is a fresh process with its own loop, queue and engine; nothing
forks once gRPC has started. All listen on the same port (SO_REUSEPORT): the
kernel gives each new *connection* to one of them, by a hash of its addresses.
A few long-lived connections therefore spread unevenly, and a connection stays
where it landed; `--max-connection-age` makes clients reconnect, and our client
opens several (`channels=`).

The supervisor serves no requests. It restarts workers that die, publishes the
metrics of all, and passes SIGTERM on.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.recorder import PublisherRecorder
from ranker.model import ModelFile
from ranker.model.model import errors_named
from ranker.process.publisher import Publisher
from ranker.process.server import METHODS
from ranker.process.settings import Settings

logger = logging.getLogger(__name__)

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
"""A worker that lived this long was fine: the next one starts without a long pause."""

_TICK = 0.1
"""Seconds between two looks at workers that start and restarts that are due."""

_KILL_AFTER = 5.0
"""Seconds beyond the drain timeout after which a worker is killed."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


@dataclass
class _Worker:
    """A worker process that runs."""

    process: subprocess.Popen[bytes]
    link: socket.socket
    started: float
    listening: bool = False

    def hear(self) -> None:
        """Notes it if the worker has said that it listens."""
        with contextlib.suppress(BlockingIOError):
            self.listening = bool(self.link.recv(64))


@dataclass
class _Place:
    """One place among the workers, and who fills it now."""

    index: int
    worker: _Worker | None = None
    pause: float = _FIRST_PAUSE
    restart_at: float = 0.0

    def restart_later(self) -> float:
        """Sets when the next worker starts: in so many seconds, each time twice as many."""
        pause = self.pause
        self.restart_at = time.monotonic() + pause
        self.pause = min(2 * pause, _LONGEST_PAUSE)
        return pause


class Supervisor:
    """Runs a server of several processes.

    Args:
        settings: how; `workers` says how many.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._places = [_Place(index) for index in range(settings.workers)]

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT. Call it on the main thread.

        Returns:
            The exit code: 0 once all have drained, else that of the worker
            that could not start.

        Raises:
            ModelError: a model's file can't be read.
            OSError: a port can't be had, or no process be started; says which.
        """
        settings = self._settings
        aggregates = Aggregates.shared(
            Layout(tuple(_identity(path) for path in settings.models), METHODS, settings.workers)
        )
        aggregates.occupy(aggregates.publisher)
        self._aggregates = aggregates
        self._recorder = PublisherRecorder(aggregates)
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they are waited for instead
        reservation = _reserve(settings.host, settings.port)
        port = reservation.getsockname()[1]
        self._arguments = replace(settings, port=port).to_json()
        publisher = Publisher(aggregates, settings)
        try:
            for place in self._places:
                self._start(place)
            return self._watch(port)
        finally:
            self._stop()
            publisher.close()
            reservation.close()

    def _watch(self, port: int) -> int:
        """Looks after the workers until a signal ends it, or one of the first can't start."""
        announced = False
        while True:
            for place in self._places:
                if place.worker is None:
                    if place.restart_at <= time.monotonic():
                        self._restart(place)
                elif not place.worker.listening:
                    place.worker.hear()
                    if place.worker.listening:
                        logger.info("worker %d serves", place.index)
            if not announced and all(
                place.worker is not None and place.worker.listening for place in self._places
            ):
                announced = True
                host, workers = self._settings.host, len(self._places)
                logger.info("listening on %s:%d with %d workers", host, port, workers)
            received = signal.sigtimedwait(_SIGNALS, _TICK)
            if received is None:
                continue
            if received.si_signo != signal.SIGCHLD:
                logger.info("%s: draining", signal.Signals(received.si_signo).name)
                return 0
            for place in self._places:
                code = None if place.worker is None else place.worker.process.poll()
                if place.worker is None or code is None:
                    continue
                if not announced:  # it could not start; later on the others serve meanwhile
                    return code if code > 0 else 1
                self._bury(place, place.worker, code)

    def _start(self, place: _Place) -> None:
        """Starts a worker. Raises OSError if the system has no process or descriptor to spare."""
        try:
            process, link = self._spawn(place.index)
        except OSError as error:
            reason = f"worker {place.index} can't be started: {error.strerror}"
            raise OSError(error.errno, reason) from error
        place.worker = _Worker(process, link, time.monotonic())
        logger.info("worker %d started, pid %d", place.index, process.pid)

    def _spawn(self, index: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
        """A worker's process, and our end of the socket to it."""
        metrics_fd = self._aggregates.fd
        assert metrics_fd is not None
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            try:
                process = subprocess.Popen(
                    [
                        *(sys.executable, "-m", "ranker.process.worker", self._arguments),
                        *map(str, (index, metrics_fd, theirs.fileno())),
                    ],
                    pass_fds=[metrics_fd, theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                )
            except OSError:
                ours.close()
                raise
        return process, ours

    def _restart(self, place: _Place) -> None:
        """Starts a worker in place of one that has ended; if that fails, later: others serve."""
        try:
            self._start(place)
        except OSError as error:
            logger.error("%s; the next attempt is in %.1f s", error.strerror, place.restart_later())
        else:
            self._recorder.worker_restarted()

    def _bury(self, place: _Place, worker: _Worker, code: int) -> None:
        """Clears up after a worker that has ended, and sets when the next one starts."""
        lived = time.monotonic() - worker.started
        if lived >= _STEADY_SECONDS:
            place.pause = _FIRST_PAUSE
        logger.error(
            "worker %d ended with %s after %.0f s; the next one starts in %.1f s",
            place.index,
            signal.Signals(-code).name if code < 0 else f"exit code {code}",
            lived,
            place.restart_later(),
        )
        worker.link.close()
        self._aggregates.vacate(place.index)
        place.worker = None

    def _stop(self) -> None:
        """Lets all workers drain; kills those that won't."""
        running = {
            place.index: place.worker.process for place in self._places if place.worker is not None
        }
        for process in running.values():
            process.terminate()
        limit = time.monotonic() + self._settings.drain_timeout + _KILL_AFTER
        for index, process in running.items():
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                logger.error("worker with pid %d does not end; killing it", process.pid)
                process.kill()
                process.wait()
            self._aggregates.vacate(index)
        logger.info("all workers have ended")


def _reserve(host: str, port: int) -> socket.socket:
    """Holds a port for the workers, without listening on it.

    Raises:
        OSError: somebody else has it.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reservation = socket.socket(family, socket.SOCK_STREAM)
    try:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reservation.bind((host, port))
    except OSError as error:
        reservation.close()
        raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror}") from error
    return reservation


def _identity(path: str) -> tuple[str, str]:
    with errors_named(Path(path).name):
        file = ModelFile.read(path)
    return file.name, file.version
