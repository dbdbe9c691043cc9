"""`ranker export`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click


def _rounds(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Reads `A:B`, boosting rounds A to B - 1."""
    if value is None:
        return None
    begin, _, end = value.partition(":")
    if not (begin.isdecimal() and end.isdecimal()):
        raise click.BadParameter(f"expected two numbers as in 0:100, got {value!r}", ctx, param)
    return int(begin), int(end)


def _categories(ctx: click.Context, param: click.Parameter, path: str | None) -> Any:
    """Reads the file; what is in it is for the export to judge."""
    if path is None:
        return None
    try:
        content = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", ctx, param) from error
    except ValueError as error:
        raise click.BadParameter(f"{path}: not JSON: {error}", ctx, param) from error
    if not isinstance(content, dict) or not all(isinstance(v, list) for v in content.values()):
        raise click.BadParameter(f"{path}: expected lists by the feature's name", ctx, param)
    return content


@click.command(short_help="Convert an XGBoost model to ONNX, and verify the result.")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "path", metavar="FILE.onnx", required=True, help="The file to write.")
@click.option(
    "--name",
    default="",
    show_default="the file's name without .onnx",
    help="The name that callers use.",
)
@click.option("--version", default="", show_default="1", help="The version that callers use.")
@click.option(
    "--categories",
    metavar="FILE.json",
    callback=_categories,
    help="What the codes of categorical features stand for, if MODEL does not say: an object "
    "with a list of texts or integers, in the order of their codes, by the feature's name.",
)
@click.option(
    "--iteration-range",
    metavar="A:B",
    callback=_rounds,
    show_default="all, or up to the best round of early stopping",
    help="Export boosting rounds A to B - 1. 0:0 stands for all rounds, as in XGBoost.",
)
@click.option(
    "--output",
    type=click.Choice(["margin", "probability"]),
    default="margin",
    show_default=True,
    help="What the scores are. margin: the sum of the leaves. probability: its sigmoid, for "
    "models with objective binary:logistic, binary:logitraw or reg:logistic.",
)
@click.option(
    "--required-feature",
    "required_features",
    multiple=True,
    metavar="NAME",
    help="A feature that every request must send. Repeat the option for more features. "
    "All others may be absent, which counts as missing.",
)
@click.option(
    "--reference",
    type=click.Path(exists=True, dir_okay=False),
    metavar="DATA",
    help="The training data, a .parquet or .csv table with the features by name. FILE.onnx then "
    "carries a histogram of each feature and of the scores, which a server tells drift by. Needs "
    "the extra quality.",
)
def export(model: str, path: str, **options: Any) -> None:
    """Convert an XGBoost MODEL (.ubj or .json) to ONNX, and verify the result.

    To verify it, both onnxruntime and XGBoost score the same rows: random
    values, missing values, and values equal to, just below and just above the
    model's thresholds. If scores differ by more than 1e-5 of their range, or
    probabilities by more than 1e-6, no file is written.

    \b
      ranker export model.ubj -o books.onnx --name books --version 7
    """
    from ranker.export import export_onnx

    try:
        report = export_onnx(model, path, **options)
    except OSError as error:
        raise click.ClickException(f"{path}: can't be written: {error.strerror}") from error
    click.echo(str(report))
