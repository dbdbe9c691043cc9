"""One table in every kind of data frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

Columns = Mapping[str, Sequence[Any]]
Maker = Callable[[Columns], Any]


class Stream:
    """A table that has nothing but the Arrow PyCapsule interface."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


class Batch:
    """A record batch, likewise."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._batch = batch

    def __arrow_c_array__(self, requested_schema: object = None) -> object:
        return self._batch.__arrow_c_array__(requested_schema)


def chunked(columns: Columns) -> pa.Table:
    """A table whose rows lie in several batches."""
    table = pa.table(dict(columns))
    middle = len(table) // 2
    return pa.concat_tables([table.slice(0, middle), table.slice(middle)])


def sliced(columns: Columns) -> pa.Table:
    """A table that begins somewhere in its buffers."""
    table = pa.table(dict(columns))
    return pa.concat_tables([table, table]).combine_chunks().slice(len(table))


MAKERS: dict[str, Maker] = {
    "pandas": lambda columns: pd.DataFrame(dict(columns)),
    "pandas-nullable": lambda columns: pd.DataFrame(dict(columns)).convert_dtypes(),
    "pandas-arrow": lambda columns: pa.table(dict(columns)).to_pandas(types_mapper=pd.ArrowDtype),
    "polars": lambda columns: pl.DataFrame(dict(columns)),
    "polars-sliced": lambda columns: pl.concat([pl.DataFrame(dict(columns))] * 2).slice(
        len(next(iter(columns.values())))
    ),
    "pyarrow": lambda columns: pa.table(dict(columns)),
    "pyarrow-batch": lambda columns: pa.record_batch(dict(columns)),
    "pyarrow-chunked": chunked,
    "pyarrow-sliced": sliced,
    "arrow-stream": lambda columns: Stream(pa.table(dict(columns))),
    "arrow-array": lambda columns: Batch(pa.record_batch(dict(columns))),
}
"""By name. Missing values are None or NaN."""


def of_matrix(names: Sequence[str], matrix: np.ndarray) -> dict[str, list[float | None]]:
    """The columns of a matrix, None for NaN."""
    return {
        name: [None if np.isnan(value) else float(value) for value in column]
        for name, column in zip(names, matrix.T, strict=True)
    }
