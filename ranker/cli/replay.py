"""`ranker replay`."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranker.cli.log import UNVERIFIED_CODES, opened
from ranker.cli.long_work import UnusableError, progress_bar, usage_errors
from ranker.cli.number import Number
from ranker.cli.tls import tls_options
from ranker.distribution import require

if TYPE_CHECKING:
    from ranker.cli.resend import Resent
    from ranker.client import Tls
    from ranker.quality.replay import Replay

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TO_WRITE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(short_help="Rank the lists of a ranking log again, with a model or on a server.")
@click.argument("log", metavar="LOG")
@click.option("--model", "model_file", type=_FILE, help="The model (ONNX file) to rank them with.")
@click.option("--against", metavar="HOST:PORT", default="", help="The server to send them to.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="The first so many; 0: all.")
@click.option("--json", "json_file", type=_TO_WRITE, help="Write the results as JSON here.")
@click.option(
    "--outcomes",
    type=_FILE,
    help="A CSV file of what readers did: request_id, candidate_id or index, label.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=["ndcg@10"],
    show_default=True,
    metavar="NAME[@K]",
    help="What to measure with --outcomes; those of `ranker evaluate`. Repeat it for more.",
)
@click.option(
    "--movers",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of the lists that changed most to name.",
)
@click.option(
    "--speed",
    type=Number(min=0),
    default=1.0,
    show_default=True,
    help="With --against: so many times as fast as it was. 0: as fast as --in-flight lets it.",
)
@click.option(
    "--in-flight",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="With --against: the most lists that wait for their answers.",
)
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="With --against: seconds that a list may take.",
)
@tls_options
def replay(
    log: str,
    model_file: Path | None,
    against: str,
    limit: int,
    json_file: Path | None,
    tls: Tls | None,
    **options: Any,
) -> None:
    """Rank the lists of a ranking log again. LOG: as for `ranker log`.

    \b
      ranker replay /var/log/rankings --model books-7.onnx
      ranker replay gs://bucket/log --model books-8.onnx --outcomes clicks.csv
      ranker replay /var/log/rankings --against localhost:50051 --speed 2

    With --model: lists that this very file ranked must come out as they were
    answered, order and scores to the bit. Lists of another model are compared
    with what this one says of them; with --outcomes also by metrics, for which a
    candidate that nobody named counts as 0. What readers would have done with
    candidates that they were not shown, or higher up, no log knows: take the
    change of a metric as a hint, and let a split of the traffic decide.

    With --against: sends them to a server, in their order and at their pace.

    Exit code 0: what can be compared is equal. 1: an answer differs, or a call
    failed. 2: the command, the log or the model can't be used.
    """
    if bool(model_file) == bool(against):
        raise click.UsageError("expected --model FILE or --against HOST:PORT")
    with usage_errors():
        require("serve")
        if model_file is not None:
            code, document = _with_model(log, model_file, limit, options)
        else:
            code, document = _against(log, against, limit, tls, options)
        if json_file is not None:
            text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
            json_file.write_text(text + "\n", encoding="utf-8")
    sys.exit(code)


def _with_model(log: str, file: Path, limit: int, options: dict[str, Any]) -> tuple[int, Any]:
    from ranker.model import Model
    from ranker.quality.outcomes import Outcomes
    from ranker.quality.replay import replay as run

    path = options["outcomes"]
    outcomes = None if path is None else Outcomes.read(path)
    model = Model.load(file)  # one thread, as servers: onnxruntime adds up in another order on more
    with opened(log) as found_log, progress_bar("replaying") as progress:
        found = run(
            islice(found_log.lists(progress), limit or None),
            model,
            outcomes=outcomes,
            metrics=options["metrics"],
            movers=options["movers"],
        )
    if not (found.lists or found.excluded):
        raise UnusableError(f"{log}: no list is in it")
    if outcomes is not None:
        click.echo(str(outcomes), err=True)
    _print_replay(found, outcomes is not None)
    return int(found.different > 0), found.to_json()


def _print_replay(found: Replay, with_outcomes: bool) -> None:
    own = found.same + found.different
    if own:
        click.echo(f"{own} lists that {found.model} ranked: {found.same} the same to the bit")
    if found.different:
        click.echo(f"{found.different} DIFFER, the first: {found.first_different}")
    if found.excluded:
        click.echo(
            f"{found.excluded} lists that {found.model} ranked can't be ranked again: features "
            "were left out of the log"
        )
    if found.compared:
        _print_compared(found, with_outcomes)
    click.echo(
        f"{found.model}: {found.lists} lists, {found.candidates} candidates, engine {found.engine}",
        err=True,
    )


def _print_compared(found: Replay, with_outcomes: bool) -> None:
    from ranker.cli.text_table import format_table

    if found.absent:
        click.echo(f"missing in some or all lists: {', '.join(found.absent)}", err=True)
    if found.unverified_codes:
        click.echo(f"{UNVERIFIED_CODES}: {', '.join(found.unverified_codes)}", err=True)
    click.echo(
        f"{found.compared} lists of other models: {found.overlap:.1%} of the best {found.k} are "
        f"also {found.model}'s; Kendall's tau-b {found.tau:.3f}; the first is the same in "
        f"{found.first_kept:.1%}"
    )
    if found.moved:
        header = ["changed most: request", "candidates", "overlap", "tau-b", "shown first", "now"]
        rows = [
            [
                each.request_id or str(each.time_unix_nanos),
                str(each.candidates),
                f"{each.overlap:.2f}",
                f"{each.tau:.3f}",
                str(each.best),
                str(each.best_now),
            ]
            for each in found.moved
        ]
        click.echo("\n" + format_table(header, rows, header[1:]))
    if with_outcomes:
        click.echo(f"\n{found.joined} of them with outcomes, of the candidates that were shown:")
        header = ["metric", "as shown", "model", "difference", "95 % interval"]
        rows = [
            [
                each.metric,
                f"{each.baseline.value:.4f}",
                f"{each.model.value:.4f}",
                f"{each.difference.value:+.4f}",
                f"{each.difference.low:+.4f} to {each.difference.high:+.4f}",
            ]
            for each in found.metrics
            if each.baseline is not None and each.difference is not None
        ]
        click.echo(format_table(header, rows, header[1:]))


def _against(
    log: str, target: str, limit: int, tls: Tls | None, options: dict[str, Any]
) -> tuple[int, Any]:
    import asyncio

    from ranker.cli.resend import resend

    with opened(log) as found_log, progress_bar("sending") as progress:
        lists = islice(found_log.lists(progress), limit or None)
        names = ("speed", "in_flight", "timeout")
        how = {name: options[name] for name in names}
        found = asyncio.run(resend(lists, target, tls=tls, **how))
    if not found.sent:
        raise UnusableError(f"{log}: no list is in it")
    if found.errors.get("UNAVAILABLE", 0) == found.sent:
        raise UnusableError(f"can't reach a server at {target}")
    _print_resent(found)
    return int(found.different > 0 or bool(found.errors)), found.to_json()


def _print_resent(found: Resent) -> None:
    rate = found.sent / found.seconds if found.seconds else 0.0
    click.echo(f"{found.sent} lists in {found.seconds:.1f} s, {rate:.0f} a second")
    if found.latencies:
        p50, p99 = (1e3 * found.percentile(each) for each in (50, 99))
        click.echo(f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, from when each was due")
    if found.behind > 0.1:
        click.echo(f"up to {found.behind:.1f} s behind its pace: more lists in flight may help")
    for code, count in found.errors.most_common():
        click.echo(f"{count} ended with {code}")
    click.echo(f"{found.equal} answers equal the log's, {found.different} differ")
    if found.excluded:
        click.echo(f"{found.excluded} can't be compared: features were left out of the log")
    if found.different:
        click.echo(f"the first that differs: {found.first_different}")
