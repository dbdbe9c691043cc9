"""`ranker serve`."""

from __future__ import annotations

import difflib
import logging
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

import click

from ranker.cli.number import Number
from ranker.engine.registry import CHOICES as ENGINES
from ranker.metrics.access_log import MODES
from ranker.metrics.exporters import Option, exporters
from ranker.process.settings import DEFAULT_HTTP_PORT, Settings
from ranker.process.vertex import stored_models
from ranker.transport.registry import CHOICES as TRANSPORTS

logger = logging.getLogger(__name__)

_OTHERS = re.compile(
    r"RANKER_(CHECK|EVALUATE|EXPORT|LOG_(CONVERT|SHOW)|MODELS|PROMOTE|PUBLISH|RANK|REPLAY|ROLLBACK)"
    r"_.*"  # of a command
    r"|RANKER_SERVICE_(HOST|PORT).*|RANKER_PORT_\d+_.*"  # of a Kubernetes service named `ranker`
)

_DEFAULTS = {name: field.default for name, field in Settings.__dataclass_fields__.items()}


def _flag(
    name: str, default: Any, kind: Any, text: str, shown: str | None = None
) -> Callable[[Any], Any]:
    """A flag that is also read from `RANKER_<NAME>`."""
    return click.option(
        f"--{name.replace('_', '-')}",
        type=kind,
        default=default,
        show_default=shown or default != "",
        envvar=f"RANKER_{name.upper()}",
        allow_from_autoenv=False,  # `RANKER_SERVE_<NAME>`, as other commands have it
        show_envvar=True,
        help=text,
        multiple=isinstance(default, tuple),
    )


def _setting(name: str, kind: Any, text: str, shown: str | None = None) -> Callable[[Any], Any]:
    """The flag of one field of `Settings`; `shown` is what to say of its default."""
    return _flag(name, _DEFAULTS[name], kind, text, shown)


def _kind(option: Option) -> Any:
    """What click should read an exporter's option as."""
    if isinstance(option.default, int):
        return click.IntRange(option.least, option.most)
    if isinstance(option.default, float):
        return Number(option.least, option.most)
    return str


def _exporters_flags(command: Any) -> Any:
    """Adds the flags of all exporters that are installed."""
    for exporter in reversed(exporters().values()):
        for option in reversed(exporter.options):
            command = _flag(option.name, option.default, _kind(option), option.help)(command)
    return command


_COUNT = click.IntRange(min=1)
_PORT = click.IntRange(0, 65535)
_SECONDS = Number(min=0)


def warn_of_unknown_variables(command: click.Command, environment: Mapping[str, str]) -> None:
    """Says which `RANKER_*` variables set nothing, and which was meant perhaps.

    Args:
        command: knows the variables that there are.
        environment: those that are set.
    """
    known = {
        variable for parameter in command.params if isinstance(variable := parameter.envvar, str)
    }
    for name in sorted(environment):
        if name.startswith("RANKER_") and name not in known and not _OTHERS.fullmatch(name):
            near = difflib.get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            logger.warning("the environment's %s sets nothing%s", name, hint)


def _stored_models() -> tuple[str, ...]:
    """The models that Vertex AI has put somewhere, where none is named."""
    try:
        models = stored_models(os.environ)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    if not models:
        raise click.UsageError("expected models (ONNX files), or --config FILE")
    return models


