"""`ranker models`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from ranker.cli.number import Number
from ranker.cli.tls import tls_options

if TYPE_CHECKING:
    from ranker.client import Tls
    from ranker.client.model_list import ModelList
    from ranker.v1 import ranking_pb2 as pb

_DIGITS = 12
"""Of a digest, in the table."""


@click.command(short_help="Show what a running server serves.")
@click.argument("target", metavar="[HOST:PORT]", default="localhost:50051")
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the server's answer.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all that the server tells, as JSON.")
@tls_options
def models(target: str, timeout: float, as_json: bool, tls: Tls | None) -> None:
    """Show what a running server serves, by default that of this machine.

    \b
      ranker models ranker.shop.internal:50051

    For each version of each model: its labels, the percentage that it ranks of the
    requests which name no version, that of the other versions' lists which it scores
    too as their shadow, its state, what scores it, the number of its
    trees, and the SHA-256 of its file. A version that the server's configuration
    names and that could not be loaded is `failed`. What is wrong with it, or with the
    configuration, is below. The generation counts how often the set of models was
    replaced.
    """
    from ranker.client import RankerClient
    from ranker.errors import UnavailableError

    with RankerClient(target, timeout=timeout, tls=tls) as client:
        try:
            served = client.list_models()
        except UnavailableError as error:
            raise UnavailableError(f"can't reach a server at {target}: {error.message}") from error
    click.echo(_as_json(served) if as_json else _as_table(served))


def _as_table(served: ModelList) -> str:
    from ranker.cli.text_table import format_table

    header = [
        "model",
        "version",
        "labels",
        "traffic",
        "shadow",
        "state",
        "engine",
        "trees",
        "sha256",
    ]
    lines = [format_table(header, list(map(_row, served)), numeric=("traffic", "shadow", "trees"))]
    lines += [
        f"{model.name}@{model.version}: {model.state_reason}"
        for model in served
        if model.state_reason not in ("", served.failure)
    ]
    if served.failure:
        lines.append(f"what the configuration wants can't be served: {served.failure}")
    return "\n".join([*lines, f"generation {served.generation}"])


def _row(model: pb.Model) -> list[str]:
    is_served = bool(model.engine)
    return [
        model.name,
        model.version,
        ", ".join(model.labels),
        f"{model.traffic_percent:g} %" if is_served else "",
        f"{model.shadow_percent:g} %" if model.shadow_percent else "",
        _state(model),
        model.engine,
        str(model.num_trees) if is_served else "",
        model.sha256[:_DIGITS],
    ]


def _state(model: pb.Model) -> str:
    from ranker.v1 import ranking_pb2 as pb

    return pb.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()


def _as_json(served: ModelList) -> str:
    from google.protobuf.json_format import MessageToDict

    listed = [
        {
            **MessageToDict(
                model, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            ),
            "state": _state(model),
        }
        for model in served
    ]
    told = {"generation": served.generation, "failure": served.failure, "models": listed}
    return json.dumps(told, indent=2)
