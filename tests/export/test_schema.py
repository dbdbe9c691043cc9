"""Schemas of XGBoost that the exporter does not know: refused by name, never misread."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb

from ranker.errors import ModelError
from ranker.export import export_onnx

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def boosters() -> dict[str, xgb.Booster]:
    """A trained booster of each kind that has trees."""
    data = xgb.DMatrix(ROWS, ROWS[:, 0])
    return {
        kind: xgb.train({"max_depth": 2, "booster": kind}, data, 2) for kind in ("gbtree", "dart")
    }


@pytest.fixture
def booster(boosters) -> xgb.Booster:
    return boosters["gbtree"]


def written_otherwise(monkeypatch, edit) -> None:
    """Has XGBoost write models as a later version might."""
    right = xgb.Booster.save_raw

    def save_raw(self, raw_format="ubj"):
        raw = right(self, raw_format)
        if raw_format != "json":
            return raw
        document = json.loads(raw)
        edit(document)
        return bytearray(json.dumps(document).encode())

    monkeypatch.setattr(xgb.Booster, "save_raw", save_raw)


def forest(document):
    booster = document["learner"]["gradient_booster"]
    return booster.get("gbtree", booster)["model"]


@pytest.mark.parametrize("kind", ["gbtree", "dart"])
@pytest.mark.parametrize(
    ("place", "where"),
    [
        pytest.param(lambda d: d, "the model", id="top"),
        pytest.param(lambda d: d["learner"], "learner", id="learner"),
        pytest.param(
            lambda d: d["learner"]["learner_model_param"],
            "learner.learner_model_param",
            id="parameters",
        ),
        pytest.param(
            lambda d: d["learner"]["gradient_booster"], "learner.gradient_booster", id="booster"
        ),
        pytest.param(forest, "learner.gradient_booster.model", id="forest"),
        pytest.param(
            lambda d: forest(d)["gbtree_model_param"],
            "learner.gradient_booster.model.gbtree_model_param",
            id="forest-parameters",
        ),
        pytest.param(
            lambda d: forest(d).setdefault("cats", {}),
            "learner.gradient_booster.model.cats",
            id="categories",
        ),
        pytest.param(
            lambda d: forest(d)["trees"][-1], "learner.gradient_booster.model.trees", id="tree"
        ),
        pytest.param(
            lambda d: forest(d)["trees"][-1]["tree_param"],
            "learner.gradient_booster.model.trees.tree_param",
            id="tree-parameters",
        ),
    ],
)
def test_a_key_that_is_not_known_is_refused_by_name(
    monkeypatch, tmp_path, boosters, kind, place, where
):
    written_otherwise(monkeypatch, lambda document: place(document).update(linear_leaves=[]))
    with pytest.raises(ModelError) as error:
        export_onnx(boosters[kind], tmp_path / "model.onnx")
    assert f"XGBoost {xgb.__version__} wrote {where} with linear_leaves" in error.value.message
    assert list(tmp_path.iterdir()) == []


def test_a_feature_type_that_is_not_known_is_refused(monkeypatch, tmp_path, booster):
    written_otherwise(
        monkeypatch, lambda document: document["learner"].update(feature_types=["float", "tokens"])
    )
    with pytest.raises(ModelError, match=r"wrote the feature types \['tokens'\]"):
        export_onnx(booster, tmp_path / "model.onnx")


def test_a_later_major_version_is_refused(monkeypatch, tmp_path, booster):
    written_otherwise(monkeypatch, lambda document: document.update(version=[4, 0, 1]))
    with pytest.raises(ModelError, match=r"XGBoost 4\.0\.1 is newer than this exporter"):
        export_onnx(booster, tmp_path / "model.onnx")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("4.1.0", "is newer than this exporter", id="newer"),
        pytest.param("2.0.3", "is installed; exporting needs 2.1 or later", id="older"),
    ],
)
def test_an_installed_version_that_is_not_known_is_refused(
    monkeypatch, tmp_path, booster, version, reason
):
    monkeypatch.setattr(xgb, "__version__", version)
    with pytest.raises(ModelError, match=f"XGBoost {version} {reason}"):
        export_onnx(booster, tmp_path / "model.onnx")


def test_a_later_minor_version_of_the_known_schema_is_exported(monkeypatch, tmp_path, booster):
    """With a note: what it says of scores has been verified, and of nothing else."""
    monkeypatch.setattr(xgb, "__version__", "3.77.0")
    report = export_onnx(booster, tmp_path / "model.onnx")
    assert any("XGBoost 3.77.0 is newer" in note for note in report.notes)