@click.command
@click.argument("models", metavar="[MODEL...]", nargs=-1, envvar="RANKER_MODELS")
@_setting(
    "config",
    str,
    "A file that says what is served, instead of MODEL...: versions, labels, traffic. The server "
    "follows its changes, and those of the sources that it names. It may be in a bucket.",
)
@_setting(
    "model_cache",
    click.Path(file_okay=False),
    "Folder for models that are fetched from elsewhere. Empty: ranker in the user's cache.",
)
@_setting("host", str, "Address to listen on.")
@_setting("port", _PORT, "Port for gRPC. 0: any free port; the log says which.")
@_setting(
    "tls_cert",
    click.Path(dir_okay=False),
    "Certificate in PEM, with those between it and its authority, for TLS on --port and "
    "--http-port (not on --metrics-port). Read anew when it changes. Empty: no TLS.",
)
@_setting("tls_key", click.Path(dir_okay=False), "Its private key in PEM, without a password.")
@_setting(
    "tls_client_ca",
    click.Path(dir_okay=False),
    "Authorities in PEM; callers need a certificate of one of them. Empty: none.",
)
@_setting(
    "allow_caller",
    str,
    "The name in the certificate of a caller that may call: spiffe://TRUST-DOMAIN/PATH or "
    "dns:HOST; repeat it for more. Others are refused, but for health. None: whoever has a "
    "certificate of --tls-client-ca may.",
)
@_setting(
    "http_port",
    click.IntRange(-1, 65535),
    "Port for HTTP: the status page, JSON requests, /metrics, health. 0: any free port; -1: none.",
    f"{DEFAULT_HTTP_PORT}, or none if that is taken",
)
@_setting(
    "workers", _COUNT, "Processes that share the port. More than one per core brings nothing."
)
@_setting(
    "engine",
    click.Choice(ENGINES),
    "What scores. simd: the CPU's vector instructions; onnx: onnxruntime; cuda: a GPU. "
    "auto: simd if its scores are exactly the model's, else onnx.",
)
@_setting(
    "device",
    str,
    "Where to score: cpu, cuda (the first GPU), cuda:N, or auto, which gives large batches to a "
    "GPU if that is faster.",
)
@_setting(
    "threads",
    click.IntRange(1, 1024),
    "Threads per worker that may score one large batch together.",
)
@_setting(
    "transport",
    click.Choice(TRANSPORTS),
    "How to speak gRPC. core: grpcio's C core on one thread; aio: grpcio's public asyncio API, "
    "slower. auto: core if it has been tested with this release of grpcio, or passes a test now.",
)
@_setting(
    "max_batch_rows",
    _COUNT,
    "Most candidates in one batch; fewer for a model of more than 64 features. For a GPU: 65536.",
)
@_setting(
    "max_batch_delay",
    _SECONDS,
    "Seconds that an idle engine waits for a batch to fill. 0: it does not wait, and what arrives "
    "while it is busy becomes the next batch.",
)
@_setting("max_queue_rows", _COUNT, "Most candidates that may wait to be scored; more are refused.")
@_setting(
    "max_queue_bytes",
    click.IntRange(min=0),
    "Most bytes of requests that may wait to be scored; more are refused. 0: a quarter of what "
    "callers may take of a worker's memory.",
)
@_setting("max_request_rows", _COUNT, "Most candidates in one request.")
@_setting(
    "max_deadline",
    Number(min=0, min_open=True),
    "Most seconds that a request may take, whatever its caller says. Without it, callers who give "
    "no deadline would keep those out who do.",
)
@_setting(
    "max_memory",
    click.IntRange(min=0),
    "Bytes of memory that all processes of the server together may use. Callers who would make "
    "it more are refused. 0: what the container, or else the machine, has.",
)
@_setting(
    "message_timeout",
    Number(min=0, min_open=True),
    "Seconds within which the message of a call has to be there.",
)
@_setting(
    "max_connection_age",
    _SECONDS,
    "Seconds after which clients are asked to reconnect, so that they find new servers. 0: never.",
)
@_setting("drain_timeout", _SECONDS, "Seconds that requests may take to finish after SIGTERM.")
@_exporters_flags
@_setting(
    "log_format",
    click.Choice(["auto", "json", "text"]),
    "json: one object per line; text: for people. auto: text on a terminal, else json.",
)
@_setting(
    "log_level",
    click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False),
    "The least severe messages to log.",
)
@_setting(
    "access_log",
    click.Choice(MODES),
    "Which ranking requests get a line of JSON on standard output. errors: those that end with an "
    "error, 50 a second in each worker; sampled: these, and a share of all others; all: each "
    "of them.",
)
@_setting(
    "access_log_rate",
    Number(0, 1),
    "The share of requests that --access-log sampled logs, by a hash of the trace's id: all "
    "of a trace, or nothing of it.",
)
@_setting(
    "log_rankings",
    str,
    "Log lists as they were asked and answered, for `ranker log convert` and `ranker replay`: to a "
    "folder, or to gs://BUCKET/PATH or s3://BUCKET/PATH. They hold features, ids and units, so "
    "keep them as you would keep those. Empty: nothing is logged.",
)
@_setting(
    "log_rate",
    Number(0, 1),
    "The share of the units whose lists --log-rankings logs, by a hash of the unit: all lists of "
    "a unit, on every server, or none. Of requests without a unit, the share of the requests.",
)
@_setting(
    "log_exclude_feature",
    str,
    "A feature whose values are not to be logged; repeat it for more. They are missing in the "
    "logged request, so that its scores can't be computed again. If a model has no feature of that "
    "name, its lists are logged without any features.",
)
@_setting(
    "log_max_bytes",
    click.IntRange(min=2**20),
    "Most bytes of the log's files on this machine; the oldest are removed for newer ones. For a "
    "bucket: of those that wait to be uploaded. It is for one server: each further "
    "server that writes to the same folder may take a quarter of it more.",
)
def serve(models: tuple[str, ...], **values: Any) -> None:
    """Serve models (ONNX files) over gRPC until SIGTERM.

    A request that names no model is answered by the first MODEL. If several
    files have the same model name, the first of them is the default version.

    \b
      ranker serve books.onnx
      ranker serve --config ranker.yaml
      ranker serve books.onnx --port 50051 --metrics-port 9090 --workers 4
      RANKER_PORT=50052 ranker serve books.onnx movies.onnx

    The health service (grpc.health.v1) says SERVING once all models have been
    loaded and tried, and NOT_SERVING from SIGTERM on. After SIGTERM, requests
    that have arrived may finish within --drain-timeout; then the server exits
    with code 0. A second SIGTERM ends it at once. SIGHUP has the configuration
    read anew; without --config it is as SIGTERM. A worker that dies, or loses its
    GPU, is replaced by another one.
    """
    from ranker.distribution import require

    require("serve")

    from ranker import logs
    from ranker.process.supervisor import StartError, Supervisor

    if models and values["config"]:
        raise click.UsageError("expected models (ONNX files), or --config FILE, and not both")
    if not values["config"]:
        models = models or _stored_models()
    options = {option.name for exporter in exporters().values() for option in exporter.options}
    of_exporters = {name: values.pop(name) for name in options}
    settings = Settings(models=models, exporters=of_exporters, **values)
    logs.configure(
        settings.log_format, settings.log_level, "supervisor", project=settings.gcp_project
    )
    try:
        settings.certificates()
        settings.caller_policy()
        if settings.log_rankings:
            from ranker.ranking_log.segment_files import folder_of

            folder_of(settings.log_rankings, settings.model_cache)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    warn_of_unknown_variables(click.get_current_context().command, os.environ)
    try:
        sys.exit(Supervisor(settings).run())
    except (StartError, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from error
