"""The supervisor: starts the workers and the office, watches them, and ends them.

Each is a fresh process; nothing forks once gRPC has started. All workers listen on
the same port (SO_REUSEPORT): the kernel gives each new *connection* to one of them,
by a hash of its addresses. A few long-lived connections therefore spread unevenly, and
a connection stays where it landed; `--max-connection-age` makes clients reconnect, and
our client opens several (`channels=`).

The supervisor serves no requests. It has the models read, once for all workers, so that one
that replaces another serves the same bytes (`ranker.process.model_supply`); it restarts what dies,
and passes SIGTERM on.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ranker import distribution, forwarded_caller
from ranker.callers import CallerPolicy
from ranker.methods import METHODS
from ranker.metrics import access_log
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.exporters import exporter_places
from ranker.metrics.layout import Layout
from ranker.metrics.supervisor_recorder import SupervisorRecorder
from ranker.process.address import Reservation, bare_host, host_and_port, private_addresses
from ranker.process.child import TELLS, Child
from ranker.process.link import END_NOW
from ranker.process.model_supply import ModelSupply
from ranker.process.settings import Settings
from ranker.process.supervised_process import SupervisedProcess
from ranker.repository.wanted import MOST_VERSIONS, Wanted, WantedModel
from ranker.transport import environment

logger = logging.getLogger(__name__)

_TICK = 0.1
"""Seconds between two looks at the processes."""

_SHORT_TICK = 0.05 if TELLS else 0.005
"""Likewise, while models are on their way to the workers. Where the system does not tell that a
process has said something, it has to be looked for."""

KILL_AFTER = 5.0
"""Seconds beyond the drain timeout after which a worker is killed."""

OFFICE_SECONDS = 20.0
"""Seconds that the office has to publish the last counts."""

_HELD_UP_SECONDS = 2.0
"""If the supervisor itself has looked at nothing for so long, so have the others done nothing."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class StartError(Exception):
    """A process could not start to do its work; says why."""


