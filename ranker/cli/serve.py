"""`ranker serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from ranker.process.settings import Settings

_DEFAULTS = {name: field.default for name, field in Settings.__dataclass_fields__.items()}


def _setting(name: str, kind: Any, text: str) -> Callable[[Any], Any]:
    """The option for one field of `Settings`, also read from `RANKER_<NAME>`."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=_DEFAULTS[name],
        show_default=_DEFAULTS[name] != "",
        envvar=f"RANKER_{name.upper()}",
        show_envvar=True,
        help=text,
    )


_COUNT = click.IntRange(min=1)
_PORT = click.IntRange(0, 65535)
_SECONDS = click.FloatRange(min=0)


@click.command
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, envvar="RANKER_MODELS")
@_setting("host", str, "Address to listen on.")
@_setting("port", _PORT, "gRPC port; 0 takes any free one and logs it.")
@_setting(
    "metrics_port", click.IntRange(-1, 65535), "Port of Prometheus' /metrics; 0 any, -1 none."
)
@_setting("workers", _COUNT, "Processes behind the port; one per core is the most that pays.")
@_setting(
    "engine",
    click.Choice(["auto", "simd", "onnx", "cuda"]),
    "How to score. auto: the vectorised engine where it is exact, else onnxruntime.",
)
@_setting(
    "device",
    str,
    "Where to score: auto, cpu, cuda or cuda:N. auto: large batches on a GPU, if it is faster.",
)
@_setting("threads", click.IntRange(1, 1024), "Threads that may share one large batch, per worker.")
@_setting(
    "transport",
    click.Choice(["auto", "core", "aio"]),
    "How to speak gRPC. core: grpcio's core on one loop; aio: the public asyncio API, slower.",
)
@_setting("max_batch_rows", _COUNT, "Most candidates scored at once; for a GPU give 65536.")
@_setting(
    "max_batch_delay",
    _SECONDS,
    "Seconds an idle engine waits for a batch to fill. 0: never; requests gather while it is busy.",
)
@_setting("max_queue_rows", _COUNT, "Most candidates that may wait; more are refused.")
@_setting("max_queue_bytes", _COUNT, "Most bytes that waiting requests may hold.")
@_setting("max_request_rows", _COUNT, "Most candidates in one request.")
@_setting(
    "max_connection_age",
    _SECONDS,
    "Seconds after which clients are asked to reconnect, so that they find new pods; 0: never.",
)
@_setting("drain_timeout", _SECONDS, "Seconds that requests in flight have after SIGTERM.")
@_setting("gcp_project", str, "Project to export metrics to GCP Monitoring for; empty: none.")
@_setting("gcp_interval", click.FloatRange(min=10), "Seconds between two exports to GCP.")
@_setting("gcp_emulator", str, "Address of a stand-in for GCP Monitoring's API, for tests.")
@_setting(
    "log_format", click.Choice(["auto", "json", "text"]), "auto: text on a terminal, else JSON."
)
@_setting(
    "log_level",
    click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    "Least severe messages to log.",
)
def serve(models: tuple[str, ...], **values: Any) -> None:
    """Serve one or more MODELs (ONNX files) over gRPC until SIGTERM.

    The first MODEL answers requests that name none. Of several files with the
    same model name, the first is its default version.

    \b
      ranker serve books.onnx
      ranker serve books.onnx --port 50051 --metrics-port 9090 --workers 4
      RANKER_PORT=50052 ranker serve books.onnx movies.onnx

    Health (grpc.health.v1) says SERVING once the models are warm, NOT_SERVING
    from SIGTERM on. Requests in flight then have --drain-timeout to finish, and
    the exit code is 0. A second SIGTERM doesn't wait for them. A server whose GPU
    is lost drains of itself, and its exit code is 3.
    """
    from ranker.distribution import require

    require("serve")

    from ranker.transport import environment

    environment.prepare()  # before anything imports gRPC

    from ranker import logs

    settings = Settings(models=models, **values)
    logs.configure(settings.log_format, settings.log_level, project=settings.gcp_project)
    try:
        if settings.workers > 1:
            from ranker.process.supervisor import Supervisor

            sys.exit(Supervisor(settings).run())
        from ranker.process.worker import serve_alone

        serve_alone(settings)
    except (OSError, ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
