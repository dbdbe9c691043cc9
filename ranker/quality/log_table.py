"""A ranking log as a table: a row for each candidate."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from ranker.quality.logged_rows import candidates, context
from ranker.ranking_log.reader import LoggedList, Progress, RankingLog, in_batches

_FACTS: dict[str, Any] = {
    "request_id": pa.string(),
    "unit": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "model": pa.string(),
    "version": pa.string(),
    "model_sha256": pa.string(),
    "arm": pa.string(),
    "trace_id": pa.string(),
    "sample_rate": pa.float64(),
}
"""Columns that all rows of a list have in common."""

_PER_CANDIDATE: dict[str, Any] = {
    "index": pa.int32(),
    "candidate_id": pa.string(),
    "position": pa.int32(),
    "score": pa.float32(),
}
"""Columns of a candidate beside its features."""

OWN_COLUMNS = (*_FACTS, *_PER_CANDIDATE)

PREFIX = "feature_"
"""A feature that is called like one of our columns has this before its name."""

_ROWS_AT_ONCE = 1 << 16


def write_parquet(
    log: RankingLog, path: str | PathLike[str], progress: Progress = lambda _: None
) -> int:
    """Writes a log as Parquet.

    The features of all models in the log are columns, by name; null is missing. A candidate that
    was not in the answer has no position and no score.

    A file of the log that is removed meanwhile is left out; features that it alone had may be
    columns without values.

    Args:
        log: read twice: first for the names.
        path: the file. It is written beside its place, and put there once it is complete.
        progress: is told how far it is.

    Returns:
        How many rows it has.

    Raises:
        RankingLogError: the log can't be read.
        OSError: the file can't be written.
    """
    columns = _columns(log, progress)
    features = list(columns.values())
    own = (*_FACTS.items(), *_PER_CANDIDATE.items())
    schema = pa.schema([*own, *((name, pa.float32()) for name in features)])
    rows = 0
    with (
        _put_in_place(Path(path)) as unfinished,
        parquet.ParquetWriter(unfinished, schema, compression="zstd") as writer,
    ):
        for some in in_batches(log.lists(lambda share: progress((1 + share) / 2)), _ROWS_AT_ONCE):
            table = pa.Table.from_pydict(_arrays(some, columns), schema=schema)
            writer.write_table(table)
            rows += len(table)
    return rows


@contextmanager
def _put_in_place(path: Path) -> Iterator[Path]:
    """Where to write a file, which gets its name when it is complete, so that nobody sees a part.

    Yields:
        A path beside it; of a pipe or a device, which nothing can be put in place of, its own.
    """
    if path.exists() and not path.is_file():
        yield path
        return
    path = path.resolve()
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def _columns(log: RankingLog, progress: Progress) -> dict[str, str]:
    """The features of all lists, and what the columns are called that they get."""
    names: dict[str, str] = {}
    for logged in log.lists(lambda share: progress(share / 2)):
        for name in (*_names(logged), *logged.request.context.feature_names):
            if name not in names:
                names[name] = name
    for name in names.keys() & OWN_COLUMNS:
        column = PREFIX + name
        while column in names:  # a feature's own name
            column = PREFIX + column
        names[name] = column
    return names


def _names(logged: LoggedList) -> list[str]:
    """Of the candidates' columns; without names: f0, f1, and so on."""
    return list(logged.columns) or [f"f{at}" for at in range(logged.request.candidates.columns)]


def _arrays(lists: list[LoggedList], columns: Mapping[str, str]) -> dict[str, pa.Array]:
    sizes = np.array([each.request.candidates.rows for each in lists])
    total = int(sizes.sum())
    arrays = {}
    for name, kind in _FACTS.items():
        facts = np.array([_fact(each, name) for each in lists], object)
        arrays[name] = pa.array(np.repeat(facts, sizes), kind)
    positions = np.zeros(total, np.int32)
    scores = np.zeros(total, np.float32)
    features = {name: np.full(total, np.nan, np.float32) for name in columns}
    ids: list[str | None] = []
    indices: list[NDArray[np.int32]] = []
    begin = 0
    for logged, size in zip(lists, sizes.tolist(), strict=True):
        shown = begin + np.array(logged.response.indices, np.intp)
        positions[shown] = np.arange(1, len(shown) + 1)
        scores[shown] = logged.response.scores
        part = slice(begin, begin + size)
        for name, values in zip(_names(logged), candidates(logged).T, strict=True):
            features[name][part] = values
        for name, value in zip(logged.request.context.feature_names, context(logged), strict=True):
            features[name][part] = value
        ids += list(logged.request.candidate_ids) or [None] * size
        indices.append(np.arange(size, dtype=np.int32))
        begin += size
    not_shown = positions == 0
    return {
        **arrays,
        "index": pa.array(np.concatenate(indices)),
        "candidate_id": pa.array(ids, pa.string()),
        "position": pa.array(positions, mask=not_shown),
        "score": pa.array(scores, mask=not_shown),
        **{
            columns[name]: pa.array(values, mask=np.isnan(values))
            for name, values in features.items()
        },
    }


def _fact(logged: LoggedList, name: str) -> object:
    record, request = logged.record, logged.request
    facts: dict[str, object] = {
        "request_id": request.request_id,
        "unit": request.unit,
        "time": record.time_unix_nanos // 1000,
        "version": record.model_version,
    }
    value = facts[name] if name in facts else getattr(record, name)
    return value if value != "" else None
