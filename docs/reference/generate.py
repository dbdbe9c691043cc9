"""Makes the pages of this folder from the code: `make docs`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from ranker import errors
from ranker.cli.main import cli
from ranker.metrics.catalogue import METRICS
from ranker.metrics.metric import Kind
from ranker.repository.config import Config

FOLDER = Path(__file__).parent

MADE = "<!-- Made from the code by `make docs`; changes here are lost. -->\n"

FLAGS = """# Flags

Every flag can also be given as an environment variable; the command line has precedence. What may
be repeated is separated by spaces there. `ranker COMMAND --help` prints the same.
"""

METRICS_INTRO = """# Metrics

Prometheus reads them from `/metrics` on `--metrics-port`. All workers of a server are added up,
and a counter survives the restart of a worker. Google Cloud Monitoring gets the same metrics as
`custom.googleapis.com/ranker/...`, without the prefix `ranker_`.

No label value comes from a caller, so that callers can't create series. To a reader that asks for
OpenMetrics, each bucket of the latency also shows the trace id of a recent request whose trace
is recorded: its caller's, by the `sampled` flag of `traceparent`, or the server's own.
[Operations](../operations.md) says which of these to watch.
"""

STATUS_INTRO = """# Status codes

How a request ends. A unary call (`Rank`, `GetModel`, `ListModels`) ends with the status as its gRPC
status, details in `grpc-status-details-bin`; on a stream (`RankStream`) each answer carries a
`status` of its own, with the same code, message and details. The Python clients raise the
exception, a class of `ranker.errors`.
"""

ADVICE = {
    "INVALID_ARGUMENT": (
        "`BadRequest`: the field, and what was expected",
        "Correct the request; a retry fails again.",
    ),
    "NOT_FOUND": ("", "Ask `ListModels` what is served."),
    "PERMISSION_DENIED": (
        "",
        "Have the operator add the name in the message to those who may call (`--allow-caller`).",
    ),
    "RESOURCE_EXHAUSTED": (
        "`RetryInfo`: when a retry has a chance; in unary calls also as the trailing metadata "
        "`grpc-retry-pushback-ms`. `QuotaFailure`: it is the caller's own quota that is used up",
        "Retry after that time, or show an unranked list. gRPC itself gives this status, without "
        "details, to a message that is too large: more than 1 MiB beyond twice the bytes of "
        "`--max-request-rows` candidates of the widest model.",
    ),
    "DEADLINE_EXCEEDED": ("", "Show an unranked list, or allow more time."),
    "CANCELLED": ("", "None: the caller did it."),
    "UNAVAILABLE": ("", "Retry at once, on another connection. Reopen a stream."),
    "UNIMPLEMENTED": ("", "Compare the .proto with the server's; send messages uncompressed."),
    "INTERNAL": ("", "Find the id in the server's log, and report it."),
    "UNAUTHENTICATED": ("", "Show a certificate that has a name: a SPIFFE ID, or a host's."),
    "FAILED_PRECONDITION": (
        "",
        "A server gives it to requests for explanations of a model that can't be explained: export "
        "the model again, or ask without.",
    ),
}
"""By status: the details that come with it, and what to do."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


def flags() -> str:
    """Every command's options."""
    sections = []
    for name, command in _commands(cli):
        usage = " ".join(command.collect_usage_pieces(click.Context(command)))
        rows = [_flag(name, param) for param in command.params if isinstance(param, click.Option)]
        header = ("Flag", "Environment variable", "Default", "Meaning")
        sections.append(f"\n## `ranker {name} {usage}`\n\n{table(header, rows)}")
    return MADE + FLAGS + "".join(sections)


def _commands(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """The commands of a group and of those in it, with the words that call them."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} ")
        else:
            yield above + name, command


def _flag(command: str, option: click.Option) -> tuple[str, str, str, str]:
    assert option.name is not None
    variable = option.envvar or f"RANKER_{command.replace(' ', '_')}_{option.name}".upper()
    if isinstance(option.show_default, str):
        default = option.show_default
    else:
        value = option.to_info_dict()["default"]
        default = "" if value in (None, "", ()) else f"`{value}`"
    text = option.help or ""
    if isinstance(option.type, click.Choice):
        text += f" One of `{'`, `'.join(option.type.choices)}`."
    return f"`{option.opts[0]}`", f"`{variable}`", default, text


def metrics() -> str:
    """Every metric, and the bounds of the histograms' buckets."""
    header = ("Metric", "Kind", "Unit", "Labels", "Meaning")
    rows = (
        (
            f"`{metric.name}`",
            metric.kind.value,
            "" if metric.unit == "1" else metric.unit,
            ", ".join(f"`{label}`" for label in metric.labels),
            metric.help,
        )
        for metric in METRICS
    )
    histograms: dict[tuple[float, ...], list[str]] = {}
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            histograms.setdefault(metric.buckets, []).append(f"`{metric.name}`")
    bounds = (
        (", ".join(names), ", ".join(f"{bound:g}" for bound in buckets))
        for buckets, names in histograms.items()
    )
    return (
        f"{MADE}{METRICS_INTRO}\n{table(header, rows)}\n## Buckets\n\n"
        f"{table(('Histograms', 'Upper bounds of their buckets, in their unit'), bounds)}"
    )


def status_codes() -> str:
    """Every class of error that has a status of its own."""
    rows = [("`OK`", "", "The request was ranked.", "", "")]
    for error in error_classes():
        details, advice = ADVICE[error.code.name]
        meaning = " ".join((error.__doc__ or "").split("\n\n")[0].split())
        rows.append((f"`{error.code.name}`", f"`{error.__name__}`", meaning, details, advice))
    header = ("Status", "Exception", "Meaning", "Details", "What a caller does")
    return f"{MADE}{STATUS_INTRO}\n{table(header, rows)}"


def error_classes() -> list[type[errors.RankerError]]:
    """The family's classes that have a code of their own, in the order of the code."""
    return [
        kind
        for kind in vars(errors).values()
        if isinstance(kind, type)
        and issubclass(kind, errors.RankerError)
        and kind is not errors.RankerError
        and "code" in vars(kind)
    ]


def config_schema() -> str:
    """The JSON schema of `ranker serve --config`'s file, by which editors complete and check it."""
    schema = Config.model_json_schema()
    _close(schema)
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps({**head, **schema, "title": "ranker.yaml"}, indent=2) + "\n"


def _close(schema: Any) -> None:
    """Admits no other names where names have a pattern, and removes titles, which say nothing."""
    if isinstance(schema, dict):
        if isinstance(schema.get("title"), str):
            del schema["title"]
        if "patternProperties" in schema:
            schema["additionalProperties"] = False
        for part in schema.values():
            _close(part)
    elif isinstance(schema, list):
        for part in schema:
            _close(part)


PAGES: dict[str, Callable[[], str]] = {
    "flags.md": flags,
    "metrics.md": metrics,
    "ranker.schema.json": config_schema,
    "status-codes.md": status_codes,
}
"""What makes each page."""


if __name__ == "__main__":
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
