from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import xgboost as xgb

import ranker
import ranker.export
from ranker.errors import ModelError
from ranker.export import export_onnx
from ranker.model.metadata import ModelMetadata

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(300, 3)).astype(np.float32)
LABEL = ROWS[:, 0] + np.sin(3 * ROWS[:, 1])
NAMES = ["price", "recency", "length"]
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "lambdarank"


def train(objective="reg:squarederror", label=LABEL, **params) -> xgb.Booster:
    data = xgb.DMatrix(ROWS, label, feature_names=NAMES, feature_types=["q", "float", "q"])
    return xgb.train({"objective": objective, "max_depth": 3, **params}, data, 4)


def metadata_of(path: Path) -> ModelMetadata:
    model = onnx.load(path)
    return ModelMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})


def test_the_file_says_what_is_in_it(tmp_path):
    path = tmp_path / "books.onnx"
    report = export_onnx(
        train(), path, name="books", version="7", required_features=["length", "price"]
    )
    assert replace(metadata_of(path), parity="") == ModelMetadata(
        name="books",
        version="7",
        feature_names=tuple(NAMES),
        feature_types=("q", "float", "q"),
        required_features=("length", "price"),
        output="margin",
        objective="reg:squarederror",
        xgboost_version=xgb.__version__,
        trees=4,
        depth=3,
        iterations="0:4",
        max_difference=0.0,
        verified_rows=4352,
    )
    assert report.path == path
    assert report.size == path.stat().st_size
    assert (report.trees, report.depth, report.num_features) == (4, 3, 3)


def test_the_report_reads_like_a_sentence_or_three(tmp_path):
    path = tmp_path / "books.onnx"
    lines = str(export_onnx(train(), path, iteration_range=(0, 2))).splitlines()
    assert lines[0].startswith(f"{path}: 2 trees of at most 3 splits deep, 3 features, 0.0")
    assert lines[1:] == [
        "rounds 0:2 of 4: as asked",
        f"verified: 4352 rows, largest difference from XGBoost {xgb.__version__}: 0 "
        "(0 of the scores' range)",
    ]


def test_it_is_reachable_from_the_package():
    assert ranker.export_onnx is export_onnx


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("as_text", [True, False], ids=["str", "Path"])
def test_a_path_gives_the_same_scores_as_the_booster(suffix, as_text, tmp_path, score):
    booster = train()
    saved, path = tmp_path / f"model.{suffix}", tmp_path / "model.onnx"
    booster.save_model(saved)
    export_onnx(str(saved) if as_text else saved, str(path) if as_text else path)
    np.testing.assert_array_equal(
        score(path, ROWS), booster.predict(xgb.DMatrix(ROWS, feature_names=NAMES))
    )


@pytest.mark.parametrize(
    ("make", "label", "fit"),
    [
        pytest.param(xgb.XGBRanker, np.digitize(LABEL, [0, 1]), {"group": [30] * 10}, id="ranker"),
        pytest.param(xgb.XGBRegressor, LABEL, {}, id="regressor"),
        pytest.param(xgb.XGBClassifier, (LABEL > 0).astype(int), {}, id="classifier"),
        pytest.param(xgb.XGBRFRegressor, LABEL, {}, id="random-forest"),
    ],
)
def test_estimators_give_their_margins(make, label, fit, tmp_path, score):
    estimator = make(n_estimators=5, max_depth=3).fit(ROWS, label, **fit)
    path = tmp_path / "model.onnx"
    export_onnx(estimator, path)
    np.testing.assert_array_equal(score(path, ROWS), estimator.predict(ROWS, output_margin=True))


@pytest.mark.parametrize("objective", ["binary:logistic", "reg:logistic"])
def test_probabilities_are_xgboosts(objective, tmp_path, score):
    booster = train(objective, LABEL > 0, learning_rate=1.0)
    path = tmp_path / "model.onnx"
    report = export_onnx(booster, path, output="probability")
    want = booster.predict(xgb.DMatrix(ROWS, feature_names=NAMES))
    np.testing.assert_allclose(score(path, ROWS), want, rtol=0, atol=1e-6)
    assert report.comparison.max_difference <= 1e-6
    assert metadata_of(path).output == "probability"


def test_probabilities_of_raw_margins_are_their_sigmoid(tmp_path, score):
    booster = train("binary:logitraw", LABEL > 0, base_score=0.3)
    path = tmp_path / "model.onnx"
    export_onnx(booster, path, output="probability")
    margin = booster.predict(xgb.DMatrix(ROWS, feature_names=NAMES)).astype(np.float64)
    np.testing.assert_allclose(score(path, ROWS), 1 / (1 + np.exp(-margin)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("objective", ["reg:squarederror", "binary:hinge", "count:poisson"])
def test_probabilities_of_what_is_no_log_odds_are_refused(objective, tmp_path):
    with pytest.raises(ModelError, match=rf"{objective}: its margin is no log-odds"):
        export_onnx(train(objective, LABEL > 0), tmp_path / "model.onnx", output="probability")


def test_a_required_feature_that_is_none_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"required_features: .*\['prize'\]"):
        export_onnx(train(), tmp_path / "model.onnx", required_features=["price", "prize"])


def test_categories_of_a_data_frame_are_pointed_out(tmp_path):
    model = Path(__file__).parent / "data" / "3.1.3-frame.ubj"
    report = export_onnx(model, tmp_path / "model.onnx")
    assert len(report.notes) == 1
    assert "note: categorical features take codes" in str(report)


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a b", id="space"),
        pytest.param("a/c", id="slash"),
        pytest.param("books@1", id="at"),
        pytest.param(" ", id="empty-after-strip"),
        pytest.param("books\n", id="newline"),
        pytest.param(".books", id="dot-first"),
        pytest.param("bücher", id="beyond-ascii"),
        pytest.param("b" * 129, id="long"),
    ],
)
def test_a_name_that_is_none_is_refused(field, text, tmp_path):
    with pytest.raises(ModelError, match=rf"^{field} .*: expected 1 to 128 characters"):
        export_onnx(train(), tmp_path / "model.onnx", **{field: text})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text", ["b", "B-0.1_x", "2026-11-28", "b" * 128], ids=lambda text: text[:9]
)
def test_a_name_that_is_one_is_served(text, tmp_path):
    path = tmp_path / "model.onnx"
    export_onnx(train(), path, name=text, version=text)
    model = ranker.Model.load(path)
    assert (model.name, model.version) == (text, text)


