"""What the training data of a model are like, for its file to carry (`ranker.model.histogram`)."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Rows
from ranker.errors import InvalidRequestError, ModelError
from ranker.forest import Forest
from ranker.forest.onnx import OnnxFile, read_forest
from ranker.forest.ranges import telling_splits, thresholds_by_feature
from ranker.frames import Features, read_frame
from ranker.model import Model, ModelFile
from ranker.model.histogram import (
    MOST_FEATURES,
    Bins,
    Histogram,
    Reference,
    decile_cuts,
    frequent_codes,
    spread_cuts,
)


def reference_of(content: bytes, data: Features | str | Path) -> Reference:
    """Counts training data, and the scores that the model gives them.

    Args:
        content: the model's file.
        data: [m, num_features], a data frame of the model's features, or the path of a `.csv`
            or `.parquet` table that has them among its columns.

    Raises:
        ModelError: it is something else, or lacks a feature that splits read.
        MissingExtraError: the extra `quality`, which reads tables, isn't installed.
        OSError: the table can't be read.
    """
    onnx = OnnxFile(content)
    model, forest = Model.of(ModelFile(onnx, "model")), read_forest(onnx)
    thresholds = thresholds_by_feature(forest)
    try:
        rows = _rows(model, data, thresholds)
    except InvalidRequestError as error:
        raise ModelError(f"reference: {error.message}") from error
    if not len(rows):
        raise ModelError("reference: expected rows, got none")
    scores = model.engine.score([rows])
    columns = _most_read(forest, list(thresholds))
    return Reference(
        len(rows),
        Histogram.of(Bins(decile_cuts(scores)), scores),
        {column: _histogram(rows[:, column], thresholds[column]) for column in columns},
    )


def _rows(model: Model, data: Features | str | Path, read: Collection[int]) -> Rows:
    """The data as the model has it; `read` are the features that must be there."""
    if isinstance(data, str | Path):
        from ranker.quality.readers import read_features

        features: Features = read_features(data, model.feature_names, model.categories)
    else:
        features = data
    frame = read_frame(features)
    if frame is not None and model.feature_names and frame.names_for(model.feature_names):
        names = {model.feature_names[column] for column in read}
        if lacking := sorted(names.difference(frame.names)):
            raise ModelError(f"reference: has no column {', '.join(map(repr, lacking[:8]))}")
    return model.rows(features)


def _most_read(forest: Forest, columns: list[int]) -> list[int]:
    """Of features those that most splits read."""
    splits = np.bincount(forest.feature[telling_splits(forest)], minlength=forest.num_features)
    best = sorted(columns, key=lambda column: -int(splits[column]))[:MOST_FEATURES]
    return sorted(best)


def _histogram(values: NDArray[np.float32], thresholds: NDArray[np.float32]) -> Histogram:
    known = values[~np.isnan(values)]
    if len(thresholds):
        return Histogram.of(Bins(cuts=spread_cuts(known, thresholds)), values)
    return Histogram.of(Bins(codes=frequent_codes(known)), values)
