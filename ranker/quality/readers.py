"""Ranking data in files: libsvm with query ids, CSV and Parquet."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ranker.distribution import require
from ranker.errors import InvalidRequestError
from ranker.forest.forest import MAX_FEATURES
from ranker.frames import Frame, Labels, as_float32, read_frame
from ranker.quality.data import RankingData
from ranker.quality.libsvm import read_libsvm

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = (".csv", ".parquet")

_ROWS_AT_ONCE = 1 << 13


@dataclass(frozen=True)
class Columns:
    """What a table's columns are called.

    Attributes:
        group: says which query a candidate belongs to.
        label: its graded relevance, from 0 on.
        weight: how much its query counts; empty: each counts 1.
        propensity: how likely a user looked at it; empty: no correction for that.
        slices: columns by whose values queries are told apart.
    """

    group: str = "qid"
    label: str = "label"
    weight: str = ""
    propensity: str = ""
    slices: tuple[str, ...] = ()


def read_data(
    path: str | PathLike[str],
    features: Collection[str] = (),
    columns: Columns | None = None,
    first_index: int = 0,
    num_features: int = MAX_FEATURES,
    categorical: Collection[str] = (),
) -> RankingData:
    """Reads queries with candidates and labels.

    - `.csv`, `.parquet`: a table with a line per candidate. Columns named like
      features are read as such; an empty cell or a null is missing. Needs pyarrow,
      which the extra `quality` brings. A CSV file does not say whether a cell is text
      or a number: query ids are read as text, and so are the features in `categorical`.
    - any other name: libsvm's format; see `ranker.quality.libsvm`.

    Args:
        path: the file.
        features: the names to read of a table; empty: all columns of numbers that
            `columns` doesn't name, as features without names.
        columns: what the table's other columns are called.
        first_index: the number of the first feature in libsvm's format.
        num_features: how many features libsvm data may have.
        categorical: the features whose cells in a CSV file are categories, whatever they look
            like: those in `Model.categories`.

    Raises:
        InvalidRequestError: the file can't be read so; says where and why.
        MissingExtraError: the extra `quality` isn't installed; for tables.
        OSError: the file can't be read at all.
    """
    path, columns = Path(path), columns or Columns()
    if not any(suffix in _TABLES for suffix in path.suffixes):
        for name in (columns.weight, columns.propensity, *columns.slices):
            if name:
                raise InvalidRequestError(path.name, f"no column {name!r}: libsvm has no names")
        return read_libsvm(path, first_index, num_features)
    texts = set(categorical)
    if columns.group not in features:  # else it is a number of the model's, too
        texts.add(columns.group)
    return _Table(path, _read_table(path, texts)).data(features, columns)


def read_features(
    path: str | PathLike[str], features: Collection[str], categorical: Collection[str] = ()
) -> pa.Table:
    """Reads features of a `.csv` or `.parquet` table; its other columns are left out.

    Args:
        path: the file.
        features: the names to read, as far as the table has them.
        categorical: see `read_data`.

    Raises:
        InvalidRequestError: it can't be read, or has none of them.
        MissingExtraError: the extra `quality` isn't installed.
        OSError: the file can't be read at all.
    """
    path = Path(path)
    if not any(suffix in _TABLES for suffix in path.suffixes):
        raise InvalidRequestError(path.name, f"expected one of {', '.join(_TABLES)}")
    table = _read_table(path, categorical)
    names = [name for name in table.column_names if name in set(features)]
    if not names:
        raise InvalidRequestError(path.name, "no column is a feature of the model")
    return table.select(names)


def _read_table(path: Path, texts: Collection[str]) -> pa.Table:
    """A table; of a CSV file the columns `texts` are text, whatever their cells look like."""
    require("quality")
    import pyarrow as pa
    from pyarrow import parquet

    try:
        is_parquet = ".parquet" in path.suffixes
        table = parquet.read_table(path) if is_parquet else _read_csv(path, texts)
    except pa.ArrowInvalid as error:
        raise InvalidRequestError(path.name, str(error).splitlines()[0]) from error
    twice = [name for name, count in Counter(table.column_names).items() if count > 1]
    if twice:
        raise InvalidRequestError(path.name, f"columns stand twice: {', '.join(twice)}")
    return table


def _read_csv(path: Path, texts: Collection[str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import compute, csv

    types = dict.fromkeys(texts, pa.string())
    table = csv.read_csv(path, convert_options=csv.ConvertOptions(column_types=types))
    for place, name in enumerate(table.column_names):
        if name in types:
            column = table.column(place)
            # Here and not by pyarrow, which would also take the texts NA and null for missing.
            column = compute.if_else(
                compute.equal(column, ""), pa.scalar(None, pa.string()), column
            )
            table = table.set_column(place, name, column)
    return table


class _Table:
    """A table, and what it is called in errors."""

    def __init__(self, path: Path, table: pa.Table) -> None:
        self._path = path
        self._table = table

    def data(self, features: Collection[str], columns: Columns) -> RankingData:
        if not len(self._table):
            raise InvalidRequestError(self._path.name, "holds no candidates")
        own = {columns.group, columns.label, columns.weight, columns.propensity}
        names: list[str] = list(self._table.column_names)
        if features:
            read = [name for name in names if name in features]
        else:
            read = [name for name in names if name not in own | set(columns.slices)]
            read = [name for name in read if self._is_number(name)]
        if not read:
            raise InvalidRequestError(self._path.name, "no column is a feature of the model")
        texts = {name: self._labels(name) for name in read if not self._is_number(name)}
        return RankingData.from_arrays(
            self._matrix(read),
            self._complete(columns.label),
            self._ids(columns.group),
            feature_names=read if features else (),
            weights=self._complete(columns.weight) if columns.weight else None,
            propensities=self._complete(columns.propensity) if columns.propensity else None,
            slices={name: self._values(name) for name in columns.slices},
            source=str(self._path),
            texts=texts,
            from_table=bool(features),
            untyped=".parquet" not in self._path.suffixes,
        )

    def _column(self, name: str) -> pa.ChunkedArray:
        names: list[str] = list(self._table.column_names)
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InvalidRequestError(
                self._path.name, f"no column {name!r}{hint}; it has {', '.join(names[:20])}"
            )
        return self._table.column(name)

    def _is_number(self, name: str) -> bool:
        import pyarrow as pa

        kind = self._table.column(name).type
        return bool(
            pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            or pa.types.is_decimal(kind)
            or pa.types.is_boolean(kind)
            or pa.types.is_null(kind)
        )

    def _matrix(self, names: list[str]) -> NDArray[np.float32]:
        """Columns side by side; a null is NaN, and so is what is no number."""
        matrix = np.full((len(self._table), len(names)), np.nan, np.float32)
        numbers = [place for place, name in enumerate(names) if self._is_number(name)]
        chosen = self._table.select([names[place] for place in numbers])
        begin = 0
        # Some rows of all columns at a time, so that a row is written while it is in the cache.
        for batch in chosen.to_batches(max_chunksize=_ROWS_AT_ONCE):
            for place, column in zip(numbers, batch.columns, strict=True):
                where = f"{self._path.name}, column {names[place]!r}"
                matrix[begin : begin + len(batch), place] = _as_float32(where, column)
            begin += len(batch)
        return matrix

    def _labels(self, name: str) -> Labels:
        """A column of text or of categories."""
        import pyarrow as pa

        column = self._table.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            column = column.dictionary_encode()  # much faster than text by text
        frame = cast(Frame, read_frame(pa.table({name: column.combine_chunks()})))
        return cast(Labels, frame.columns[0])  # of a table without rows it could be anything

    def _complete(self, name: str) -> NDArray[np.float64]:
        column = self._column(name)
        if column.null_count or not self._is_number(name):
            what = f"{column.null_count} empty cells" if column.null_count else str(column.type)
            raise InvalidRequestError(
                f"{self._path.name}, column {name!r}", f"expected numbers, got {what}"
            )
        return _as_float64(column.combine_chunks())

    def _ids(self, name: str) -> NDArray[Any]:
        """Query ids, of which none may be empty: nobody knows which candidates are one query's."""
        ids = self._values(name)
        empty = np.asarray(self._column(name).is_null())
        if ids.dtype.kind == "U":
            empty = empty | (ids == "")  # as an empty cell of text in a CSV file is read
        if empty.any():
            raise InvalidRequestError(
                f"{self._path.name}, column {name!r}",
                f"expected a query id for each candidate, got {empty.sum()} empty cells, the first "
                f"in row {empty.argmax() + 1} of the data",
            )
        return ids

    def _values(self, name: str) -> NDArray[Any]:
        """A column as NumPy sees it best: numbers, or texts; an empty cell is a text, too."""
        import pyarrow as pa

        column = self._column(name)
        if self._is_number(name) and not column.null_count:
            return np.asarray(column.to_numpy())
        if isinstance(column.type, pa.DictionaryType):
            column = column.cast(column.type.value_type)
        codes = column.dictionary_encode().combine_chunks()
        texts = np.array([*map(str, codes.dictionary.to_pylist()), "(none)"])
        indices = codes.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
        return np.asarray(texts[indices])


def _as_float32(where: str, column: pa.Array) -> NDArray[np.float32]:
    """A column of numbers, each rounded once; a null is NaN."""
    import pyarrow as pa

    if not pa.types.is_integer(column.type) or not column.null_count:
        numbers = column if pa.types.is_integer(column.type) else _as_float64(column)
        return as_float32(where, np.asarray(numbers))
    numbers = as_float32(where, np.asarray(column.fill_null(0)))
    numbers[np.asarray(column.is_null())] = np.nan
    return numbers


def _as_float64(column: pa.Array) -> NDArray[np.float64]:
    """A column of numbers; a null is NaN."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        column = column.cast("uint8")
    numbers = column.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, np.float64)
