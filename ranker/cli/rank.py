"""`ranker rank`."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranker.cli.number import Number
from ranker.cli.tls import tls_options

if TYPE_CHECKING:
    from ranker.categories import Categories
    from ranker.cli.candidates import Candidates
    from ranker.client import Explanation, Ranking, Tls
    from ranker.v1 import ranking_pb2 as pb


def _context(ctx: click.Context, param: click.Parameter, pairs: tuple[str, ...]) -> dict[str, str]:
    """Reads `NAME=VALUE`s; what a value may be is for the model to say."""
    context = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise click.BadParameter(f"expected NAME=NUMBER, got {pair!r}", ctx, param)
        if name in context:
            raise click.BadParameter(f"{name!r} stands twice", ctx, param)
        context[name] = value
    return context


def _context_value(name: str, text: str, categories: Categories | None) -> float:
    from ranker.cli.candidates import feature_value
    from ranker.errors import InvalidRequestError

    try:
        return feature_value(name, text, categories)
    except InvalidRequestError as error:
        reason = error.message if categories else f"expected NAME=NUMBER, got {name + '=' + text!r}"
        raise click.BadParameter(reason, param_hint="--context") from error


@click.command(short_help="Rank the candidates in a file on a running server.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--server",
    metavar="HOST:PORT",
    default="localhost:50051",
    show_default=True,
    help="The server to ask.",
)
@click.option(
    "--top-k",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many candidates to print, best first. 0: all.",
)
@click.option(
    "--explain",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    metavar="N",
    help="Print under each of the best N which features moved it most: what they add to its score.",
)
@click.option(
    "--id-column",
    "id_columns",
    multiple=True,
    metavar="NAME",
    help="A column to print and not to send, even if it holds numbers. Repeat the option for more.",
)
@click.option(
    "--context",
    callback=_context,
    multiple=True,
    metavar="NAME=VALUE",
    help="A feature that has the same value for all candidates, a number or a category. "
    "Repeat the option for more.",
)
@click.option(
    "--model", default="", show_default="the server's default", help="The model to rank with."
)
@click.option(
    "--model-version", default="", show_default="the model's default", help="Its version."
)
@click.option("--label", default="", help="The label of a version, instead of --model-version.")
@click.option(
    "--unit",
    default="",
    help="For whom is ranked: a reader's id, say. Where the server splits the traffic, it decides "
    "which version ranks.",
)
@click.option(
    "--timeout",
    type=Number(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the server's answer.",
)
@click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="How to print the ranking.",
)
@tls_options
def rank(
    file: Path,
    server: str,
    top_k: int,
    explain: int,
    id_columns: tuple[str, ...],
    context: dict[str, str],
    model: str,
    model_version: str,
    label: str,
    unit: str,
    timeout: float,
    output: str,
    tls: Tls | None,
) -> None:
    """Rank the candidates in FILE (.csv, .json or .npy) on a running server.

    A .csv file has a line of column names, then one line per candidate. Columns
    that have the name of a feature of the model are sent, in any order; an empty
    cell is a missing value. A categorical feature holds its categories, if the
    model knows them. Other columns of text, such as a title, are not sent but
    printed beside the score.

    \b
      title,completion_rate,recency_days
      The Salt Orchard,0.71,35
      Letters from Pine Station,,412

    \b
      ranker rank books.csv --top-k 10 --context reader_age_days=420

    A .json file holds a list of objects, or {"context": {...}, "candidates": [...]}.
    An .npy file holds a matrix of the model's features in the model's own order,
    of categorical ones the codes.
    """
    from ranker.cli.candidates import read_candidates
    from ranker.client import RankerClient
    from ranker.client.known_models import KnownModel
    from ranker.errors import UnavailableError

    if label and model_version:
        raise click.UsageError("expected --model-version or --label, and not both")
    if explain and output == "csv":
        raise click.UsageError("--explain: csv has no place for it; expected table or json")
    version = f"@{label}" if label else model_version
    with RankerClient(server, timeout=timeout, tls=tls) as client:
        try:
            about = client.get_model(model, version, unit=unit)
        except UnavailableError as error:
            raise UnavailableError(f"can't reach a server at {server}: {error.message}") from error
        categories = KnownModel.of(about).categories
        candidates = read_candidates(file, about.feature_names, id_columns, categories)
        shared = {**candidates.context}
        for name, text in context.items():
            shared[name] = _context_value(name, text, categories.get(name))
        given = {*(candidates.feature_names or about.feature_names), *shared}
        if absent := [name for name in about.feature_names if name not in given]:
            click.echo(f"missing for every candidate: {', '.join(absent)}", err=True)
        # The unit or the label chooses again, so that the answer tells by which. All else is by
        # name, so that the model that was described is the one that ranks.
        ranking = client.rank(
            candidates.features,
            feature_names=candidates.feature_names,
            context=shared,
            top_k=top_k,
            explain=explain,
            model=about.name,
            model_version=version if unit or label else about.version,
            unit=unit,
        )
    if ranking.version != about.version:
        raise UnavailableError(
            f"{about.name}@{about.version} was described, then {about.name}@{ranking.version} "
            "ranked: the server's models have just changed; run it again"
        )
    candidates = replace(candidates, context=shared)
    if output == "table":
        _print_table(ranking, candidates, about)
    else:
        {"json": _print_json, "csv": _print_csv}[output](ranking, candidates)


def _print_table(ranking: Ranking, candidates: Candidates, about: pb.Model) -> None:
    from ranker.cli.reasons import reasons
    from ranker.cli.text_table import format_table

    labels = candidates.labels or {"index": tuple(map(str, range(len(candidates.features))))}
    rows = [
        [str(place), f"{score:.4f}", *(texts[index] for texts in labels.values())]
        for place, (index, score) in enumerate(_pairs(ranking), start=1)
    ]
    table = format_table(["rank", "score", *labels], rows, numeric=("rank", "score", "index"))
    header, *lines = table.splitlines()
    click.echo(header)
    for place, line in enumerate(lines):
        click.echo(line)
        if place < len(ranking.explanations):
            index = int(ranking.indices[place])
            for reason in reasons(ranking.explanations[place], candidates, index, about):
                click.echo(f"      {reason}")
    timing = ranking.timing
    arm = f" ({ranking.arm})" if ranking.arm else ""
    click.echo(
        f"{ranking.model} {ranking.version}{arm}: {len(candidates.features)} candidates in "
        f"{timing.total_us / 1e3:.2f} ms on the server, {timing.scoring_us / 1e3:.2f} ms of it "
        "scoring",
        err=True,
    )


def _print_json(ranking: Ranking, candidates: Candidates) -> None:
    best: list[dict[str, Any]] = [
        {
            "rank": place,
            "index": index,
            "score": score,
            "labels": {name: texts[index] for name, texts in candidates.labels.items()},
        }
        for place, (index, score) in enumerate(_pairs(ranking), start=1)
    ]
    for told, each in zip(best, ranking.explanations, strict=False):
        told["explanation"] = {"bias": _shortest(each.bias), "contributions": _by_name(each)}
    click.echo(
        json.dumps(
            {
                "model": ranking.model,
                "version": ranking.version,
                "arm": ranking.arm,
                "ranking": best,
                "timing": vars(ranking.timing),
            },
            ensure_ascii=False,
            indent=2,
        )
    )


def _print_csv(ranking: Ranking, candidates: Candidates) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["rank", "index", "score", *candidates.labels])
    for place, (index, score) in enumerate(_pairs(ranking), start=1):
        texts = [texts[index] for texts in candidates.labels.values()]
        writer.writerow([place, index, score, *texts])


def _pairs(ranking: Ranking) -> list[tuple[int, float]]:
    """Index and score of each, the score as the shortest decimal that is the same float32."""
    return [
        (int(index), _shortest(score))
        for index, score in zip(ranking.indices, ranking.scores, strict=True)
    ]


def _by_name(explanation: Explanation) -> dict[str, float] | list[float]:
    """All contributions, in the model's own order; a list if it has no names."""
    values = [_shortest(value) for value in explanation.contributions]
    names = explanation.feature_names
    return dict(zip(names, values, strict=True)) if names else values


def _shortest(value: Any) -> float:
    """The shortest decimal that is the same float32."""
    import numpy as np

    return float(str(np.float32(value)))
