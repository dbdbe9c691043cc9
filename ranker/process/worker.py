"""A serving process, from settings to exit: alone, or as one of a supervisor's workers."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from importlib import metadata
from typing import NoReturn

from ranker import distribution, logs
from ranker.engine.runtime import onnxruntime
from ranker.engine.simd import engine as simd
from ranker.errors import ModelError
from ranker.metrics.aggregates import Aggregates, Layout
from ranker.metrics.recorder import Recorder
from ranker.model import Model
from ranker.process.heap import keep_freed_memory
from ranker.process.publisher import Publisher
from ranker.process.server import EXIT_MODEL, METHODS, Server, end_process, load_models
from ranker.process.settings import Settings

logger = logging.getLogger(__name__)


def serve_alone(settings: Settings) -> NoReturn:
    """Serves from this process, metrics included, until it is told to stop; then ends it.

    Raises:
        ModelError: a model can't be loaded, or can't score.
        OSError: a port can't be had.
    """
    loaded = load_models(settings)
    names = tuple((model.name, model.version) for model, _ in loaded)
    aggregates = Aggregates.private(Layout(names, METHODS))
    recorder = Recorder(aggregates)
    server = Server(settings, [model for model, _ in loaded], recorder)
    server.warm()
    record_start(recorder, loaded)
    port = server.bind()
    publisher = Publisher(aggregates, settings)
    logger.info("listening on %s:%d", settings.host, port)
    freeze()
    code = server.run()
    publisher.close()
    end_process(code)


def record_start(recorder: Recorder, loaded: list[tuple[Model, float]]) -> None:
    """Puts on record what runs: versions, models, instruction sets."""
    recorder.build(
        {
            "version": distribution.version(),
            "python": sys.version.split()[0],
            "grpcio": metadata.version("grpcio"),
            "onnxruntime": onnxruntime.__version__,  # or that of onnxruntime-gpu in its place
        }
    )
    recorder.simd_found((simd.paths() or ["none"])[0], simd.unavailable() or "built in")
    for gpu in {model.engine.gpu for model, _ in loaded} - {""}:
        recorder.gpu_used(gpu)
    for index, (model, seconds) in enumerate(loaded):
        recorder.model_loaded(
            index,
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


def freeze() -> None:
    """Prepares the memory of a process that has loaded all it needs.

    What was loaded lives as long as the process, so the garbage collector shall
    not look at it: walking it at every full collection would stall requests for
    tens of milliseconds. What requests free is kept for the next ones.
    """
    gc.collect()
    gc.freeze()
    keep_freed_memory()


def main() -> None:
    """The program of a supervisor's worker.

    Arguments: the settings as JSON, the worker's index, and the inherited file
    descriptors of the metrics' buffer and of a socket to the supervisor. On
    that socket the worker writes a line once it listens; its end of file
    means that the supervisor is gone, and then the worker drains.
    """
    settings = Settings.from_json(sys.argv[1])
    index, metrics_fd, link_fd = map(int, sys.argv[2:5])
    signal.pthread_sigmask(signal.SIG_SETMASK, [])  # the supervisor's own is inherited
    logs.configure(settings.log_format, settings.log_level, index, settings.gcp_project)
    recorder = Recorder(Aggregates.attach(metrics_fd), index)
    try:
        loaded = load_models(settings)
        server = Server(settings, [model for model, _ in loaded], recorder, reuse_port=True)
        server.warm()
    except ModelError as error:
        recorder.model_load_failed(-1)
        logger.error("%s", error.message)
        sys.exit(EXIT_MODEL)
    record_start(recorder, loaded)
    server.bind()
    link = socket.socket(fileno=link_fd)
    link.sendall(b"listening\n")
    threading.Thread(target=_outlive_not, args=(link,), name="link", daemon=True).start()
    freeze()
    end_process(server.run())


def _outlive_not(link: socket.socket) -> None:
    """Drains once the supervisor is gone."""
    with contextlib.suppress(ConnectionResetError):  # it went without having read our line
        link.recv(1)
    logger.warning("the supervisor is gone")
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
