"""The `ranker` command."""

from __future__ import annotations

import os
import signal
from importlib import import_module
from typing import Any

import click

from ranker.distribution import NAME, MissingExtraError

_COMMANDS = (
    "check",
    "evaluate",
    "export",
    "log",
    "models",
    "promote",
    "publish",
    "rank",
    "replay",
    "rollback",
    "serve",
)


class _Commands(click.Group):
    """Imports a command only when it is used: `serve` does not need what `export` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ranker.cli.{name}"), name)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; an error that a user can act on is one line and exit code 1."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            # Not imported before: gRPC comes with it, which `serve` prepares for.
            from ranker.errors import RankerError

            if isinstance(error, RankerError | MissingExtraError):
                raise click.ClickException(str(error)) from error
            raise


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name=NAME)
def cli() -> None:
    """Rank candidate lists with XGBoost rankers, over gRPC.

    \b
      ranker export model.ubj -o books.onnx     convert a model to ONNX, and verify it
      ranker evaluate books.onnx test.parquet   measure it on labelled queries
      ranker publish books.onnx gs://bucket/rankers/books   put it where servers find it
      ranker serve books.onnx                   serve it over gRPC
      ranker models                             show what that server serves
      ranker promote books canary               have a new version rank for everybody
      ranker rank candidates.csv --top-k 10     rank a file's candidates on that server
      ranker replay logs --model books.onnx     rank again what a server has logged
    """


def main() -> None:
    """The program."""
    if os.getpid() == 1:
        # The kernel gives it no signal that it has no handler for. An exception would
        # be lost where Python ignores those, in the midst of an import.
        signal.signal(signal.SIGTERM, lambda number, _: os._exit(128 + number))
    cli(auto_envvar_prefix="RANKER")
