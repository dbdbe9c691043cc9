"""The demo: what it writes, that it is the same every time, and that it makes sense."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import xgboost as xgb
from click.testing import CliRunner

from demo import books
from demo.shelf import SHELF
from demo.world import FEATURES, GENRES
from ranker.cli.candidates import read_candidates
from ranker.cli.main import cli
from ranker.model import ModelFile
from ranker.model.metadata import ModelMetadata


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the demo wrote its files, and what it printed."""
    out = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(books, "TRAINING_LISTS", 400)  # enough for all that is said of it here
        result = CliRunner().invoke(
            books.main, ["--out", str(out), "--rollout"], catch_exceptions=False
        )
    assert result.exit_code == 0
    return out, result.stdout


@pytest.fixture(scope="module")
def candidates(made):
    return read_candidates(made[0] / "candidates.csv", FEATURES)


def test_it_says_what_it_did(made):
    out, printed = made
    assert "rows in 400 lists: 22 features" in printed
    assert "150 trees of depth 5" in printed
    assert "largest difference from XGBoost" in printed
    assert str(out / "candidates.csv") in printed


def test_the_model_beats_popularity(made):
    line = next(line for line in made[1].splitlines() if line.startswith("NDCG@10"))
    model, popularity = float(line.split()[1]), float(line.split()[-1])
    assert 0.85 < model < 1
    assert popularity < model - 0.2


def test_the_model_knows_its_name_and_features(made):
    model = onnx.load(made[0] / "books.onnx")
    metadata = ModelMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})
    assert (metadata.name, metadata.version) == ("books", "1")
    assert metadata.feature_names == FEATURES


def test_the_second_version_is_no_worse_on_lists_that_neither_has_seen(made):
    out, _ = made
    models = (out / "books-2.onnx", out / "test.csv", "--baseline", out / "books.onnx")
    gate = ("--gate", "low(ndcg@10) >= baseline - 0.01")
    result = CliRunner().invoke(cli, ["evaluate", *map(str, models), *gate])
    assert result.exit_code == 0, result.output


def test_the_models_have_a_reference(made):
    for name in ("books.onnx", "books-2.onnx"):
        assert ModelFile.read(made[0] / name).metadata.reference is not None


def test_two_versions_that_a_server_takes(made):
    result = CliRunner().invoke(cli, ["check", str(made[0] / "ranker.yaml")])
    assert result.exit_code == 0, result.stderr
    lines = [line.split()[:6] for line in result.stdout.splitlines()[1:]]
    assert lines == [
        ["books", "1", "stable", "90", "%", "150"],
        ["books", "2", "canary", "10", "%", "300"],
    ]


def test_candidates(candidates):
    assert candidates.feature_names == FEATURES
    assert list(candidates.labels) == ["title", "author", "genre"]
    assert candidates.labels["title"] == tuple(title for title, _, _ in SHELF)
    missing = np.isnan(candidates.features)
    assert 3 <= missing.sum() <= 20
    shared = candidates.features[:, FEATURES.index("reader_age_days") :]
    assert (shared == shared[0]).all()


def test_the_reader_gets_what_the_reader_likes(made, candidates):
    session = onnxruntime.InferenceSession(made[0] / "books.onnx")
    rows = candidates.features.astype(np.float32)
    scores = session.run(None, {session.get_inputs()[0].name: rows})[0].ravel()
    genres = np.array(candidates.labels["genre"])[np.argsort(-scores)]
    best, worst = Counter(genres[:10]), Counter(genres[-10:])
    assert best["mystery"] + best["nature"] >= 7
    assert worst["mystery"] + worst["nature"] == 0


def test_the_shelf():
    titles, _, genres = zip(*SHELF, strict=True)
    assert len(set(titles)) == len(SHELF) == 40
    assert set(genres) == set(GENRES)


def test_feature_names_are_unique():
    assert len(set(FEATURES)) == len(FEATURES)


def test_the_same_every_time():
    lists, again = (books.invent_lists(np.random.default_rng(3), 40) for _ in range(2))
    np.testing.assert_array_equal(lists.features, again.features)
    np.testing.assert_array_equal(lists.relevance, again.relevance)
    models = [books.train(lists).get_booster().save_raw("json") for _ in range(2)]
    assert models[0] == models[1]


def test_training_data_has_missing_values_and_all_grades():
    lists = books.invent_lists(np.random.default_rng(3), 200)
    missing = np.isnan(lists.features).mean(axis=0)
    some = {name for name, share in zip(FEATURES, missing, strict=True) if share > 0}
    assert some == {
        "genre_affinity",
        "narrator_match",
        "text_similarity",
        "completion_rate",
        "average_rating",
    }
    assert set(lists.relevance) == {0, 1, 2, 3, 4}
    assert (np.diff(lists.query) >= 0).all()


def test_ndcg_is_xgboosts():
    lists = books.invent_lists(np.random.default_rng(5), 60)
    assert all(lists.relevance[lists.query == query].max() > 0 for query in range(60))
    model = books.train(lists)
    booster = model.get_booster()
    booster.set_param({"eval_metric": "ndcg@10"})
    data = xgb.DMatrix(
        lists.features, lists.relevance, qid=lists.query, feature_names=list(FEATURES)
    )
    theirs = float(booster.eval(data).split(":")[-1])
    assert books.ndcg(model.predict(lists.features), lists) == pytest.approx(theirs, abs=1e-5)
    worse = books.ndcg(-model.predict(lists.features), lists)
    assert worse < 0.5 < theirs
