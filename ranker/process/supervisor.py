"""The supervisor: starts the workers and the office, watches them, and ends them.

Each is a fresh process; nothing forks once gRPC has started. All workers listen on
the same port (SO_REUSEPORT): the kernel gives each new *connection* to one of them,
by a hash of its addresses. A few long-lived connections therefore spread unevenly, and
a connection stays where it landed; `--max-connection-age` makes clients reconnect, and
our client opens several (`channels=`).

The supervisor serves no requests. It reads the models' files, so that a worker that
replaces another serves the same bytes; it restarts what dies, and passes SIGTERM on.
"""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ranker.errors import ModelError
from ranker.memory_file import read_into_memory
from ranker.metrics.aggregates import Aggregates, Slot
from ranker.metrics.exporters import exporters
from ranker.metrics.layout import Layout
from ranker.metrics.recorder import SupervisorRecorder
from ranker.process.address import Reservation, bare_host, host_and_port
from ranker.process.child import Child, Exit
from ranker.process.heartbeat import LOADING_SILENCE_SECONDS, SILENCE_SECONDS
from ranker.process.settings import Settings
from ranker.serving.methods import METHODS
from ranker.transport import environment

logger = logging.getLogger(__name__)

MAX_MODEL_BYTES = 2**31 - 1
"""Protobuf's own limit on one message, which an ONNX file is."""

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 4.0
"""Seconds before the next start; doubled each time. A start takes a core about half a second: one
that fails again and again takes an eighth of it, and is not out for long once it can succeed."""

STEADY_SECONDS = 10.0
"""A process that lived this long was fine: the next one starts without a long pause."""

_TICK = 0.1
"""Seconds between two looks at the processes."""

KILL_AFTER = 5.0
"""Seconds beyond the drain timeout after which a worker is killed."""

OFFICE_SECONDS = 20.0
"""Seconds that the office has to publish the last counts."""

_HELD_UP_SECONDS = 2.0
"""If the supervisor itself has looked at nothing for so long, so have the others done nothing."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class StartError(Exception):
    """A process could not start to do its work; says why."""


class Place:
    """One of the server's processes, and whoever takes that place now.

    Args:
        name: what the log calls it.
        slot: its part of the metrics' file.
        start: starts the process. Raises OSError if the system has none to spare.

    Attributes:
        child: the process, if there is one.
        ready: what it said when it began to do its work; None before.
        proven: whether a process has ever done its work in this place.
        hung: whether the last one was killed since it did not move.
    """

    def __init__(self, name: str, slot: Slot, start: Callable[[], Child]) -> None:
        self.name = name
        self.child: Child | None = None
        self.ready: Mapping[str, Any] | None = None
        self.proven = self.hung = False
        self._slot = slot
        self._start = start
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._restart_at = 0.0

    def start(self) -> None:
        """Starts the process. Raises OSError if the system has none to spare; names it."""
        try:
            self.child = self._start()
        except OSError as error:
            reason = f"{self.name} can't be started: {error.strerror}"
            raise OSError(error.errno, reason) from error
        self.ready = None
        self.hung = False
        self._started = time.monotonic()
        logger.info("%s started, pid %d", self.name, self.child.pid)

    def kill_if_hung(self, held_up_until: float) -> None:
        """Kills the process if it no longer moves.

        Args:
            held_up_until: until when nothing on the machine moved, as far as one can see.
        """
        if self.child is None:
            return
        limit = LOADING_SILENCE_SECONDS if self.ready is None else SILENCE_SECONDS
        silent = time.monotonic() - max(self._slot.last_beat, self._started, held_up_until)
        if silent > limit and not self.hung:
            logger.error("%s has not moved for %.1f s; killing it", self.name, silent)
            self.hung = True
            self.send_signal(signal.SIGKILL)

    def look(self) -> tuple[str | None, Exit | None]:
        """Why the process can't do its work, if it says so; and how it has ended, if it has."""
        if self.child is None:
            return None, None
        end = self.child.exit()  # first, so that what it said last is heard
        failure = None
        for message in self.child.messages():
            if "failed" in message:
                failure = str(message["failed"])
            else:
                self.ready = message["ready"]
                self.proven = True
                logger.info("%s serves", self.name)
        if end is not None:
            self.child = None
            self._slot.vacate(end.cpu_seconds)
        return failure, end

    def restart_later(self, end: Exit) -> None:
        """Sets when the next process starts in place of one that has ended."""
        lived = time.monotonic() - self._started
        if lived >= STEADY_SECONDS:
            self._pause = FIRST_PAUSE
        logger.error(
            "%s ended with %s after %.0f s; the next one starts in %.1f s",
            self.name,
            end,
            lived,
            self._set_restart(),
        )

    def restart_if_due(self) -> bool:
        """Starts the next process; if that fails, later: others serve."""
        if self.child is not None or time.monotonic() < self._restart_at:
            return False
        try:
            self.start()
        except OSError as error:
            logger.error("%s; the next attempt is in %.1f s", error.strerror, self._set_restart())
            return False
        return True

    def send_signal(self, number: int) -> None:
        """Sends the process a signal, if there is one."""
        if self.child is not None:
            self.child.send_signal(number)

    def _set_restart(self) -> float:
        """Sets when the next process starts: in so many seconds, each time twice as many."""
        pause = self._pause
        self._restart_at = time.monotonic() + pause
        self._pause = min(2 * pause, LONGEST_PAUSE)
        return pause