class Supervisor:
    """Runs a server.

    Args:
        settings: how.

    Raises:
        OSError: the port can't be had.
    """

    def __init__(self, settings: Settings) -> None:
        hung_up = settings.config or signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN  # nohup
        self._signals = _SIGNALS | ({signal.SIGHUP} if hung_up else set())
        signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)  # they are waited for instead
        forwarded_caller.prepare()
        environment.prepare()  # for the workers, which inherit it
        places = exporter_places()
        aggregates = Aggregates.create(
            Layout(len(settings.models) or MOST_VERSIONS, METHODS, settings.workers, tuple(places))
        )
        self._recorder = SupervisorRecorder(aggregates)
        self._reservation = Reservation(settings.host, settings.port)
        self._settings = replace(
            settings,
            host=bare_host(settings.host),
            port=self._reservation.port,
            worker_addresses=private_addresses(settings.workers),
            exporter_places=places,
            version=distribution.version(),
        )
        metrics = aggregates.fd
        self._access_log = access_log.connect()  # kept: whoever comes back goes on with it
        access_in, access_out = (end.fileno() for end in self._access_log)

        def start_worker(index: int) -> Child:
            descriptors = (metrics, access_in)
            arguments = (self._settings.to_json(), *map(str, (index, *descriptors)))
            child = Child("ranker.process.worker", arguments, descriptors)
            self._models.on_start(child)
            return child

        self._ports: Mapping[str, Any] = {"http_port": settings.http_port, "exporters": {}}

        def start_office() -> Child:
            # One that replaces another goes on with the same ports.
            office: SupervisedProcess = self._office
            self._ports = office.ready or self._ports
            bound = {**self._settings.exporters, **self._ports["exporters"]}
            its = replace(self._settings, http_port=self._ports["http_port"], exporters=bound)
            descriptors = (metrics, access_out, access_in)
            arguments = (its.to_json(), *map(str, descriptors))
            return Child("ranker.process.office", arguments, descriptors)

        slots = aggregates.slots
        self._models = ModelSupply(self._settings, aggregates, self._recorder, self._running)
        on_message = self._models.on_message
        self._workers = [
            SupervisedProcess(
                f"worker {index}", slots[index], partial(start_worker, index), on_message
            )
            for index in range(settings.workers)
        ]
        office_slot = slots[aggregates.layout.slot("office")]
        self._office = SupervisedProcess("office", office_slot, start_office, self._on_office)
        self._announced = self._busy = self._hung_up = False
        self._looked = self._held_up = time.monotonic()

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT. Call it on the main thread.

        Returns:
            The exit code: 0 once all workers have drained.

        Raises:
            StartError: one of the first processes could not do its work.
            OSError: no process can be started.
        """
        processes = [*self._workers, self._office]
        try:
            self._models.let_in(CallerPolicy())
            if self._settings.models:
                self._models.want(Wanted(tuple(map(WantedModel, self._settings.models))))
            for process in processes:
                process.start()
            self._record_versions()
            while not (received := self._wait(_SHORT_TICK if self._busy else _TICK)):
                held_up_until = self._held_up_until()
                for process in processes:
                    process.kill_if_hung(held_up_until)
                    self._look_at(process)
                self._busy = self._models.step()
                if self._models.start_failure:
                    raise StartError(self._models.start_failure)
                self._announce()
            self._hung_up = received is signal.SIGHUP
            return 0
        finally:
            self._end()

    def _record_versions(self) -> None:
        """Puts on record what runs."""
        self._recorder.build(
            {
                "version": self._settings.version,
                "python": sys.version.split()[0],
                "grpcio": distribution.version("grpcio"),
                "onnxruntime": distribution.version("onnxruntime", "onnxruntime-gpu"),
            }
        )

    def _look_at(self, process: SupervisedProcess) -> None:
        """Replaces the process if it has died; raises StartError if it is one of the first."""
        worker = process.child if process is not self._office else None
        failure, end = process.look()
        if not process.proven and (failure or (end and not process.hung)):
            raise StartError(failure or f"{process.name} ended with {end}")
        if failure:
            logger.error("%s can't do its work: %s", process.name, failure)
        if end:
            process.restart_later(end)
            if worker is not None:
                self._models.on_death(worker)
        elif process.restart_if_due() and process is not self._office:
            self._recorder.worker_restarted()

    def _running(self) -> list[Child]:
        """The workers that run."""
        return [process.child for process in self._workers if process.child is not None]

    def _on_office(self, child: Child, message: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Takes what the office says: what is to be served, and to whom."""
        if "callers" in message:
            self._models.let_in(CallerPolicy.from_facts(message["callers"]))
        elif "wanted" in message:
            self._models.want(Wanted.from_facts(message["wanted"]))
        elif "unwanted" in message:
            self._models.fail(message["unwanted"])

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

    def _wait(self, seconds: float) -> signal.Signals | None:
        """Waits until something happens, or so long. Returns the signal to end, if one has come."""
        received = signal.sigtimedwait(self._signals, seconds)
        if received is None or received.si_signo == signal.SIGCHLD:
            return None
        if received.si_signo not in self._signals:
            # None has come. CPython makes one up, with any number, where a wait that is over was
            # interrupted: by SIGSTOP and SIGCONT, or while the whole machine was suspended.
            return None
        if received.si_signo == signal.SIGHUP and self._settings.config:
            logger.info("SIGHUP: looking for what is to be served")
            self._models.try_again()
            if self._office.child is not None:
                self._office.child.say({"reload": True})
            return None
        to_end = signal.Signals(received.si_signo)
        logger.info("%s", to_end.name)
        return to_end

    def _is_asked_again(self, seconds: float) -> bool:
        """Waits likewise, while processes end. Returns whether a second SIGTERM or SIGINT came.

        SIGHUP is neither the first nor the second: a service manager may send it right behind
        SIGTERM (systemd's SendSIGHUP=yes), and of two that wait the kernel hands it out first.
        """
        received = self._wait(seconds)
        if received is None or received is signal.SIGHUP:
            return False
        is_first, self._hung_up = self._hung_up, False
        return not is_first

    def _end(self) -> None:
        """Lets all workers drain, then the office publish what they counted last."""
        self._models.close()
        self._end_processes(
            self._workers, self._settings.drain_timeout + KILL_AFTER, signal.SIGTERM
        )
        logger.info("all workers have ended")
        self._reservation.close()
        self._end_processes([self._office], OFFICE_SECONDS, END_NOW)

    def _end_processes(
        self, processes: list[SupervisedProcess], seconds: float, first: signal.Signals
    ) -> None:
        """Has processes end, within so many seconds; if asked again, at once."""
        limit = time.monotonic() + seconds
        for process in processes:
            process.send_signal(first)
        while running := [process for process in processes if process.child is not None]:
            ask_again = self._is_asked_again(0.02)
            late = time.monotonic() >= limit
            for process in running:
                if ask_again:
                    process.send_signal(END_NOW)
                process.look()
                if late and process.child is not None:
                    logger.error("%s does not end; killing it", process.name)
                    process.send_signal(signal.SIGKILL)
            if late:
                limit = math.inf
