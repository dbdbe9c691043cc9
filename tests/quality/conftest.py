from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import xgboost as xgb

from ranker.export import export_onnx

FEATURES = ["completion", "recency", "popularity"]


@dataclass(frozen=True)
class Books:
    """Two rankers of books, the newer of which also knows popularity, and test queries."""

    old: Path
    new: Path
    boosters: tuple[xgb.Booster, xgb.Booster]
    table: pa.Table


def queries(rng: np.random.Generator, count: int) -> pa.Table:
    """A table of labelled candidates."""
    sizes = rng.integers(3, 25, count)
    rows = sizes.sum()
    columns = {name: rng.normal(size=rows).astype(np.float32) for name in FEATURES}
    columns["completion"][rng.random(rows) < 0.1] = np.nan
    worth = np.nan_to_num(columns["completion"]) + columns["popularity"]
    worth += rng.normal(0, 0.7, rows)
    return pa.table(
        {
            "qid": np.repeat(np.arange(count), sizes),
            "label": np.digitize(worth, [0, 1, 2]),
            "country": np.repeat(rng.choice(["SE", "FI", "PL"], count), sizes),
            "age": np.repeat(rng.integers(0, 900, count), sizes),
            "shown": rng.choice([0.2, 0.5, 1.0], rows),
            **columns,
        }
    )


def matrix(table: pa.Table, names: list[str]) -> np.ndarray:
    return np.column_stack([table[name].to_numpy() for name in names])


@pytest.fixture(scope="session")
def books(tmp_path_factory) -> Books:
    folder = tmp_path_factory.mktemp("books")
    rng = np.random.default_rng(1)
    train = queries(rng, 300)
    boosters = []
    for version, names in (("1", FEATURES[:2]), ("2", FEATURES)):
        data = xgb.DMatrix(matrix(train, names), train["label"].to_numpy(), feature_names=names)
        data.set_group(np.bincount(train["qid"].to_numpy()))
        settings = {"objective": "rank:ndcg", "max_depth": 3, "nthread": 1}
        boosters.append(xgb.train(settings, data, 30))
        export_onnx(boosters[-1], folder / f"{version}.onnx", name="books", version=version)
    return Books(
        folder / "1.onnx", folder / "2.onnx", (boosters[0], boosters[1]), queries(rng, 200)
    )


@pytest.fixture(scope="session")
def parquet(books, tmp_path_factory) -> Path:
    from pyarrow import parquet

    path = tmp_path_factory.mktemp("data") / "test.parquet"
    parquet.write_table(books.table, path)
    return path