class Supervisor:
    """Runs a server.

    Args:
        settings: how.

    Raises:
        ModelError: a model's file can't be read; names it.
        OSError: the port can't be had.
    """

    def __init__(self, settings: Settings) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # they are waited for instead
        environment.prepare()  # for the workers, which inherit it
        models = [_read(path) for path in settings.models]
        names = tuple(exporters())
        aggregates = Aggregates.create(Layout(len(models), METHODS, settings.workers, names))
        self._recorder = SupervisorRecorder(aggregates)
        self._reservation = Reservation(settings.host, settings.port)
        self._settings = replace(
            settings, host=bare_host(settings.host), port=self._reservation.port
        )
        metrics = aggregates.fd

        def start_worker(index: int) -> Child:
            arguments = (self._settings.to_json(), *map(str, (index, metrics, *models)))
            return Child("ranker.process.worker", arguments, (metrics, *models))

        def start_office() -> Child:
            # One that replaces another goes on with the same ports.
            had = self._office.ready or {"http_port": settings.http_port, "exporters": {}}
            bound = {**self._settings.exporters, **had["exporters"]}
            its = replace(self._settings, http_port=had["http_port"], exporters=bound)
            return Child("ranker.process.office", (its.to_json(), str(metrics)), (metrics,))

        slots = aggregates.slots
        self._workers = [
            Place(f"worker {index}", slots[index], partial(start_worker, index))
            for index in range(settings.workers)
        ]
        office_slot = slots[aggregates.layout.slot("office")]
        self._office = Place("office", office_slot, start_office)
        self._announced = False
        self._looked = self._held_up = time.monotonic()

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT. Call it on the main thread.

        Returns:
            The exit code: 0 once all workers have drained.

        Raises:
            StartError: one of the first processes could not do its work.
            OSError: no process can be started.
        """
        places = [*self._workers, self._office]
        try:
            for place in places:
                place.start()
            while not self._wait(_TICK):
                held_up_until = self._held_up_until()
                for place in places:
                    place.kill_if_hung(held_up_until)
                    self._look_at(place)
                self._announce()
            return 0
        finally:
            self._end()

    def _look_at(self, place: Place) -> None:
        """Replaces the process if it has died; raises StartError if it is one of the first."""
        failure, end = place.look()
        if not place.proven and (failure or (end and not place.hung)):
            raise StartError(failure or f"{place.name} ended with {end}")
        if failure:
            logger.error("%s can't do its work: %s", place.name, failure)
        if end:
            place.restart_later(end)
        elif place.restart_if_due() and place is not self._office:
            self._recorder.worker_restarted()

    def _announce(self) -> None:
        """Says, once, that all workers serve."""
        if not self._announced and all(worker.proven for worker in self._workers):
            self._announced = True
            where = host_and_port(self._settings.host, self._settings.port)
            logger.info("listening on %s with %d workers", where, len(self._workers))

    def _held_up_until(self) -> float:
        """Until when this process itself was held up: whatever held it up held the others up."""
        now = time.monotonic()
        if now - self._looked > _HELD_UP_SECONDS:
            self._held_up = now
        self._looked = now
        return self._held_up

    def _wait(self, seconds: float) -> bool:
        """Waits until something happens, or so long. Returns whether it is a signal to end."""
        received = signal.sigtimedwait(_SIGNALS, seconds)
        if received is None or received.si_signo == signal.SIGCHLD:
            return False
        logger.info("%s", signal.Signals(received.si_signo).name)
        return True

    def _end(self) -> None:
        """Lets all workers drain, then the office publish what they counted last."""
        self._end_places(self._workers, self._settings.drain_timeout + KILL_AFTER)
        logger.info("all workers have ended")
        self._reservation.close()
        self._end_places([self._office], OFFICE_SECONDS)

    def _end_places(self, places: list[Place], seconds: float) -> None:
        """Has processes end, within so many seconds; a second signal is passed on."""
        limit = time.monotonic() + seconds
        told = False
        while running := [place for place in places if place.child is not None]:
            if not told or self._wait(0.02):
                told = True
                for place in running:
                    place.send_signal(signal.SIGTERM)
            for place in running:
                place.look()
                if place.child is not None and time.monotonic() >= limit:
                    logger.error("%s does not end; killing it", place.name)
                    place.send_signal(signal.SIGKILL)
                    limit = float("inf")


def _read(path: str) -> int:
    """Reads a model's file into memory; returns the copy's descriptor."""
    try:
        return read_into_memory(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"{Path(path).name}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise ModelError(f"{Path(path).name}: {error}") from error
