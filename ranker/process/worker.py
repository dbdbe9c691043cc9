"""A worker: the process that speaks gRPC and scores, one of several behind one port.

    python -m ranker.process.program ranker.process.worker LINK SETTINGS INDEX METRICS ACCESS_LOG

LINK, METRICS and ACCESS_LOG are inherited descriptors: of the connection to the supervisor,
who says which models are served (`ranker.process.rollout`), of the metrics' file, and of the
connection to the office. SETTINGS is JSON.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn

from ranker import logs
from ranker.engine.simd import engine as simd
from ranker.errors import RankerError
from ranker.incident import incident
from ranker.metrics.access_log import AccessLog
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.drift_log import DriftLog
from ranker.metrics.incident_log import IncidentLog
from ranker.metrics.recorder import Recorder
from ranker.metrics.trace_sample import TraceSample
from ranker.process.generations import Generations
from ranker.process.heap import keep_freed_memory, return_freed_arrays
from ranker.process.heartbeat import beating_while_loading
from ranker.process.link import Link, Message
from ranker.process.server import Server
from ranker.process.settings import Settings

if TYPE_CHECKING:
    from ranker.serving.ranking_log import RankingLog

logger = logging.getLogger(__name__)

EXIT_CANT_SERVE = 1
"""Exit code of a worker that could not start to serve."""


def main() -> NoReturn:
    """The program."""
    link = Link(int(sys.argv[1]))
    settings = Settings.from_json(sys.argv[2])
    index, metrics_fd, access_log_fd = map(int, sys.argv[3:])
    for number in (signal.SIGINT, signal.SIGHUP):  # for the supervisor alone
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor's own is inherited
    logs.configure(settings.log_format, settings.log_level, str(index), settings.gcp_project)
    aggregates = Aggregates.attach(metrics_fd)
    logging.getLogger().addHandler(IncidentLog(os.dup(access_log_fd), index))
    access_log = _access_log(settings, aggregates, index, access_log_fd)
    drift_log = DriftLog(os.dup(access_log_fd), index)
    recorder = Recorder(aggregates, index, access_log, drift_log)
    generations = Generations(settings, recorder, link)
    try:
        with beating_while_loading(recorder.beat):
            _record_machine(recorder)
            return_freed_arrays()
            server = _server(settings, generations, recorder, aggregates, index)
            server.bind(settings.worker_addresses[index])
            first = generations.bytes
            generations.on_bytes = lambda now: server.models_changed(now - first)
    except (RankerError, OSError, ValueError, RuntimeError) as error:
        link.failed(str(error))
        end_process(EXIT_CANT_SERVE)

    def on_message(message: Message) -> None:
        generation = generations.on_message(message)
        server.let_in(generations.policy)
        server.serve(generation, generations.unserved)

    link.ready({})
    freeze()
    link.listen(on_message)
    try:
        code = server.run()
    except BaseException as error:
        incident(logger, "the worker's loop failed", error)
        code = EXIT_CANT_SERVE
    end_process(code)


def _server(
    settings: Settings,
    generations: Generations,
    recorder: Recorder,
    aggregates: Aggregates,
    index: int,
) -> Server:
    """The server of the first generation. Nothing else keeps that: its models may be replaced."""
    first = generations.first()
    if first is None:
        end_process(0)
    server = Server(settings, first, recorder, _ranking_log(settings, aggregates, index))
    server.let_in(generations.policy)
    server.serve(None, generations.unserved)
    return server


def _access_log(
    settings: Settings, aggregates: Aggregates, index: int, fd: int
) -> AccessLog | None:
    """What notes requests in this worker, if they are logged or traced."""
    rate = settings.trace_rate
    if settings.access_log == "off" and rate is None:
        return None
    traces = None if rate is None else TraceSample(rate)
    mode, share = settings.access_log, settings.access_log_rate
    return AccessLog(fd, mode, share, aggregates, index, traces)


def _ranking_log(
    settings: Settings, aggregates: Aggregates, index: int
) -> Callable[[int], RankingLog] | None:
    """What logs lists in this worker, if they are logged."""
    if not settings.log_rankings:
        return None
    # Most servers log none, and need not import it.
    from ranker.metrics.ranking_log_recorder import RankingLogRecorder
    from ranker.ranking_log.exclusion import Exclusion
    from ranker.ranking_log.segment_files import folder_of
    from ranker.ranking_log.writer import Writer
    from ranker.serving.ranking_log import RankingLog

    folder = folder_of(settings.log_rankings, settings.model_cache)

    def start(buffer_bytes: int) -> RankingLog:
        writer = Writer(
            folder,
            max_bytes=settings.log_max_bytes,
            workers=settings.workers,
            buffer_bytes=buffer_bytes,
            exclusion=Exclusion(settings.log_exclude_feature),
            recorder=RankingLogRecorder(aggregates, index),
        )
        writer.start()
        return RankingLog(writer, settings.log_rate)

    return start


def _record_machine(recorder: Recorder) -> None:
    """Puts on record which instruction sets there are."""
    recorder.simd_found((simd.paths() or ["none"])[0], simd.unavailable() or "built in")


def freeze() -> None:
    """Prepares the memory of a process that has loaded all it needs.

    What was loaded lives as long as the process, so the garbage collector shall
    not look at it: walking it at every full collection would stall requests for
    tens of milliseconds. What requests free is kept for the next ones.
    """
    gc.collect()
    gc.freeze()
    keep_freed_memory()


def end_process(code: int) -> NoReturn:
    """Ends the process, without gRPC's own clearing up; see `Server.run`."""
    logging.shutdown()
    os._exit(code)
