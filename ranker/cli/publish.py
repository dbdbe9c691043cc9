"""`ranker publish`."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import click

_QUIET_SECONDS = 5.0
"""An upload that takes longer says that it goes on, as often."""


@click.command(short_help="Put a model into a repository, as a version of it.")
@click.argument("model", metavar="MODEL.onnx", type=click.Path(exists=True, dir_okay=False))
@click.argument("destination")
@click.option(
    "--version",
    default="",
    show_default="the one that was exported, else the next number",
    help="The version to publish it as.",
)
def publish(model: str, destination: str, version: str) -> None:
    """Put a model into a repository, as a version that is never overwritten.

    DESTINATION is where the model's versions are: a folder, gs://bucket/path or
    s3://bucket/path. The model is loaded and checked first. Then
    VERSION/model.onnx is written, and VERSION/manifest.json last: no server takes
    a version before it is complete. A broken upload can be run again.

    \b
      ranker publish books.onnx gs://bucket/rankers/books --version 8
    """
    from ranker.distribution import require

    require("serve")

    from ranker.model import Model, ModelFile
    from ranker.model.model import errors_named
    from ranker.repository.place import BUCKETS, local_path
    from ranker.repository.publication import publish as put

    with errors_named(model):
        file = ModelFile.read(model)
        Model.of(file)
    facts = file.metadata
    click.echo(
        f"{model}: {facts.trees} trees, XGBoost {facts.xgboost_version or 'unknown'}, "
        f"sha256 {file.digest}"
    )
    with _signs_of_life():
        done = put(file, destination, version, progress=click.echo)
    version = done.manifest.version
    click.echo(f"published version {version}" if done.new else f"version {version} was there")
    click.echo("Serve it with:\n")
    if done.destination.startswith(BUCKETS):
        click.echo("    ranker serve --config ranker.yaml\n\nwhere ranker.yaml says:\n")
        click.echo(f"models:\n  {file.name}:\n    source: {done.destination}")
    else:
        path = local_path(done.destination) / version / "model.onnx"
        click.echo(f"    ranker serve {shlex.quote(str(path))}")


@contextmanager
def _signs_of_life() -> Iterator[None]:
    """Says now and then that an upload goes on: a bucket takes a file in one request."""
    began = time.monotonic()
    done = threading.Event()

    def tell() -> None:
        while not done.wait(_QUIET_SECONDS):
            click.echo(f"still uploading, {time.monotonic() - began:.0f} s so far", err=True)

    threading.Thread(target=tell, daemon=True).start()
    try:
        yield
    finally:
        done.set()
