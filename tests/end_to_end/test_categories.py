"""Categories from XGBoost to a ranking over the network: coded by value, whoever sends them."""

from __future__ import annotations

import asyncio
import csv
import io
import subprocess
import sys
from collections.abc import Iterator

import numpy as np
import pandas as pd
import polars as pl
import pytest
import xgboost as xgb

from ranker.client import AsyncRankerClient, RankerClient
from ranker.errors import InvalidRequestError
from ranker.export import export_onnx
from tests.end_to_end.conftest import RunningServer

GENRES = ["poetry", "crime", "essay", "drama"]
STORES = [907, -3, 12]


def invent(rows: int, seed: int) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "price": np.where(random.random(rows) < 0.1, np.nan, random.normal(size=rows)),
            "genre": pd.Categorical.from_codes(random.integers(-1, 4, rows), GENRES),
            "store": pd.Categorical.from_codes(random.integers(-1, 3, rows), STORES),
        }
    )


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    frame = invent(600, 0)
    value = np.nan_to_num(frame.price) + 2 * (frame.genre.cat.codes == 1) + frame.store.cat.codes
    data = xgb.DMatrix(frame, np.digitize(value, [0, 2]), enable_categorical=True)
    data.set_group([30] * 20)
    return xgb.train({"objective": "rank:ndcg", "max_depth": 4, "max_cat_to_onehot": 2}, data, 10)


@pytest.fixture(scope="module")
def shop(booster, truth, transport, tmp_path_factory) -> Iterator[RunningServer]:
    """A server of the ranker, beside another model."""
    folder = tmp_path_factory.mktemp("shop")
    path = folder / "shop.onnx"
    export_onnx(booster, path, name="shop", version="3")
    models = (str(truth.path), str(path))
    running = RunningServer(folder / "log", *models, "--transport", transport)
    yield running
    assert running.stop() == 0


@pytest.fixture
def frame() -> pd.DataFrame:
    return invent(40, 1)


@pytest.fixture
def want(booster, frame) -> np.ndarray:
    return booster.predict(xgb.DMatrix(frame, enable_categorical=True), output_margin=True)


def test_get_model_tells_the_categories_and_list_models_does_not(shop):
    with RankerClient(shop.address, timeout=20) as client:
        genre, store = client.get_model("shop").categories
        assert (genre.feature, list(genre.texts), list(genre.integers)) == (1, GENRES, [])
        assert (store.feature, list(store.texts), list(store.integers)) == (2, [], STORES)
        assert not client.get_model("books").categories
        assert [len(model.categories) for model in client.list_models()] == [0, 0]


def test_frames_of_values_rank_as_xgboost_ranks_them(shop, frame, want):
    """Columns and categories in other orders than the training data's."""
    shuffled = frame[["store", "genre", "price"]].assign(
        genre=frame.genre.cat.reorder_categories(sorted(GENRES)),
        store=frame.store.cat.reorder_categories(sorted(STORES)),
    )
    polars = pl.DataFrame(
        {
            "genre": pl.Series(
                [None if value != value else value for value in frame.genre], dtype=pl.Categorical
            ),
            "store": [None if value != value else str(value) for value in frame.store],
            "price": frame.price.to_numpy(),
        }
    )
    order = np.argsort(-want, kind="stable")

    async def asynchronously() -> list:
        async with AsyncRankerClient(shop.address, timeout=20) as client, client.stream() as stream:
            return [
                await client.rank(shuffled, model="shop"),
                await stream.submit(polars, model="shop"),
            ]

    with RankerClient(shop.address, timeout=20) as client, client.stream() as stream:
        rankings = [
            client.rank(shuffled, model="shop"),
            client.rank(polars, model="shop", model_version="3"),
            stream.submit(shuffled, model="shop").result(),
            *asyncio.run(asynchronously()),
        ]
    for ranking in rankings:
        np.testing.assert_array_equal(ranking.indices, order)
        np.testing.assert_array_equal(ranking.scores, want[order])


def test_codes_of_no_category_rank_as_xgboost_ranks_them(shop, booster):
    rows = np.repeat(np.arange(4, dtype=np.float32).reshape(-1, 1), 9, axis=0) - 2
    odd = np.tile(np.array([-1, 99, 1.5, np.nan, 0, 3, 4, -0.5, 2**24], np.float32), 4)
    rows = np.column_stack([rows[:, 0], odd, np.roll(odd, 1)]).astype(np.float32)
    data = xgb.DMatrix(
        rows,
        feature_names=booster.feature_names,
        feature_types=booster.feature_types,
        enable_categorical=True,
    )
    want = booster.predict(data, output_margin=True)
    with RankerClient(shop.address, timeout=20) as client:
        ranking = client.rank(rows, model="shop")
    np.testing.assert_array_equal(want[ranking.indices], ranking.scores)
    np.testing.assert_array_equal(ranking.indices, np.argsort(-want, kind="stable"))


def test_an_unknown_value_is_refused_by_name(shop, frame):
    values = frame.assign(genre=[*frame.genre[:-1], "western"])
    with (
        RankerClient(shop.address, timeout=20) as client,
        pytest.raises(InvalidRequestError, match=r"column 'genre': .* no category 'western'"),
    ):
        client.rank(values, model="shop")


def test_ranker_rank_takes_values_from_a_file_and_from_the_shell(shop, booster, frame, tmp_path):
    path = tmp_path / "candidates.csv"
    frame.drop(columns="store").assign(title="x").to_csv(path, index=False)
    command = ["rank", path, "--server", shop.address, "--model", "shop", "--format", "csv"]
    result = subprocess.run(
        [sys.executable, "-m", "ranker", *map(str, command), "--context", "store=-3", "--top-k=0"],
        capture_output=True,
        text=True,
        check=True,
    )
    shared = frame.assign(store=pd.Categorical([-3] * len(frame), STORES))
    want = booster.predict(xgb.DMatrix(shared, enable_categorical=True), output_margin=True)
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    indices = [int(row["index"]) for row in rows]
    assert indices == np.argsort(-want, kind="stable").tolist()
    np.testing.assert_array_equal(np.float32([row["score"] for row in rows]), want[indices])
