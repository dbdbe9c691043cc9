"""Candidate lists in files, as `ranker rank` reads them: CSV, JSON and NPY."""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.categories import Categories
from ranker.errors import InvalidRequestError

Cell = str | float | None
"""A text, a number, or nothing."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """A candidate list of n candidates.

    Attributes:
        features: [n, c], of any real dtype; NaN is a missing value.
        feature_names: c names; empty: the columns are the model's, in its order.
        labels: texts for people, by the name of their column; n in each.
        context: values of features that all candidates share, by name.
    """

    features: NDArray[Any]
    feature_names: tuple[str, ...] = ()
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    context: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class _Table:
    """Named columns of one length.

    Attributes:
        columns: the cells of each column, by its name.
        places: where each row stands in the file, for error messages.
        context: cells of features that all candidates share, by name.
    """

    columns: Mapping[str, Sequence[Cell]]
    places: Sequence[str]
    context: Mapping[str, Any] = field(default_factory=dict)


def read_candidates(
    path: Path,
    model_features: Collection[str],
    id_columns: Collection[str] = (),
    categories: Mapping[str, Categories] | None = None,
) -> Candidates:
    """Reads a candidate list.

    - `.csv`: UTF-8, comma-separated, one line of column names, one line per
      candidate. An empty cell is a missing value. Empty lines are left out, but
      refused where there is one column.
    - `.json`: a list of objects, one per candidate; or an object that holds such
      a list as `candidates`, and the features that they share as `context`. null
      and what is absent are missing values.
    - `.npy`: a real matrix with the model's features in its own order; of a
      categorical one it holds codes.

    A column is a feature if the model has one of its name, and a label if it
    is an id column or holds text. A column of numbers that is neither is an
    error, since it is most likely a misspelt feature. A categorical feature
    whose categories are known holds these and not their codes.

    Args:
        path: the file; its suffix says what it holds.
        model_features: the names of the model's features.
        id_columns: columns that are labels whatever they hold.
        categories: of its categorical features whose categories are known, by name.

    Raises:
        InvalidRequestError: the file can't be read so; says where and why.
        OSError: the file can't be read at all.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        if id_columns:
            raise InvalidRequestError(
                path.name, "an .npy matrix has no column names, and so no id column"
            )
        return Candidates(_read_npy(path))
    if suffix == ".csv":
        table = _read_csv(path)
    elif suffix == ".json":
        table = _read_json(path)
    else:
        raise InvalidRequestError(path.name, "expected a file named .csv, .json or .npy")
    if not table.places:
        raise InvalidRequestError(path.name, "holds no candidates")
    if not model_features:
        raise InvalidRequestError(
            path.name, "the model has no feature names; expected an .npy matrix in its order"
        )
    return _split(path.name, table, model_features, id_columns, categories or {})


