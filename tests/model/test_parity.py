"""Rows with XGBoost's scores: in the file, and scored again at each load."""

from __future__ import annotations

import base64
import dataclasses

import numpy as np
import onnx
import pandas as pd
import pytest
import xgboost as xgb
from onnx import helper

from ranker.errors import InvalidRequestError, ModelError
from ranker.export import export_onnx
from ranker.model import Model, ModelFile, parity
from ranker.model.parity import MOST_CELLS, ParityRows

RANDOM = np.random.default_rng(0)


def trained(columns: int = 5, objective: str = "reg:squarederror") -> xgb.Booster:
    rows = RANDOM.normal(size=(200, columns)).astype(np.float32)
    rows[RANDOM.random(rows.shape) < 0.2] = np.nan
    label = (np.nan_to_num(rows).sum(1) > 0).astype(float)
    settings = {"max_depth": 3, "objective": objective, "nthread": 1}
    return xgb.train(settings, xgb.DMatrix(rows, label), 5)


def parity_of(path) -> ParityRows:
    return ParityRows.from_text(ModelFile.read(path).metadata.parity)


@pytest.fixture
def booster() -> xgb.Booster:
    return trained()


@pytest.fixture
def path(booster, tmp_path):
    export_onnx(booster, tmp_path / "books.onnx")
    return tmp_path / "books.onnx"


def with_parity(path, text: str) -> None:
    proto = onnx.load(path)
    props = {prop.key: prop.value for prop in proto.metadata_props}
    del proto.metadata_props[:]
    helper.set_model_props(proto, props | {"ranker.parity": f'"{text}"'})
    onnx.save(proto, path)


def test_a_file_carries_xgboosts_own_margins(booster, path):
    found = parity_of(path)
    rows = found.rows(5)
    assert rows.shape == (64, 5)
    assert np.isnan(rows).any(axis=0).all()
    want = booster.predict(xgb.DMatrix(rows), output_margin=True)
    np.testing.assert_array_equal(found.margins, want)


def test_given_rows_are_among_them(booster, tmp_path):
    given = RANDOM.normal(size=(7, 5)).astype(np.float32)
    export_onnx(booster, tmp_path / "books.onnx", rows=given)
    found = parity_of(tmp_path / "books.onnx")
    read = given[:, found.columns]
    assert all((found.values == row).all(axis=1).any() for row in read)


def test_given_rows_of_another_shape_are_refused(booster, tmp_path):
    with pytest.raises(ModelError, match=r"rows: expected shape \[m, 5\]"):
        export_onnx(booster, tmp_path / "books.onnx", rows=np.zeros((3, 4)))


def test_given_rows_of_a_frame_have_the_models_columns_in_its_order(booster, tmp_path):
    booster.feature_names = ["a", "b", "c", "d", "e"]
    path, frame = tmp_path / "books.onnx", pd.DataFrame(np.eye(5), columns=booster.feature_names)
    export_onnx(booster, path, rows=frame)
    export_onnx(booster, path, rows=pd.DataFrame(np.eye(5)))
    with pytest.raises(ModelError, match="rows: the data frame has other columns"):
        export_onnx(booster, path, rows=frame[["b", "a", "c", "d", "e"]])


def test_given_rows_of_a_frame_are_taken_by_position_if_the_model_has_no_names(booster, tmp_path):
    frame = pd.DataFrame(np.eye(5), columns=["a", "b", "c", "d", "e"])
    export_onnx(booster, tmp_path / "frame.onnx", name="books", rows=frame)
    export_onnx(booster, tmp_path / "matrix.onnx", name="books", rows=frame.to_numpy())
    assert (tmp_path / "frame.onnx").read_bytes() == (tmp_path / "matrix.onnx").read_bytes()
    with pytest.raises(InvalidRequestError, match="rows"):
        export_onnx(booster, tmp_path / "texts.onnx", rows=frame.astype(str) + "x")


