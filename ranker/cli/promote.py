"""`ranker promote`."""

from __future__ import annotations

import click

from ranker.cli.edit import edit, edit_options


@click.command(short_help="Have a label's version rank for everybody.")
@click.argument("model")
@click.argument("label")
@click.option(
    "--to",
    default="stable",
    show_default=True,
    help="The label that gets the version. With another than stable only that label moves.",
)
@edit_options
def promote(model: str, label: str, to: str, config: str, dry_run: bool) -> None:
    """Have the version that LABEL names, the canary's say, rank for everybody.

    Edits the configuration: `stable` gets the version of LABEL and all traffic, and
    `previous` the version that was stable. Comments and layout stay as they are, and
    the change is printed. A running server follows the file; if it is kept in git
    or made into a ConfigMap, commit or apply it.

    \b
      ranker promote books canary --config ranker.yaml
    """
    from ranker.distribution import require

    require("serve")

    from ranker.repository.promotion import promote as promoted

    edit(config, model, lambda before: promoted(model, before, label, to), dry_run)