def _read_npy(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InvalidRequestError(path.name, f"not an NPY matrix of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidRequestError(path.name, "expected one NPY matrix, got an archive of several")
    return array


def _read_csv(path: Path) -> _Table:
    rows: list[list[str]] = []
    places: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            names = [name.strip() for name in next(reader, [])]
            for row in reader:
                place = f"line {reader.line_num}"
                if not row and len(names) == 1:
                    # Left out, it would give every later candidate another index.
                    raise InvalidRequestError(
                        f"{path.name}, {place}",
                        'an empty line; write "" for a missing value, or remove the line',
                    )
                if not row:
                    continue
                if len(row) != len(names):
                    raise InvalidRequestError(
                        f"{path.name}, {place}", f"expected {len(names)} cells, got {len(row)}"
                    )
                rows.append([cell.strip() for cell in row])
                places.append(place)
    except UnicodeDecodeError as error:
        raise InvalidRequestError(path.name, f"expected UTF-8 text: {error}") from error
    except csv.Error as error:
        raise InvalidRequestError(
            f"{path.name}, line {reader.line_num}", f"not comma-separated values: {error}"
        ) from error
    if not names:
        raise InvalidRequestError(path.name, "expected a first line of column names")
    for position, name in enumerate(names):
        if not name:
            raise InvalidRequestError(path.name, f"column {position + 1} has no name")
        if name in names[:position]:
            raise InvalidRequestError(path.name, f"column {name!r} occurs twice")
    columns = {name: [row[position] or None for row in rows] for position, name in enumerate(names)}
    return _Table(columns, places)


def _read_json(path: Path) -> _Table:
    try:
        content = json.loads(path.read_bytes(), object_pairs_hook=partial(_object, path.name))
    except ValueError as error:
        raise InvalidRequestError(path.name, f"not JSON: {error}") from error
    context: Any = {}
    if isinstance(content, dict):
        if unknown := content.keys() - {"context", "candidates"}:
            raise InvalidRequestError(
                path.name, f"expected context and candidates, got {', '.join(sorted(unknown))}"
            )
        context = content.get("context", {})
        content = content.get("candidates")
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise InvalidRequestError(path.name, "expected a list of objects, one per candidate")
    if not isinstance(context, dict):
        raise InvalidRequestError(f"{path.name}, context", "expected an object")
    places = [f"candidate {position}" for position in range(1, len(content) + 1)]
    names = dict.fromkeys(name for row in content for name in row)
    for place, row in zip(places, content, strict=True):
        for name, cell in row.items():
            if not isinstance(cell, str | int | float | None):
                raise InvalidRequestError(
                    f"{path.name}, {place}, {name}", f"expected a number, text or null, got {cell}"
                )
    return _Table(
        {name: [row.get(name) for row in content] for name in names},
        places,
        context,
    )


def _object(source: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names are all different: of two alike Python takes the last one."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise InvalidRequestError(source, f"{name!r} stands twice in one object")
        found[name] = value
    return found


def _split(
    source: str,
    table: _Table,
    model_features: Collection[str],
    id_columns: Collection[str],
    categories: Mapping[str, Categories],
) -> Candidates:
    """Tells features from labels."""
    for name in id_columns:
        if name not in table.columns:
            raise InvalidRequestError(
                source, f"has no column {name!r}; it has {', '.join(table.columns)}"
            )
    features: dict[str, list[float]] = {}
    labels: dict[str, tuple[str, ...]] = {}
    unknown: list[str] = []
    for name, cells in table.columns.items():
        if name in id_columns or (name not in model_features and _has_text(cells)):
            labels[name] = tuple("" if cell is None else str(cell) for cell in cells)
        elif name in model_features:
            features[name] = [
                feature_value(f"{source}, {place}, {name}", cell, categories.get(name))
                for place, cell in zip(table.places, cells, strict=True)
            ]
        else:
            unknown.append(_with_suggestion(name, model_features))
    if unknown:
        raise InvalidRequestError(
            source,
            f"the model has no feature {', '.join(unknown)}; "
            "a column that is not a feature must hold text, or be named by --id-column",
        )
    if not features:
        raise InvalidRequestError(
            source, f"no column is a feature of the model: {', '.join(model_features)}"
        )
    return Candidates(
        features=np.array(list(features.values()), dtype=np.float64).T,
        feature_names=tuple(features),
        labels=labels,
        context={
            name: feature_value(f"{source}, context, {name}", cell, categories.get(name))
            for name, cell in table.context.items()
        },
    )


def _has_text(cells: Iterable[Cell]) -> bool:
    for cell in cells:
        try:
            _number(cell or 0)
        except ValueError:
            return True
    return False


def feature_value(place: str, cell: Any, categories: Categories | None = None) -> float:
    """What a cell is as a feature: a number, or the code of a category; NaN for nothing.

    Raises:
        InvalidRequestError: it is neither.
    """
    if cell is None:
        return float("nan")
    if categories is not None:
        if not isinstance(cell, (str, int)) or isinstance(cell, bool):
            raise InvalidRequestError(place, f"expected a category, got {cell!r}")
        return categories.code(place, cell)
    if isinstance(cell, bool):
        raise InvalidRequestError(place, f"expected a number, got {json.dumps(cell)}")
    try:
        return _number(cell)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidRequestError(place, f"expected a number, got {cell!r}") from error


def _number(cell: str | float) -> float:
    """As `float`, but without the underscores that Python allows: 1_5 is hardly meant as 15."""
    if isinstance(cell, str) and "_" in cell:
        raise ValueError(cell)
    return float(cell)


def _with_suggestion(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"{name!r} (did you mean {close[0]!r}?)" if close else repr(name)
