"""What `ranker promote` and `ranker rollback` share: they edit a configuration's labels."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ranker.repository.config import ModelConfig


def edit_options(command: Any) -> Any:
    """Adds the options of a command that edits a configuration."""
    command = click.option("--dry-run", is_flag=True, help="Print the change and do not write it.")(
        command
    )
    return click.option(
        "--config",
        default="ranker.yaml",
        show_default=True,
        help="The file to edit: what `ranker serve --config` reads. It may be in a bucket.",
    )(command)


def edit(
    config: str, name: str, change: Callable[[ModelConfig], ModelConfig], dry_run: bool
) -> None:
    """Edits what a configuration says of a model, and prints how.

    Raises:
        ConfigError: the change is not possible, or can't be written.
    """
    from ranker.repository.config_file import ConfigFile
    from ranker.repository.config_place import open_config

    file = ConfigFile(open_config(config))
    before = file.model(name)
    after = change(before)
    if after == before:
        click.echo(f"{config}: nothing to change: {_told(name, before)}")
        return
    text = file.edited(name, after)
    old, new = (each.splitlines(keepends=True) for each in (file.text, text))
    click.echo("".join(difflib.unified_diff(old, new, config, config)), nl=False)
    if not dry_run:
        file.replace(text)
    click.echo(f"{'not written' if dry_run else 'written'}: {_told(name, after)}")


def _told(name: str, model: ModelConfig) -> str:
    """A model's labels and traffic in a line."""
    from ranker.repository.traffic import STABLE

    labels = ", ".join(f"{label} is {version}" for label, version in model.labels.items())
    shares = {label: share for label, share in model.traffic.items() if share}
    traffic = ", ".join(f"{share:g} % to {label}" for label, share in shares.items())
    if not traffic and STABLE in model.labels:
        traffic = f"100 % to {STABLE}"
    return f"{name}: {labels}" + (f"; {traffic}" if traffic else "")
