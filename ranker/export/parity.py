"""Which rows a file carries, with XGBoost's scores (`ranker.model.parity`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ranker.errors import ModelError
from ranker.export.probes import probe_rows
from ranker.export.verify import margins
from ranker.export.xgboost_model import XGBoostModel
from ranker.frames import as_float32, read_frame
from ranker.model.parity import LEAST_ROWS, MOST_CELLS, MOST_ROWS, ParityRows

_HUGE = np.finfo(np.float32).max


def parity_rows(model: XGBoostModel, given: ArrayLike | None = None) -> ParityRows:
    """Rows for a model, the same ones each time.

    Half of them meet splits of the model with a value on the threshold, next to it,
    or missing. The other half is taken from the given rows, evenly; without any it is
    drawn from all thresholds and categories, and missing values.

    Args:
        model: the model.
        given: rows of real data, [m, num_features]; None if there are none. A data frame
            has the model's names, in its order; any names if the model has none.

    Raises:
        ModelError: the given rows have another shape, or names in another order.
        InvalidRequestError: they can't be read as numbers.
    """
    columns = sorted({int(i) for t in model.trees for i in t.feature[t.left >= 0]})
    count = min(MOST_ROWS, max(LEAST_ROWS, MOST_CELLS // max(1, len(columns))))
    made = probe_rows(model)
    first = made[: count // 2]
    if given is not None:
        frame = read_frame(given)
        names = () if frame is None else frame.names_for(model.feature_names)
        if model.feature_names and names and names != model.feature_names:
            raise ModelError(
                "rows: the data frame has other columns than the model, or in another order; pass "
                "frame[names] with the model's names"
            )
        rows = as_float32("rows", given)
        if rows.ndim != 2 or rows.shape[1] != model.num_features or not len(rows):
            raise ModelError(
                f"rows: expected shape [m, {model.num_features}] with m at least 1, got "
                f"{list(rows.shape)}"
            )
        some = np.linspace(0, len(rows) - 1, count // 2).astype(np.intp)
        first = np.clip(rows[some], -_HUGE, _HUGE)  # `predict` takes no infinite value
    steered = made[len(made) // 2 :][: count - len(first)]
    rows = np.concatenate((first, steered))
    unread = np.ones(model.num_features, np.bool_)
    unread[columns] = False
    rows[:, unread] = np.nan
    return ParityRows(np.array(columns, np.int32), rows[:, columns], margins(model, rows))
