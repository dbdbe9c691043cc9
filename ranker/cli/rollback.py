"""`ranker rollback`."""

from __future__ import annotations

import click

from ranker.cli.edit import edit, edit_options


@click.command(short_help="Have the previous version rank again.")
@click.argument("model")
@click.argument("label", default="")
@edit_options
def rollback(model: str, label: str, config: str, dry_run: bool) -> None:
    """Have the version rank again that was stable before the last promotion.

    Edits the configuration: `stable` gets the version of `previous` and all traffic.
    With a LABEL other than stable it takes that label's traffic away and gives it to
    `stable`, which stays at its version. While the traffic is split, LABEL must be said.

    \b
      ranker rollback books            after a promotion: the version before
      ranker rollback books canary     during a canary: nobody gets it any more
    """
    from ranker.distribution import require

    require("serve")

    from ranker.repository.promotion import roll_back

    edit(config, model, lambda before: roll_back(model, before, label), dry_run)
