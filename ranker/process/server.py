"""One serving process: models, queue, services and a transport, put together."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

from grpc_health.v1 import health_pb2

from ranker.errors import ModelError
from ranker.incident import incident
from ranker.metrics.recorder import Recorder
from ranker.model import Model
from ranker.process.heap import return_freed_arrays
from ranker.process.settings import Settings
from ranker.serving import reflection
from ranker.serving.catalogue import Catalogue
from ranker.serving.cost import CostModel
from ranker.serving.dispatcher import Dispatcher
from ranker.serving.health import Health
from ranker.serving.queue import Batcher
from ranker.serving.services import RankingService
from ranker.serving.task import Resources
from ranker.transport.registry import select
from ranker.v1 import ranking_pb2

logger = logging.getLogger(__name__)

_DESCRIPTORS = (
    ranking_pb2.DESCRIPTOR.services_by_name["RankingService"],
    health_pb2.DESCRIPTOR.services_by_name["Health"],
)

SERVICES = tuple(descriptor.full_name for descriptor in _DESCRIPTORS)
"""The full names of the services that every server offers, beside reflection."""

METHODS = (
    *(f"/{d.full_name}/{method.name}" for d in _DESCRIPTORS for method in d.methods),
    *(f"/{name}/ServerReflectionInfo" for name in reflection.SERVICES),
)
"""The full names of all methods."""

EXIT_MODEL = 3
"""Exit code of a process whose model can't be loaded, or can't score."""

_SWITCH_INTERVAL = 0.0005
"""Seconds after which the loop yields the interpreter to an engine thread that has scores.

