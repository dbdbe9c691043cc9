"""What a worker runs: models, queue, services and a transport, put together."""

from __future__ import annotations

import logging
import math
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

from ranker.callers import CallerPolicy
from ranker.methods import METHODS, SERVICES
from ranker.metrics.recorder import Recorder
from ranker.process.address import host_and_port
from ranker.process.drain import SERVING_SECONDS, Drain
from ranker.process.flood_guard import FloodGuard
from ranker.process.heartbeat import BEAT_SECONDS
from ranker.process.link import END_NOW
from ranker.process.machine import usable_cores
from ranker.process.memory_budget import MemoryBudget
from ranker.process.memory_held import held
from ranker.process.settings import Settings
from ranker.process.undelivered import undelivered_bytes
from ranker.rpc import Method
from ranker.serving import reflection
from ranker.serving.callers import Callers
from ranker.serving.dispatcher import Dispatcher
from ranker.serving.drift import DriftSample
from ranker.serving.explanations import Explanations
from ranker.serving.generation import Generation
from ranker.serving.health import Health
from ranker.serving.intake import Intake
from ranker.serving.loop_load import LoopLoad
from ranker.serving.open_inference.service import OpenInferenceService
from ranker.serving.queue import Queue
from ranker.serving.services import RankingService
from ranker.serving.shadow import Shadows
from ranker.serving.task import RankTask
from ranker.serving.unserved import Unserved
from ranker.serving.wire import RANK
from ranker.transport.registry import select

if TYPE_CHECKING:
    from ranker.serving.ranking_log import RankingLog

logger = logging.getLogger(__name__)

EXIT_ENGINE_LOST = 3
"""Exit code of a worker whose engine can't score any more: another process may."""

EXIT_SHORT_OF_MEMORY = 4
"""Exit code of a worker whose memory stays short although it takes nothing in."""

_SHORT_SECONDS = 60.0
"""For how long. Callers' calls that stand still are ended after one second: what is held for so
long has been lost, as grpc.aio loses some with each call that is given up."""

_SWITCH_INTERVAL = 0.0005
"""Seconds after which the loop yields the interpreter to an engine thread that has scores.

Python's own 5 ms are most of a ranking request's budget.
"""

_LONGEST_MESSAGE = 2**31 - 1
"""Bytes; protobuf's own limit, and gRPC's."""

_ROOM_FOR_NAMES = 2**20
"""Bytes of a message beside its rows: names, ids, context."""

_LOG_SECONDS = 3.0
"""What a drained worker has to write what it has noted for the ranking log."""


