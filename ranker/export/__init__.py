"""XGBoost models to ONNX files, verified against XGBoost's own predictions.

The file is exact: scored by onnxruntime on one thread, or by any engine that
adds the trees' leaves in order in float32, it gives `predict(output_margin=True)`
of the original to the last bit, missing values, categories and dart's weights
included. `xgboost_model` says what is read and what is refused, `onnx_writer`
how the graph achieves it, `verify` what is compared.

Where other scores are to be expected:

- onnxruntime on several threads gives each thread its share of the trees and
  adds up the shares. With more than 50 rows in a call and more trees than
  threads, 80 to 90 % of the scores of a 200-tree model differed, by 1.2e-5 at
  most, on a range of -12 to 11 (onnxruntime 1.32, 2 to 4 threads). Up to 50
  rows, or with no more trees than threads, none did. A session has as many
  threads as the machine has cores unless it is told otherwise.
- Probabilities: onnxruntime's Sigmoid differs from XGBoost's by up to 2e-7. It
  is not monotonic in the last bit, and knows only eight values for margins
  below -16, one below -18: rank by margins.
- dart's `inplace_predict` rounds otherwise than its `predict`, which is the one
  followed here.
- A model trained on a DMatrix with a `missing` other than NaN: neither booster
  nor file says so. Send NaN for what was missing.

Categorical features take codes, as XGBoost does for arrays: the position of a
category among those of the training data. What the codes stand for goes into
the file's metadata (`export.categories`): XGBoost knows it since 3.1, of models
that were trained on a data frame; else the caller has to say.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ranker.distribution import require

require("export")

import xgboost as xgb
from numpy.typing import ArrayLike
from onnx import helper

from ranker.errors import ModelError
from ranker.export import schema
from ranker.export.categories import Given, notes, with_given
from ranker.export.onnx_writer import to_onnx
from ranker.export.parity import parity_rows
from ranker.export.reference import reference_of
from ranker.export.verify import Comparison, compare, refuse_unloadable
from ranker.export.xgboost_model import LOGISTIC, Rounds, read
from ranker.frames import Features
from ranker.model.file import ModelFile
from ranker.model.metadata import PREFIX, ModelMetadata, check_name, name_of

MAX_RELATIVE_DIFFERENCE = 1e-5
"""Margins that differ by more, relative to their range, are not exported."""

MAX_PROBABILITY_DIFFERENCE = 1e-6
"""Probabilities that differ by more are not exported."""


@dataclass(frozen=True)
class ExportReport:
    """What was exported; as a string, for a person to read.

    Attributes:
        path: the file.
        size: its bytes.
        trees: the number of trees.
        depth: the number of splits on the longest path.
        num_features: the number of columns.
        rounds: the boosting rounds, and why these.
        xgboost_version: the version that the scores were compared with.
        comparison: what the verification saw.
        notes: what a user of the file should know beyond that.
    """

    path: Path
    size: int
    trees: int
    depth: int
    num_features: int
    rounds: Rounds
    xgboost_version: str
    comparison: Comparison
    notes: tuple[str, ...]

    def __str__(self) -> str:
        """A few lines, without a newline at the end."""
        rounds, seen = self.rounds, self.comparison
        lines = [
            f"{self.path}: {self.trees} trees of at most {self.depth} splits deep, "
            f"{self.num_features} features, {self.size / 1e6:.2f} MB",
            f"rounds {rounds.begin}:{rounds.end} of {rounds.total}: {rounds.reason}",
            f"verified: {seen.rows} rows, largest difference from XGBoost {self.xgboost_version}: "
            f"{seen.max_difference:.3g} ({seen.max_relative_difference:.3g} of the scores' range)",
        ]
        return "\n".join(lines + [f"note: {note}" for note in self.notes])


def export_onnx(
    model: xgb.Booster | xgb.XGBModel | str | Path,
    path: str | Path,
    *,
    iteration_range: tuple[int, int] | None = None,
    name: str = "",
    version: str = "",
    output: Literal["margin", "probability"] = "margin",
    required_features: Sequence[str] = (),
    categories: Given | None = None,
    rows: ArrayLike | None = None,
    reference: Features | str | Path | None = None,
) -> ExportReport:
    """Writes an XGBoost model as an ONNX file and verifies it.

    Args:
        model: a booster, a fitted `XGBRanker`, `XGBRegressor` or
            `XGBClassifier`, or the path of a `.ubj` or `.json` file.
        path: the file to write. It appears there whole and verified, or not at
            all; an older file of that name stays until then.
        iteration_range: the boosting rounds to export, begin and end, as
            `predict` takes it: (0, 0) stands for all. None: up to the best round
            where early stopping noted one, else all.
        name: the model's name on the wire: up to 128 ASCII letters, digits, `.`,
            `_` and `-`, the first a letter or a digit; empty: the file's stem.
        version: the model's version on the wire, of the same characters; empty: `1`.
            A version that is given names one model for good: over a file that
            holds that version of that name, only the same model is written.
        output: what the scores are. `probability` puts a sigmoid behind the
            margin, for `binary:logistic`, `binary:logitraw` and `reg:logistic`.
        required_features: names of features that every request must send; the
            others may be absent, which is missing.
        categories: of categorical features whose categories the model does not
            hold itself, by name: texts or integers in the order of their codes,
            which is the order of the training data frame's categories.
        rows: some rows of real data, a matrix or a data frame with the model's columns in
            its order (of any names, if the model has none). The file carries a few of them with
            XGBoost's scores, besides made-up ones, and each load scores them again
            (`ranker.model.parity`).
        reference: the training data: a matrix with the model's columns, a data frame of its
            features, or the path of a `.csv` or `.parquet` table. The file then carries a
            histogram of each feature and of the scores, which a server tells drift by
            (`ranker.model.histogram`). None: it can't tell.

    Raises:
        ModelError: the model can't be read or can't be exported exactly, or
            onnxruntime scores the file otherwise than XGBoost does; no server could
            load the file; the name or the version is none, or names another model
            already; the reference is not the model's.
        InvalidRequestError: `rows` or `reference` can't be read as numbers.
        OSError: the file can't be written.
    """
    path = Path(path)
    for field, text in (("name", name), ("version", version)):
        if text:
            check_name(field, text)
    _refuse_no_place(path)
    probability = output == "probability"
    original = read(model, iteration_range)
    if probability and original.objective not in LOGISTIC:
        raise ModelError(
            f"objective {original.objective}: its margin is no log-odds; "
            f"output=probability is for {', '.join(sorted(LOGISTIC))}"
        )
    if unknown := set(required_features) - set(original.feature_names):
        raise ModelError(f"required_features: the model has no feature named {sorted(unknown)}")
    known_categories = with_given(original, categories or {})

    proto = to_onnx(
        original.trees, original.base_margin, original.num_features, probability=probability
    )
    comparison = compare(proto.SerializeToString(), original, probability=probability)
    _refuse_differences(comparison, probability)

    depth = max(tree.depth for tree in original.trees)
    metadata = ModelMetadata(
        name=name,
        version=version,
        feature_names=original.feature_names,
        feature_types=original.feature_types,
        categories=known_categories,
        required_features=tuple(required_features),
        output=output,
        objective=original.objective,
        xgboost_version=xgb.__version__,
        trees=len(original.trees),
        depth=depth,
        iterations=f"{original.rounds.begin}:{original.rounds.end}",
        max_difference=comparison.max_difference,
        verified_rows=comparison.rows,
        parity=parity_rows(original, rows).to_text(),
    )
    helper.set_model_props(proto, metadata.to_props())
    content = proto.SerializeToString()
    if reference is not None:
        metadata = replace(metadata, reference=reference_of(content, reference))
        helper.set_model_props(proto, metadata.to_props())
        content = proto.SerializeToString()
    refuse_unloadable(content, path.name)
    if version:
        _refuse_another(content, path, name or name_of(path.name), version)
    _write(content, path)
    return ExportReport(
        path=path,
        size=len(content),
        trees=metadata.trees,
        depth=depth,
        num_features=original.num_features,
        rounds=original.rounds,
        xgboost_version=xgb.__version__,
        comparison=comparison,
        notes=(
            *schema.notes(),
            *filter(None, [original.rounds.note]),
            *notes(original, known_categories),
            *_drift_note(metadata),
        ),
    )


def _drift_note(metadata: ModelMetadata) -> tuple[str, ...]:
    """What servers will be able to say of drift."""
    if metadata.reference is None:
        return ()
    size = len(metadata.to_props()[f"{PREFIX}reference"])
    return (
        f"{metadata.reference.rows} rows of reference, {len(metadata.reference.features)} "
        f"features: {size / 1e3:.1f} kB of histograms",
    )


def _refuse_differences(seen: Comparison, probability: bool) -> None:
    if probability:
        difference, limit, unit = seen.max_difference, MAX_PROBABILITY_DIFFERENCE, ""
    else:
        difference, limit = seen.max_relative_difference, MAX_RELATIVE_DIFFERENCE
        unit = " of the scores' range"
    if not difference <= limit:
        raise ModelError(
            f"onnxruntime's scores differ from XGBoost's by up to {difference:.3g}{unit}, "
            f"more than {limit:g}; nothing was written. This is a bug in the export, in "
            "onnxruntime or in XGBoost"
        )


def _refuse_no_place(path: Path) -> None:
    """Before any work is done for a file that can't be written."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "it is a directory; name a file in it", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, f"there is no folder {path.parent}", str(path))


def _refuse_another(content: bytes, path: Path, name: str, version: str) -> None:
    """Refuses to give a version that the file at `path` holds to another model."""
    try:
        old = ModelFile.read(path)
    except ModelError:
        return  # there is none, or it is no model
    if (old.name, old.version) == (name, version) and bytes(old.onnx.content) != content:
        raise ModelError(
            f"{path} holds {name}@{version} already, and it is another model: callers could not "
            "tell the two apart. Give this one another version, or delete the file first"
        )


def _write(content: bytes, path: Path) -> None:
    """Writes beside the file and then puts it in its place, so that no reader sees half of it."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("xb") as file:
            file.write(content)
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