@pytest.mark.parametrize("name", ["books", ""], ids=["named", "named-by-its-file"])
def test_a_version_names_one_model_for_good(name, tmp_path):
    path = tmp_path / "books.onnx"
    export_onnx(train(), path, name=name, version="1")
    first = path.read_bytes()
    export_onnx(train(), path, name=name, version="1")
    with pytest.raises(ModelError, match=r"holds books@1 already.*another version, or delete"):
        export_onnx(train(eta=0.1), path, name=name, version="1")
    assert path.read_bytes() == first
    assert list(tmp_path.iterdir()) == [path]


def test_another_version_or_another_name_replaces_a_model(tmp_path):
    path = tmp_path / "books.onnx"
    for name, version in (("books", "1"), ("books", "2"), ("films", "2"), ("films", "")):
        export_onnx(train(eta=0.1 * len(name + version)), path, name=name, version=version)
    assert metadata_of(path).name == "films"


@pytest.fixture
def wrong(monkeypatch):
    """Exports are wrong: their base is off by one."""
    right = ranker.export.to_onnx

    def to_onnx(trees, base_margin, num_features, *, probability):
        return right(trees, base_margin + np.float32(1), num_features, probability=probability)

    monkeypatch.setattr(ranker.export, "to_onnx", to_onnx)


@pytest.mark.usefixtures("wrong")
@pytest.mark.parametrize("output", ["margin", "probability"])
def test_a_wrong_export_is_not_left_behind(output, tmp_path):
    with pytest.raises(ModelError, match="onnxruntime's scores differ from XGBoost's by up to"):
        export_onnx(train("binary:logistic", LABEL > 0), tmp_path / "model.onnx", output=output)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("wrong")
def test_a_wrong_export_does_not_replace_an_older_file(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    with pytest.raises(ModelError, match="nothing was written"):
        export_onnx(train(), path)
    assert path.read_bytes() == b"older"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        pytest.param("growth.MAX_DEPTH", "more than 2 splits deep", id="depth"),
        pytest.param("graph.MAX_FEATURES", "declares 3 features; expected 1..2", id="features"),
    ],
)
def test_what_no_server_could_load_is_not_exported(limit, said, tmp_path, monkeypatch):
    """The limits are lowered: models beyond the real ones take long to verify."""
    monkeypatch.setattr(f"ranker.forest.onnx.{limit}", 2)
    with pytest.raises(ModelError, match=f"^no server could load the file: .*{said}; nothing was"):
        export_onnx(train(), tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_export_replaces_an_older_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"older")
    export_onnx(train(), path)
    assert metadata_of(path).trees == 4
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path):
    path = tmp_path / "model.onnx"
    path.mkdir()
    with pytest.raises(OSError, match="directory"):
        export_onnx(train(), path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(
            "import ranker.export", "ranker.distribution.MissingExtraError: ", id="python"
        ),
        pytest.param(
            "from ranker.cli.main import cli; cli(['export', sys.executable, '-o', 'x.onnx'])",
            "Error: ",
            id="shell",
        ),
    ],
)
def test_without_xgboost_the_error_says_what_to_install(code: str, said: str):
    code = f"import sys; sys.modules['xgboost'] = None; {code}"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    last = result.stderr.splitlines()[-1]
    assert last == f"{said}xgboost: not installed; run: pip install 'tree-ranker[export]'"
    assert result.returncode == 1


def read_libsvm(path: Path, num_features: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Rows, grades and list lengths; what a row does not name is missing."""
    lines = path.read_text().splitlines()
    rows = np.full((len(lines), num_features), np.nan, np.float32)
    grades = np.empty(len(lines), int)
    for row, line in zip(rows, lines, strict=True):
        for pair in line.split()[1:]:
            feature, value = pair.split(":")
            row[int(feature)] = float(value)
    grades[:] = [int(line.split()[0]) for line in lines]
    return rows, grades, [int(n) for n in Path(f"{path}.query").read_text().split()]


@pytest.mark.skipif(not REAL.exists(), reason="the real data set lies beside the checkout only")
def test_a_ranker_of_the_real_set_scores_its_test_queries_to_the_last_bit(tmp_path, score):
    num_features = 301
    rows, grades, groups = read_libsvm(REAL / "rank.train", num_features)
    estimator = xgb.XGBRanker(objective="rank:ndcg", n_estimators=50, max_depth=6, n_jobs=1)
    estimator.fit(rows, grades, group=groups)
    path = tmp_path / "model.onnx"
    report = export_onnx(estimator, path)
    test_rows, _, _ = read_libsvm(REAL / "rank.test", num_features)
    np.testing.assert_array_equal(score(path, test_rows), estimator.predict(test_rows))
    assert report.comparison.max_difference == 0
    assert metadata_of(path).objective == "rank:ndcg"
