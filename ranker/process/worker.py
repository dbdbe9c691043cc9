"""A worker: the process that speaks gRPC and scores, one of several behind one port.

    python -m ranker.process.worker LINK SETTINGS INDEX METRICS MODEL...

LINK, METRICS and MODEL are inherited descriptors: of the connection to the
supervisor, of the metrics' file and of each model's file, in the order of the
settings' models. SETTINGS is JSON.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import NoReturn

from ranker import distribution, logs
from ranker.engine.runtime import onnxruntime
from ranker.engine.simd import engine as simd
from ranker.errors import RankerError
from ranker.incident import incident
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.recorder import Recorder
from ranker.model import Model, ModelFile
from ranker.model.model import errors_named
from ranker.process.heap import keep_freed_memory, return_freed_arrays
from ranker.process.heartbeat import beating_while_loading
from ranker.process.link import Link
from ranker.process.server import Server
from ranker.process.settings import Settings
from ranker.serving.served_model import ServedModel

logger = logging.getLogger(__name__)

EXIT_CANT_SERVE = 1
"""Exit code of a worker that could not start to serve."""


def main() -> NoReturn:
    """The program."""
    link = Link(int(sys.argv[1]))
    settings = Settings.from_json(sys.argv[2])
    index, metrics_fd, *model_fds = map(int, sys.argv[3:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor's own is inherited
    link.end_with_supervisor()
    logs.configure(settings.log_format, settings.log_level, str(index), settings.gcp_project)
    recorder = Recorder(Aggregates.attach(metrics_fd), index)
    try:
        with beating_while_loading(recorder.beat):
            _record_machine(recorder)
            models = load_models(settings, recorder, model_fds)
            server = Server(settings, models, recorder)
            for served in models:
                served.warm()
            server.bind()
    except (RankerError, OSError, ValueError, RuntimeError) as error:
        recorder.unknown_model().load_failed()
        link.failed(str(error))
        end_process(EXIT_CANT_SERVE)
    link.ready({})
    freeze()
    try:
        code = server.run()
    except BaseException as error:
        incident(logger, "the worker's loop failed", error)
        code = EXIT_CANT_SERVE
    end_process(code)


def load_models(settings: Settings, recorder: Recorder, fds: list[int]) -> list[ServedModel]:
    """Loads the models, saying of each how it will be scored.

    Args:
        settings: how; their paths are what the files are called.
        recorder: where their metrics go.
        fds: the files that the supervisor has read into memory.

    Raises:
        ModelError: names the file and the reason.
    """
    return_freed_arrays()
    loaded = []
    for number, (path, fd) in enumerate(zip(settings.models, fds, strict=True)):
        started = time.monotonic()
        with errors_named(Path(path).name):
            file = ModelFile.inherited(fd, path)
            model = Model.of(file, settings.engine, settings.threads, settings.device)
        seconds = time.monotonic() - started
        logger.info(
            "loaded %s as %s@%s in %.2f s: %d features, %d trees, engine %s (%s), sha256 %s",
            path,
            model.name,
            model.version,
            seconds,
            model.features.num_features,
            model.metadata.trees,
            model.engine_name,
            model.engine_reason,
            model.digest[:16],
        )
        metrics = recorder.model(number, (model.name, model.version))
        metrics.loaded(
            seconds,
            {
                "engine": model.engine_name,
                "reason": model.engine_reason,
                "features": str(model.features.num_features),
                "trees": str(model.metadata.trees),
                "depth": str(model.metadata.depth),
                "objective": model.metadata.objective,
                "output": model.metadata.output,
            },
        )
        if model.engine.gpu:
            recorder.gpu_used(model.engine.gpu)
        loaded.append(ServedModel(model, settings.max_batch_rows, metrics))
    return loaded


def _record_machine(recorder: Recorder) -> None:
    """Puts on record what runs: versions, instruction sets."""
    recorder.build(
        {
            "version": distribution.version(),
            "python": sys.version.split()[0],
            "grpcio": metadata.version("grpcio"),
            "onnxruntime": onnxruntime.__version__,  # or that of onnxruntime-gpu in its place
        }
    )
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


if __name__ == "__main__":
    main()