class Server:
    """Serves models on one port, from one process and one loop.

    Args:
        settings: how.
        generation: what, at first.
        recorder: where its metrics go.
        ranking_log: makes what logs lists, given the bytes that may wait; None: they are not
            logged.

    Raises:
        ValueError: the transport that is asked for can't be had, or the certificate.
        RuntimeError: the system doesn't start the engines' threads.
    """

    def __init__(
        self,
        settings: Settings,
        generation: Generation,
        recorder: Recorder,
        ranking_log: Callable[[int], RankingLog] | None = None,
    ) -> None:
        self._settings = settings
        self._beat = recorder.beat
        self._record_serving = recorder.serving
        self._access_log = recorder.access_log
        self._drain: Drain | None = None
        self._exit_code = 0
        self._scored = 0.0  # lists, until the last turn that had anything to do
        make_transport, reason = select(settings.transport)
        self._load = LoopLoad(
            recorder,
            recorder.waited,
            make_transport.full_turn,
            make_transport.whole_turns,
            time.monotonic(),
            usable_cores() / settings.workers,
        )
        logger.info("transport %s: %s", make_transport.name, reason)
        recorder.transport_chosen(make_transport.name, reason)
        budget = MemoryBudget.of_worker(settings.max_memory, settings.workers, held().resident)
        certificates = settings.certificates()
        self._credentials = certificates.credentials() if certificates else None
        widest = max(served.features.num_features for served in generation.models)
        max_message_bytes = min(
            2 * settings.max_request_rows * widest * 4 + _ROOM_FOR_NAMES, _LONGEST_MESSAGE
        )
        greeting_bytes = certificates.handshake_bytes if certificates else 0
        self._guard = FloodGuard(budget, recorder, max_message_bytes, greeting_bytes)
        queue = self._queue = Queue[RankTask](
            max_rows=settings.max_queue_rows,
            max_bytes=settings.max_queue_bytes or budget.waiting,
            max_delay=settings.max_batch_delay,
        )
        self._shadows = Shadows(recorder, budget.shadows, make_transport.longest_batch)
        self._shadows.serve(generation)
        self._drift = DriftSample(recorder.drift_log)
        self._drift.serve(self._drift.prepare(generation))
        self._explanations = Explanations(recorder, budget.explanations, self._call_soon)
        self._dispatcher = Dispatcher(
            queue,
            recorder,
            self._shadows,
            self._drift,
            self._explanations,
            batches_at_once=min(served.engine.batches_at_once for served in generation.models),
            longest_batch=make_transport.longest_batch,
            call_soon=self._call_soon,
            on_engine_lost=self._on_engine_lost,
        )
        unknown = recorder.unknown_model()
        self._intake = Intake(
            generation,
            queue,
            self._explanations,
            unknown,
            max_rows=settings.max_request_rows,
            max_deadline=settings.max_deadline,
        )
        self._ranking_log = None if ranking_log is None else ranking_log(budget.ranking_log)
        wire = None
        if self._ranking_log is not None:
            self._ranking_log.serve(generation)
            wire = self._ranking_log.wire(RANK)
        self._service = RankingService(self._intake, wire)
        self._health = Health(SERVICES)
        self._health.set_serving(True)
        self._open_inference = OpenInferenceService(self._intake, self._health, settings.version)
        age_ms = round(settings.max_connection_age * 1e3)
        self._transport = make_transport(
            self._methods(),
            self._turn,
            recorder,
            max_message_bytes=max_message_bytes,
            reuse_port=True,
            options=[("grpc.max_connection_age_ms", age_ms)] if age_ms else [],
            limits=budget.limits(settings.message_timeout),
            guard=self._guard,
        )
        self._callers = Callers(recorder, settings.workers)
        self._port = 0

    def bind(self, office_address: str) -> None:
        """Listens; call it once the models are warm.

        A worker that listened while it was cold would get its share of connections,
        and turn them away, while the others are warm.

        Args:
            office_address: where to listen for the office, beside the port.

        Raises:
            OSError: the address can't be had.
        """
        address = host_and_port(self._settings.host, self._settings.port)
        self._transport.bind(office_address)
        self._port = self._transport.bind(address, self._credentials)
        self._record_serving(True)

    def serve(self, generation: Generation | None, unserved: Unserved) -> None:
        """Ranks what is read from now on with other models. Call it from any thread.

        Args:
            generation: the models; None: the same as before.
            unserved: what to tell of what is wanted and not served.
        """
        counters = self._drift.prepare(generation) if generation is not None else {}

        def serve() -> None:
            self._service.serve(generation, unserved)
            if generation is not None and self._drain is None:
                self._shadows.serve(generation)
                self._drift.serve(counters)
            if generation is not None and self._ranking_log is not None:
                self._ranking_log.serve(generation)
            self._open_inference.tell(unserved.models)

        self._transport.call_soon(serve)

    def models_changed(self, more: int) -> None:
        """See `FloodGuard.models_changed`."""
        self._guard.models_changed(more)

    def let_in(self, policy: CallerPolicy) -> None:
        """Lets these callers in from now on. Call it from any thread."""

        def let_in() -> None:
            self._callers.serve(policy)
            needed = policy.names or policy.per_connection or self._settings.tls_client_ca
            self._transport.callers = self._intake.callers = self._callers if needed else None

        self._transport.call_soon(let_in)

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT, then drains. Call it on the main thread.

        On the signal health flips; while callers still come, they are served for
        a moment, and then refused with UNAVAILABLE; requests in flight finish, and
        their answers leave. `END_NOW` does not wait for them, nor does the end
        of the drain timeout, even if an engine's thread never comes back. When an
        engine is lost, or memory stays short, it drains of itself. It returns with
        connections still open, so that calls on their way are not cancelled but may be
        retried (`Transport.leave`): end the process.

        Returns:
            The process's exit code: 0 after a signal, or `EXIT_ENGINE_LOST` or
            `EXIT_SHORT_OF_MEMORY` if that was why it drained: start another process.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        signal.signal(END_NOW, self._on_end_now)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._guard.start(self._transport, self._port)
        self._transport.call_soon(lambda: None)  # the first turn, from which the heart beats
        self._transport.run()
        if self._access_log is not None:
            self._access_log.flush()
        if self._ranking_log is not None:
            self._ranking_log.close(_LOG_SECONDS)
        if self._idle():
            logger.info("drained")
        else:
            logger.warning("ending with requests unanswered")
        return self._exit_code

    def _methods(self) -> dict[str, Method]:
        methods = {
            **self._service.methods(),
            **self._open_inference.methods(),
            **self._health.methods(),
            **reflection.methods(SERVICES),
        }
        assert methods.keys() == set(METHODS), "ranker.methods is not up to date"
        return methods

    def _call_soon(self, function: Callable[[], None]) -> None:
        self._transport.call_soon(function)

    def _idle(self) -> bool:
        """Whether no list waits for anything."""
        return self._dispatcher.idle() and not self._explanations.lists

    def _refuse_new(self) -> None:
        self._queue.max_delay = 0.0  # no company will come
        self._service.drain()
        self._open_inference.drain()

    def _undelivered(self) -> bool:
        """Whether answers are still in gRPC's hands, or in the kernel's."""
        return self._transport.answers_on_their_way > 0 or undelivered_bytes(self._port) > 0

    def _turn(self) -> float | None:
        """What the loop does between reading and waiting."""
        now = time.monotonic()
        if not self._dispatcher.hangs(now):
            self._beat(now)
        delay = self._dispatcher.turn()
        if self._intake.refusals.held:
            due = self._intake.refusals.answer(now)
            delay = due if delay is None else min(delay, due)
        log = self._access_log
        if log is not None and now >= log.due:
            log.flush()
        scored = self._dispatcher.scored
        if self._shadows.waiting and self._guard.short:
            self._shadows.drop("memory")
        counts = self._drift.waiting or now >= self._drift.send_at
        if self._explanations.lists or self._shadows.waiting or counts:
            idle = self._dispatcher.idle()
            self._use_spare_time(spare=idle and scored == self._scored, counts=counts)
            if idle and (self._explanations.ready or self._shadows_may_step() or counts):
                delay = 0.0  # if the next turn has nothing to read either, there is time to spare
        self._load.on_turn_end(
            time.monotonic(),
            scored,
            self._dispatcher.scored_rows,
            self._dispatcher.most_rows,
            self._dispatcher.spare_seconds,
        )
        self._scored = scored
        if now - self._guard.short_since > _SHORT_SECONDS:
            self._replace_me("memory stays short", EXIT_SHORT_OF_MEMORY, SERVING_SECONDS)
        if self._drain is None:
            return BEAT_SECONDS if delay is None or delay > BEAT_SECONDS else delay
        wait = self._drain.step()
        if math.isinf(wait):
            self._transport.leave()
            return None
        return wait if delay is None else min(wait, delay)

    def _use_spare_time(self, *, spare: bool, counts: bool) -> None:
        """Goes on with what waits for the loop to have time.

        Args:
            spare: whether it has some.
            counts: whether counting for drift is to go on.
        """
        if self._explanations.lists:
            self._explanations.turn(spare=spare)
        if not spare or not (counts or self._shadows_may_step()):
            return
        began = time.monotonic()
        if counts:
            self._drift.step()
        else:
            self._shadows.step()
        self._load.leave_out(time.monotonic() - began)

    def _shadows_may_step(self) -> bool:
        """Whether a list waits for a shadow, and none whose caller waits for explanations."""
        return bool(self._shadows.waiting) and not self._explanations.lists

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        name = signal.Signals(number).name
        self._transport.call_soon(lambda: self._begin_drain(SERVING_SECONDS, name))

    def _on_end_now(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        logger.info("not waiting any longer")
        self._transport.leave()

    def _on_engine_lost(self) -> None:
        self._replace_me("an engine is lost", EXIT_ENGINE_LOST, 0.0)

    def _replace_me(self, why: str, exit_code: int, serving: float) -> None:
        if self._drain is not None:
            # After a signal the exit code stays 0: who sent it wants no other process. Callers
            # hear UNAVAILABLE from a lost engine, as they soon do from the drain.
            return
        logger.error("%s: draining, to end with exit code %d", why, exit_code)
        self._exit_code = exit_code
        self._begin_drain(serving, why)

    def _begin_drain(self, serving: float, why: str) -> None:
        if self._drain is not None:
            return
        logger.info("%s: draining for up to %g s", why, self._settings.drain_timeout)
        self._drain = Drain(
            self._settings.drain_timeout,
            serving,
            refuse=self._refuse_new,
            last_asked=lambda: self._intake.last_asked,
            idle=self._idle,
            undelivered=self._undelivered,
        )
        self._shadows.stop()
        self._record_serving(False)  # first: who hears of the one finds the other
        self._health.drain()
