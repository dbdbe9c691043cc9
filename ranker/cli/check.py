"""`ranker check`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from ranker.repository.config import Config
    from ranker.repository.wanted import Wanted, WantedModel

_DIGITS = 12
"""Of a digest, in the table."""


@click.command(short_help="Check a configuration, and show what it would serve.")
@click.argument("file", default="ranker.yaml")
@click.option("--offline", is_flag=True, help="Read the file only; ask no source.")
@click.option(
    "--model-cache",
    type=click.Path(file_okay=False, path_type=Path),
    show_default="ranker in the user's cache",
    help="Folder for models that are fetched from elsewhere.",
)
def check(file: str, offline: bool, model_cache: Path | None) -> None:
    """Check FILE, a configuration of `ranker serve --config`, and show what it would serve.

    FILE may be in a bucket, as gs://bucket/ranker.yaml.

    All that is wrong is told with its line and column, and the exit code is 1. What
    has no effect as it is, a guard without traffic say, is told as a warning, and so
    are more versions than can change at a time. The sources are asked too, and the
    models of their versions are fetched and read. They are not tried: that a server
    does before it serves them.

    \b
      ranker check ranker.yaml --offline
    """
    from ranker.distribution import require

    require("serve")

    from ranker.errors import ConfigError
    from ranker.repository.config_doubts import doubts
    from ranker.repository.config_place import load_config, open_config
    from ranker.repository.resolver import Resolver

    try:
        place = open_config(file, model_cache)
        config = load_config(place)
    except ConfigError as error:
        click.echo(error.message, err=True)
        sys.exit(1)
    for doubt in doubts(config):
        click.echo(f"warning: {doubt}", err=True)
    if offline:
        click.echo(_described(config))
    else:
        click.echo(_resolved(Resolver(place.base, model_cache).resolve(config)))


def _described(config: Config) -> str:
    """What the file says, where no source is asked."""
    from ranker.cli.text_table import format_table
    from ranker.repository.config import Latest

    rows: list[list[str]] = []
    for name, model in config.models.items():
        found = [
            (version, label, _percent(model.traffic.get(label)), "")
            for label, version in model.labels.items()
        ]
        if isinstance(model.versions, Latest):
            found.append((f"latest {model.versions.latest}", "", "", ""))
        elif others := [v for v in model.versions if v not in model.labels.values()]:
            found += [(version, "", "", "") for version in others]
        elif not model.labels:
            found.append(("latest 1", "", "", ""))
        if model.shadow is not None:
            found.append((model.shadow.version, "", "", _percent(100.0 * model.shadow.share)))
        rows += [[name, *each, model.source] for each in found]
    header = ["model", "version", "label", "traffic", "shadow", "source"]
    return format_table(header, rows, ("traffic", "shadow"))


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:g} %"


def _resolved(wanted: Wanted) -> str:
    """What would be served, as the sources are now."""
    from ranker.cli.text_table import format_table

    header = ["model", "version", "labels", "traffic", "shadow", "trees", "sha256"]
    rows = [_row(model, wanted) for model in wanted.models]
    return format_table(header, rows, ("traffic", "shadow", "trees"))


def _row(model: WantedModel, wanted: Wanted) -> list[str]:
    from ranker.model import ModelFile
    from ranker.model.model import errors_named

    route = wanted.routes[model.name]
    labels, share = route.names(model.version), 100.0 * route.share(model.version)
    with errors_named(model.path):
        file = ModelFile.read(model.path)
    trees, digest = str(file.metadata.trees), file.digest[:_DIGITS]
    shadow = _percent(100.0 * route.shadow_share) if model.version == route.shadow else ""
    return [model.name, model.version, ", ".join(labels), _percent(share), shadow, trees, digest]
