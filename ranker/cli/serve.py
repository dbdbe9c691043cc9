"""`ranker serve`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from ranker.engine.registry import CHOICES as ENGINES
from ranker.metrics.exporters import Option, exporters
from ranker.process.settings import Settings
from ranker.transport.registry import CHOICES as TRANSPORTS

_DEFAULTS = {name: field.default for name, field in Settings.__dataclass_fields__.items()}


def _flag(name: str, default: Any, kind: Any, text: str) -> Callable[[Any], Any]:
    """A flag that is also read from `RANKER_<NAME>`."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=default,
        show_default=default != "",
        envvar=f"RANKER_{name.upper()}",
        show_envvar=True,
        help=text,
    )


def _setting(name: str, kind: Any, text: str) -> Callable[[Any], Any]:
    """The flag of one field of `Settings`."""
    return _flag(name, _DEFAULTS[name], kind, text)


def _kind(option: Option) -> Any:
    """What click should read an exporter's option as."""
    if isinstance(option.default, int):
        return click.IntRange(option.least, option.most)
    if isinstance(option.default, float):
        return click.FloatRange(option.least, option.most)
    return str


def _exporters_flags(command: Any) -> Any:
    """Adds the flags of all exporters that are installed."""
    for exporter in reversed(exporters().values()):
        for option in reversed(exporter.options):
            command = _flag(option.name, option.default, _kind(option), option.help)(command)
    return command


_COUNT = click.IntRange(min=1)
_PORT = click.IntRange(0, 65535)
_SECONDS = click.FloatRange(min=0)


@click.command
@click.argument("models", metavar="MODEL...", nargs=-1, required=True, envvar="RANKER_MODELS")
@_setting("host", str, "Address to listen on.")
@_setting("port", _PORT, "gRPC port; 0 takes any free one and logs it.")
@_setting("workers", _COUNT, "Processes behind the port; one per core is the most that pays.")
@_setting(
    "engine",
    click.Choice(ENGINES),
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
    click.Choice(TRANSPORTS),
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
@_exporters_flags
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
    the exit code is 0. A second SIGTERM doesn't wait for them. A worker that dies,
    or whose GPU is lost, is replaced by another one.
    """
    from ranker import logs
    from ranker.process.supervisor import StartError, Supervisor

    options = {option.name for exporter in exporters().values() for option in exporter.options}
    of_exporters = {name: values.pop(name) for name in options}
    settings = Settings(models=models, exporters=of_exporters, **values)
    logs.configure(
        settings.log_format, settings.log_level, "supervisor", project=settings.gcp_project
    )
    try:
        sys.exit(Supervisor(settings).run())
    except (StartError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