def test_the_same_export_gives_the_same_rows(booster, path, tmp_path):
    export_onnx(booster, tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("engine", ["simd", "onnx"])
def test_a_score_that_differs_is_refused(path, engine):
    found = parity_of(path)
    margins = found.margins.copy()
    margins[9] += np.float32(0.5)
    with_parity(path, dataclasses.replace(found, margins=margins).to_text())
    with pytest.raises(ModelError, match=rf"books.onnx: parity row 9: expected .* engine {engine}"):
        Model.load(path, engine)


def test_one_bit_is_enough_for_an_exact_engine(path):
    found = parity_of(path)
    margins = np.nextafter(found.margins, np.float32(np.inf))
    with_parity(path, dataclasses.replace(found, margins=margins).to_text())
    with pytest.raises(ModelError, match="64 of 64 rows differ"):
        Model.load(path, "simd")
    Model.load(path, "onnx")


class Erring:
    """An engine that errs where so many rows are scored together."""

    name, exact, parts = "erring", True, ()

    def __init__(self, found: ParityRows, wrong_at: int) -> None:
        self.num_features = 5
        self.asked = set[int]()
        self._margins = {
            row.tobytes(): margin for row, margin in zip(found.rows(5), found.margins, strict=True)
        }
        self._wrong_at = wrong_at

    def score(self, blocks: list[np.ndarray]) -> np.ndarray:
        (rows,) = blocks
        self.asked.add(len(rows))
        right = np.array([self._margins[row.tobytes()] for row in rows])
        return right + np.float32(len(rows) == self._wrong_at)


@pytest.mark.parametrize("together", [1, 7, 64, 128], ids=lambda rows: f"{rows}-rows")
def test_an_engine_that_errs_on_few_rows_or_on_many_is_found(path, together):
    found = parity_of(path)
    with pytest.raises(ModelError, match=rf"{together} of {together} rows differ"):
        found.replay(Erring(found, together), probability=False)


def test_of_a_very_wide_model_few_rows_are_scored_at_a_time(path, monkeypatch):
    found = parity_of(path)
    monkeypatch.setattr(parity, "_CELLS_AT_ONCE", 50)
    engine = Erring(found, 0)
    found.replay(engine, probability=False)
    assert engine.asked == {1, 4, 7, 8, 10}


def test_probabilities_are_compared_as_such(tmp_path):
    path = tmp_path / "books.onnx"
    export_onnx(trained(objective="binary:logistic"), path, output="probability")
    Model.load(path)
    found = parity_of(path)
    changed = dataclasses.replace(found, margins=found.margins + np.float32(0.01))
    with_parity(path, changed.to_text())
    with pytest.raises(ModelError, match="parity row 0"):
        Model.load(path)


def test_a_file_without_rows_loads_and_says_so(path, caplog):
    with_parity(path, "")
    with caplog.at_level("INFO", "ranker.model.model"):
        Model.load(path)
    assert "has no parity rows" in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("ä", id="not-base64"),
        pytest.param(base64.b64encode(b"1234").decode(), id="too-short"),
        pytest.param(base64.b64encode(b"\xff" * 8).decode(), id="negative"),
        pytest.param(base64.b64encode(b"\x01\0\0\0\x7f\0\0\0").decode(), id="lacking-values"),
        pytest.param(
            base64.b64encode(b"\x41" + bytes(7 + 4 * 0x41)).decode(), id="more-than-are-written"
        ),
    ],
)
def test_what_are_no_rows_is_refused(path, text):
    with_parity(path, text)
    with pytest.raises(ModelError, match="parity rows"):
        Model.load(path)


def test_a_column_that_the_model_lacks_is_refused():
    rows = ParityRows(np.array([5], np.int32), np.zeros((1, 1), np.float32), np.zeros(1, "f4"))
    with pytest.raises(ModelError, match="a column beyond the model's 5"):
        rows.rows(5)


def test_a_wide_text_is_bounded():
    count = MOST_CELLS // 4096
    values = np.zeros((count, 4096), np.float32)
    rows = ParityRows(np.arange(4096, dtype=np.int32), values, np.zeros(count, np.float32))
    assert len(rows.to_text()) < 200_000
