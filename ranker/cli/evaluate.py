"""`ranker evaluate`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranker.cli.log import UNVERIFIED_CODES
from ranker.cli.long_work import progress_bar, usage_errors
from ranker.cli.number import Number
from ranker.distribution import require

if TYPE_CHECKING:
    from ranker.quality import Evaluation
    from ranker.quality.evaluation import MetricResult

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_TO_WRITE = click.Path(dir_okay=False, writable=True, path_type=Path)


@click.command(short_help="Measure a ranker on labelled queries, alone or against another.")
@click.argument("model", type=_FILE)
@click.argument("data")
@click.option("--baseline", type=_FILE, help="The ranker to compare with.")
@click.option(
    "--outcomes",
    type=_FILE,
    help="DATA is a ranking log, and this a CSV file of what readers did: request_id, "
    "candidate_id or index, label.",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    default=["ndcg@10"],
    show_default=True,
    metavar="NAME[@K]",
    help="ndcg, ndcg_linear, dcg, dcg_linear, map, mrr, precision or recall; repeat it for more.",
)
@click.option(
    "--gate",
    "gates",
    multiple=True,
    metavar="CONDITION",
    help="What must hold for exit code 0, as in `ndcg@10 >= baseline - 0.002`; repeat it for more.",
)
@click.option("--group", default="qid", show_default=True, help="A table's column of query ids.")
@click.option("--label", default="label", show_default=True, help="Its column of relevance.")
@click.option("--weight", default="", help="Its column of how much a query counts.")
@click.option(
    "--propensity",
    default="",
    help="Its column of how likely a user looked at the candidate; gains are divided by it.",
)
@click.option(
    "--min-propensity",
    type=Number(0, 1),
    default=0.0,
    show_default=True,
    help="Smaller propensities count as this one.",
)
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="COLUMN",
    help="A column by whose values to tell queries apart; repeat it for more.",
)
@click.option(
    "--first-index",
    type=click.IntRange(0, 1),
    default=0,
    show_default=True,
    help="The number of the first feature in libsvm data.",
)
@click.option(
    "--relevant-from",
    type=Number(min=0),
    default=1.0,
    show_default=True,
    help="The least label that is relevant for map, mrr, precision and recall.",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=1000,
    show_default=True,
    help="Bootstrap samples that the intervals are made of.",
)
@click.option(
    "--confidence",
    type=Number(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="How sure the intervals are.",
)
@click.option("--seed", default=0, show_default=True, help="Of the draws.")
@click.option(
    "--movers",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of the queries that changed most to name, each way.",
)
@click.option("--report", type=_TO_WRITE, help="Write a page with charts here (.html).")
@click.option("--json", "json_file", type=_TO_WRITE, help="Write the results as JSON here.")
def evaluate(
    model: Path,
    data: str,
    report: Path | None,
    json_file: Path | None,
    **options: Any,
) -> None:
    """Measure a ranker (MODEL, an ONNX file) on the labelled queries in DATA.

    DATA is a table, .csv or .parquet, with a line per candidate: a column of query
    ids, one of labels, and the model's features by name. Or it is in libsvm's format
    with query ids (qid:), or with a file DATA.query or DATA.group of query sizes
    beside it. Or, with --outcomes, it is a ranking log, as for `ranker log`: of the
    lists that the outcomes name the candidates that were shown, with label 0 where
    no outcome names them; --label and --propensity are columns of the outcomes then,
    and --slice is by model, version or arm.

    \b
      ranker evaluate books-8.onnx test.parquet --baseline books-7.onnx \\
          --metric ndcg@10 --metric mrr --gate 'ndcg@10 >= baseline - 0.002' \\
          --slice country --report report.html
      ranker evaluate books-8.onnx /var/log/rankings --outcomes clicks.csv

    The rankers are scored on the engine that serves them. Intervals are of the
    bootstrap over queries, the same queries for both rankers.

    Exit code 0: all gates hold, or there are none. 1: a gate fails. 2: the command, a
    model or the data can't be used.
    """
    with usage_errors():
        require("quality")

        from ranker.quality import Columns
        from ranker.quality import evaluate as run

        names = ("group", "label", "weight", "propensity", "slices")
        columns = Columns(**{name: options.pop(name) for name in names})
        with progress_bar("evaluating") as progress:
            found = run(model, data, columns=columns, progress=progress, **options)
        if options["outcomes"] is not None:
            click.echo(found.source, err=True)
        _warn(found)
        _print(found)
        if json_file is not None:
            document = json.dumps(found.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
            json_file.write_text(document + "\n", encoding="utf-8")
        if report is not None:
            from ranker.quality.report import render

            report.write_text(render(found), encoding="utf-8")
    if not found.passed:
        sys.exit(1)


def _warn(found: Evaluation) -> None:
    if found.partly_absent:
        click.echo(f"missing in some or all lists: {', '.join(found.partly_absent)}", err=True)
    if found.unverified_codes:
        click.echo(f"{UNVERIFIED_CODES}: {', '.join(found.unverified_codes)}", err=True)
    for ranker in (found.model, found.baseline):
        if ranker is None:
            continue
        which = f"{ranker.name} {ranker.version}"
        if ranker.absent:
            click.echo(
                f"{which}: missing for every candidate: {', '.join(ranker.absent)}", err=True
            )
        if ranker.tied > 0.01:
            click.echo(
                f"{which}: {ranker.tied:.1%} of the candidates have the score of another with "
                "another label; these stand in the data's order",
                err=True,
            )


def _print(found: Evaluation) -> None:
    from ranker.cli.text_table import format_table

    interval = f"{100 * found.confidence:g} % interval"
    if found.baseline is None:
        header = ["metric", "value", interval]
    else:
        header = ["metric", "baseline", "model", "difference", interval, "better/worse/equal"]
    click.echo(
        format_table(header, [[r.metric, *_cells(r)] for r in found.metrics], numeric=header[1:])
    )
    if found.slices:
        lines = [[s.column, s.value, str(s.queries), *_cells(s.result)] for s in found.slices]
        named = ["slice", f"{found.metrics[0].metric} where it is", "queries"]
        click.echo("\n" + format_table(named + header[1:], lines, ["queries", *header[1:]]))
    for title, movers in (("gained", found.gained), ("lost", found.lost)):
        if movers:
            lines = [
                [m.query, str(m.candidates), f"{m.baseline:.4f}", f"{m.model:.4f}"] for m in movers
            ]
            columns = [f"{title} most: query", "candidates", "baseline", "model"]
            click.echo("\n" + format_table(columns, lines, columns[1:]))
    if found.gates:
        click.echo()
    for gate in found.gates:
        verdict = "pass" if gate.passed else "FAIL"
        click.echo(f"{verdict}  {gate.gate}  (found {gate.value:.4f}, limit {gate.limit:.4f})")
    click.echo(
        f"{found.model.name} {found.model.version}: {found.queries} queries, "
        f"{found.candidates} candidates, engine {found.model.engine}",
        err=True,
    )


def _cells(result: MetricResult) -> list[str]:
    if result.baseline is None or result.difference is None:
        found = result.model
        return [f"{found.value:.4f}", f"{found.low:.4f} to {found.high:.4f}"]
    found = result.difference
    return [
        f"{result.baseline.value:.4f}",
        f"{result.model.value:.4f}",
        f"{found.value:+.4f}",
        f"{found.low:+.4f} to {found.high:+.4f}",
        f"{result.better}/{result.worse}/{result.equal}",
    ]
