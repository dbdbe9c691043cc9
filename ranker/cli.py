"""The `ranker` command."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from ranker.errors import RankerError

_COMMANDS = ("export", "rank", "serve")


class _Commands(click.Group):
    """Imports a command when it is called for: `serve` has no use for what `export` needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"ranker.commands.{name}"), name)
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ranker")
def cli() -> None:
    """Serve XGBoost rankers over gRPC, fast.

    \b
      ranker export model.ubj -o books.onnx     XGBoost -> ONNX, verified
      ranker serve books.onnx                   ONNX -> a gRPC server
      ranker rank candidates.csv --top-k 10     ask the server
    """


def main() -> None:
    """Runs the command; an error that a user can act on is one line and exit code 1."""
    try:
        cli(auto_envvar_prefix="RANKER")
    except RankerError as error:
        click.echo(f"ranker: {error.message}", err=True)
        sys.exit(1)