Python's own 5 ms are most of a ranking request's budget.
"""

_SERVING_SECONDS = 1.5
"""How long a draining server still serves: callers and proxies that watch its health leave."""

_REFUSING_SECONDS = 2.0
"""How long it then refuses, with UNAVAILABLE: callers that retry leave."""

_QUIET_SECONDS = 0.3
"""After so long without a request nobody seems to be left, and neither need last any longer."""

_TICK = 0.02

_ROOM_FOR_NAMES = 2**20
"""Bytes of a message beside its rows: names, ids, context."""


class Server:
    """Serves models on one port, from one process and one loop.

    Args:
        settings: how.
        models: what, the default first.
        recorder: where its metrics go.
        reuse_port: other processes listen on the same port.
    """

    def __init__(
        self,
        settings: Settings,
        models: Sequence[Model],
        recorder: Recorder,
        *,
        reuse_port: bool = False,
    ) -> None:
        self._settings = settings
        self._models = models
        self._draining = False
        self._exit_code = 0
        catalogue = Catalogue(models)
        batcher = Batcher(
            [CostModel() for _ in models],
            max_batch_rows=settings.max_batch_rows,
            max_queue_rows=settings.max_queue_rows,
            max_queue_bytes=settings.max_queue_bytes,
            max_delay=settings.max_batch_delay,
        )
        transport, reason = select(settings.transport)
        self._dispatcher = Dispatcher(
            [model.engine for model in models],
            batcher,
            recorder,
            self._lost,
            transport.pump_seconds,
        )
        self._service = RankingService(
            Resources(catalogue, self._dispatcher, recorder, settings.max_request_rows)
        )
        self._health = Health(SERVICES)
        widest = max(model.features.num_features for model in models)
        age_ms = round(settings.max_connection_age * 1e3)
        self._transport = transport(
            {
                **self._service.methods(),
                **self._health.methods(),
                **reflection.methods(SERVICES),
            },
            self._dispatcher.pump,
            max_message_bytes=2 * settings.max_request_rows * widest * 4 + _ROOM_FOR_NAMES,
            observer=recorder,
            reuse_port=reuse_port,
            options=[("grpc.max_connection_age_ms", age_ms)] if age_ms else [],
        )
        recorder.transport_chosen(self._transport.name, reason)
        logger.info("transport %s: %s", self._transport.name, reason)

    def warm(self) -> None:
        """Scores made-up rows, so that no request is the first; then health is SERVING.

        Call it before `bind`: a worker that listened while it was cold would get
        its share of connections, and turn them away, while the others are warm.

        Raises:
            ModelError: a model was loaded, but can't score; names it and says why.
        """
        for index, model in enumerate(self._models):
            try:
                self._dispatcher.warm(index)
            except Exception as error:
                what = f"{model.name}@{model.version}: engine {model.engine_name} can't score"
                incident(logger, what, error)
                raise ModelError(f"{what}: {error}") from error
        self._health.set_serving(True)

    def bind(self) -> int:
        """Listens. Returns the port. Raises OSError if the address can't be had."""
        return self._transport.bind(f"{self._settings.host}:{self._settings.port}")

    def run(self) -> int:
        """Serves until SIGTERM or SIGINT, then drains. Call it on the main thread.

        On the signal health flips; while callers still come, they are served for
        a moment, and then refused with UNAVAILABLE; requests in flight finish. A
        second signal does not wait for them, nor does the end of the drain timeout,
        even if an engine's thread never comes back. When an engine is lost it drains
        of itself, and refuses at once. It returns with connections still open, so
        that calls on their way are not cancelled but may be retried
        (`Transport.leave`): end the process with `end_process`.

        Returns:
            The process's exit code: 0 after a signal, or `EXIT_MODEL` if an engine
            was lost before one: start another process.
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._signalled)
        sys.setswitchinterval(_SWITCH_INTERVAL)
        self._transport.run()
        if self._dispatcher.idle():
            self._dispatcher.close()
            logger.info("drained")
        else:
            logger.warning("ending with requests unanswered")
        return self._exit_code

    def _signalled(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._draining:
            self._transport.leave()
            return
        name = signal.Signals(number).name
        logger.info("%s: draining for up to %g s", name, self._settings.drain_timeout)
        self._begin_drain(_SERVING_SECONDS)

    def _lost(self) -> None:
        """Has the process end: a new one may score."""
        self._transport.call_soon(self._end)  # on the loop's thread, as signals are

    def _end(self) -> None:
        if self._draining:
            # After a signal the exit code stays 0: who sent it wants no other process. Callers
            # hear UNAVAILABLE from the lost engine, as they soon do from the drain.
            return
        logger.error("an engine is lost: draining, to end with exit code %d", EXIT_MODEL)
        self._exit_code = EXIT_MODEL
        self._begin_drain(0.0)

    def _begin_drain(self, serving: float) -> None:
        self._draining = True
        threading.Thread(target=self._drain, args=(serving,), name="drain", daemon=True).start()

    def _drain(self, serving: float) -> None:
        """Sees callers off: first by health alone, then by refusals, then by the closed door."""
        end = time.monotonic() + self._settings.drain_timeout
        self._transport.call_soon(self._health.drain)
        self._wait(min(end, time.monotonic() + serving))
        self._transport.call_soon(self._service.drain)
        self._wait(min(end, time.monotonic() + _REFUSING_SECONDS))
        while not self._dispatcher.idle() and time.monotonic() < end:
            time.sleep(_TICK)
        time.sleep(_TICK)  # for the last answers to go out
        self._transport.leave()

    def _wait(self, until: float) -> None:
        """Until then, or until nobody has asked and nothing has been in flight for a while."""
        now = quiet_since = time.monotonic()
        while now < until and now < quiet_since + _QUIET_SECONDS:
            time.sleep(_TICK)
            now = time.monotonic()
            asked = self._dispatcher.last_asked
            quiet_since = max(quiet_since, asked, 0.0 if self._dispatcher.idle() else now)


def load_models(settings: Settings) -> list[tuple[Model, float]]:
    """Loads the models, saying of each how it will be scored.

    Returns:
        Each model with the seconds that loading it took.

    Raises:
        ModelError: names the file and the reason.
    """
    return_freed_arrays()
    loaded = []
    for path in settings.models:
        started = time.monotonic()
        model = Model.load(path, settings.engine, settings.threads, settings.device)
        seconds = time.monotonic() - started
        logger.info(
            "loaded %s as %s@%s in %.2f s: %d features, %d trees, engine %s (%s)",
            path,
            model.name,
            model.version,
            seconds,
            model.features.num_features,
            model.metadata.trees,
            model.engine_name,
            model.engine_reason,
        )
        loaded.append((model, seconds))
    return loaded


def end_process(code: int) -> NoReturn:
    """Ends the process, without gRPC's own clearing up; see `Server.run`."""
    logging.shutdown()
    os._exit(code)
