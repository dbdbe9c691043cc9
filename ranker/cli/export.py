"""`ranker export`."""

from __future__ import annotations

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


@click.command(short_help="Convert an XGBoost model to ONNX, and verify the result.")
@click.argument("model", type=click.Path(exists=True, dir_okay=False))
@click.option("-o", "path", metavar="FILE.onnx", required=True, help="Where to write.")
@click.option("--name", default="", help="The model's name on the wire.  [default: the file's]")
@click.option("--version", default="", help="The model's version on the wire.  [default: 1]")
@click.option(
    "--iteration-range",
    metavar="A:B",
    callback=_rounds,
    help="Boosting rounds to export.  [default: up to the best iteration of early stopping]",
)
@click.option(
    "--output",
    type=click.Choice(["margin", "probability"]),
    default="margin",
    show_default=True,
    help="What the scores are. probability adds the sigmoid, for binary:logistic.",
)
@click.option(
    "--required-feature",
    "required_features",
    multiple=True,
    metavar="NAME",
    help="A feature that every request must send; repeat it for more. Others may be missing.",
)
def export(model: str, path: str, **options: Any) -> None:
    """Convert an XGBoost MODEL (.ubj or .json) to ONNX, and verify the result.

    The verification scores random rows, rows with missing values and rows on,
    just below and just above the model's own thresholds with onnxruntime, and
    compares with XGBoost's own predictions. A file whose scores differ by more
    than 1e-5 of their range, or probabilities by more than 1e-6, is not left
    behind.

    \b
      ranker export model.ubj -o books.onnx --name books --version 7
    """
    from ranker.export import export_onnx

    report = export_onnx(model, path, **options)
    click.echo(str(report))
