from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb

from ranker.errors import ModelError
from ranker.export import export_onnx
from ranker.export.xgboost_model import read

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 3)).astype(np.float32)
ROWS[:, 2] = RNG.integers(0, 6, 200)
LABEL = ROWS[:, 0] + np.sin(3 * ROWS[:, 1]) + (ROWS[:, 2] % 2)
CLASSES = RNG.integers(0, 3, 200)


def train(label=LABEL, rounds=3, rows=ROWS, types=None, **params) -> xgb.Booster:
    data = xgb.DMatrix(rows, label, feature_types=types, enable_categorical=True)
    return xgb.train({"max_depth": 3, **params}, data, rounds)


def edited(edit, **params) -> xgb.Booster:
    """A booster whose first tree, as JSON, went through `edit`."""
    document = json.loads(train(**params).save_raw("json"))
    edit(document["learner"]["gradient_booster"]["model"]["trees"][0])
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(document).encode()))
    return booster


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        pytest.param(
            lambda: train(booster="gblinear", verbosity=0), "booster gblinear", id="gblinear"
        ),
        pytest.param(
            lambda: train(CLASSES, objective="multi:softprob", num_class=3),
            "multi:softprob with 3 classes",
            id="multi-class",
        ),
        pytest.param(
            lambda: xgb.XGBClassifier(n_estimators=2).fit(ROWS, CLASSES),
            "multi:softprob with 3 classes",
            id="classifier-of-three-classes",
        ),
        pytest.param(lambda: train(ROWS[:, :2]), "2 targets", id="two-targets"),
        pytest.param(
            lambda: train(ROWS[:, :2], multi_strategy="multi_output_tree"),
            "2 targets",
            id="vector-leaves",
        ),
        pytest.param(
            lambda: train(objective="reg:quantileerror", quantile_alpha=[0.2, 0.8]),
            "2 targets",
            id="two-quantiles",
        ),
        pytest.param(
            lambda: xgb.XGBRegressor(n_estimators=2, missing=0.0).fit(ROWS, LABEL),
            "missing=0.0",
            id="missing-is-zero",
        ),
        pytest.param(lambda: train(rounds=0), "zero rounds", id="no-trees"),
        pytest.param(xgb.Booster, "Booster: no model", id="untrained-booster"),
        pytest.param(xgb.XGBRanker, "XGBRanker: no model.*fit", id="unfitted-estimator"),
        pytest.param(lambda: 7, "expected a Booster.*got int", id="no-model-at-all"),
    ],
)
def test_what_cannot_be_exported_is_refused_with_the_reason(make, reason):
    with pytest.raises(ModelError, match=reason):
        read(make())


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """A model's file, by its format."""
    booster = train()
    return {kind: bytes(booster.save_raw(kind)) for kind in ("ubj", "json")}


@pytest.mark.parametrize(
    ("kind", "broken", "reason"),
    [
        pytest.param("ubj", lambda _: b"", "the file is empty", id="empty"),
        pytest.param("ubj", lambda _: b"ranker", "no model of XGBoost's in JSON or UBJ", id="text"),
        pytest.param("json", lambda _: b"[]", "no model of XGBoost's in JSON or UBJ", id="array"),
        pytest.param("ubj", lambda f: f[:-9], "no model of XGBoost's in JSON or UBJ", id="cut-ubj"),
        pytest.param(
            "json", lambda f: f[:500], "no model of XGBoost's in JSON or UBJ", id="cut-json"
        ),
        pytest.param(
            "json",
            lambda _: b'{"learner": {}, "version": [3, 0, 0]}',
            "no model that XGBoost can load",
            id="no-trees",
        ),
        pytest.param(
            "ubj",
            lambda f: f[:900] + f[-60:],
            "no model that XGBoost can load",
            id="ubj-without-its-middle",
        ),
        pytest.param(
            "ubj",
            lambda f: f.replace(b"i\3i\2i\0}", b"i\x63i\2i\0}"),
            r"written by XGBoost 99\.2\.0, which this exporter does not know",
            id="ubj-of-a-later-version",
        ),
        pytest.param(
            "json",
            lambda f: f[: f.rindex(b"[")] + b"[3,99,0]}",
            r"written by XGBoost 3\.99\.0, which the installed .* may misread",
            id="json-of-a-later-version",
        ),
    ],
)
def test_a_broken_file_is_refused_by_name(written, kind, broken, reason, tmp_path):
    path = tmp_path / "broken.ubj"
    path.write_bytes(broken(written[kind]))
    with pytest.raises(ModelError, match=rf"broken\.ubj: {reason}") as error:
        read(path)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ModelError, match=r"nowhere\.json: can't be read: No such file"):
        read(tmp_path / "nowhere.json")


def cycle(tree):
    tree["left_children"][1] = 0


def two_parents(tree):
    tree["right_children"][0] = tree["left_children"][0]


def child_out_of_range(tree):
    tree["right_children"][0] = len(tree["left_children"])


def one_child(tree):
    tree["right_children"][0] = -1


def feature_out_of_range(tree):
    tree["split_indices"][0] = 3


def nan_threshold(tree):
    tree["split_conditions"][0] = float("nan")


def infinite_leaf(tree):
    tree["split_conditions"][-1] = float("inf")


def unknown_split_type(tree):
    tree["split_type"][0] = 2


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        pytest.param(cycle, "don't form a tree|two parents", id="cycle"),
        pytest.param(two_parents, "don't form a tree|two parents", id="two-parents"),
        pytest.param(child_out_of_range, "don't form a tree", id="child-out-of-range"),
        pytest.param(one_child, "don't form a tree", id="one-child"),
        pytest.param(feature_out_of_range, "feature beyond the model's 3", id="feature"),
        pytest.param(nan_threshold, "a threshold is NaN", id="nan-threshold"),
        pytest.param(infinite_leaf, "a leaf is not finite", id="infinite-leaf"),
        pytest.param(unknown_split_type, "split types", id="unknown-split-type"),
    ],
)
def test_a_broken_tree_is_refused_with_the_reason(edit, reason):
    with pytest.raises(ModelError, match=f"tree 0: .*({reason})"):
        read(edited(edit))


def test_a_feature_that_is_split_as_a_number_and_as_a_category_is_refused():
    numbers = train(rows=ROWS[:, [2, 2, 2]], rounds=1, max_depth=1)
    codes = train(rows=ROWS[:, [2, 2, 2]], rounds=1, max_depth=1, types=["c", "c", "c"])
    documents = [json.loads(booster.save_raw("json")) for booster in (numbers, codes)]
    trees = [d["learner"]["gradient_booster"]["model"]["trees"][0] for d in documents]
    both = json.loads(train(rounds=2, max_depth=1).save_raw("json"))
    both["learner"]["gradient_booster"]["model"]["trees"] = [
        {**t, "id": i} for i, t in enumerate(trees)
    ]
    booster = xgb.Booster()
    booster.load_model(bytearray(json.dumps(both).encode()))
    with pytest.raises(ModelError, match=r"features \[0\]: split both"):
        read(booster)


def early_stopped() -> xgb.Booster:
    noise = xgb.DMatrix(ROWS, RNG.normal(size=200))
    booster = xgb.train(
        {"learning_rate": 1.0},
        xgb.DMatrix(ROWS, LABEL),
        50,
        evals=[(noise, "noise")],
        early_stopping_rounds=3,
        verbose_eval=False,
    )
    assert booster.best_iteration + 1 < booster.num_boosted_rounds()
    return booster


def test_early_stopping_is_honoured_and_said():
    booster = early_stopped()
    rounds = read(booster).rounds
    assert (rounds.begin, rounds.end) == (0, booster.best_iteration + 1)
    assert rounds.total == booster.num_boosted_rounds()
    assert rounds.reason == f"early stopping found round {booster.best_iteration} to be the best"


def test_rounds_that_came_after_early_stopping_are_said_to_be_left_out(tmp_path):
    """XGBoost keeps the note of the best round when a model is trained on."""
    stopped = early_stopped()
    trained_on = xgb.train({}, xgb.DMatrix(ROWS, LABEL), 40, xgb_model=stopped)
    said = str(export_onnx(trained_on, tmp_path / "model.onnx"))
    left_out = trained_on.num_boosted_rounds() - stopped.best_iteration - 1
    assert f"note: {left_out} rounds after the best one are left out. If the model was" in said
    assert "--iteration-range 0:0 exports all" in said
    said = str(export_onnx(trained_on, tmp_path / "model.onnx", iteration_range=(0, 0)))
    assert "left out" not in said


def test_a_best_round_beyond_a_slice_is_not_its_own():
    booster = train()
    booster.set_attr(best_iteration="7")
    assert (read(booster).rounds.end, read(booster).rounds.reason) == (3, "all")


@pytest.mark.parametrize(
    "noted",
    [
        pytest.param("foo", id="text"),
        pytest.param("", id="empty"),
        pytest.param("2.5", id="fraction"),
        pytest.param("1" * 5000, id="endless"),
    ],
)
def test_a_best_round_that_is_no_number_is_refused_unless_rounds_are_given(noted):
    booster = train()
    booster.set_attr(best_iteration=noted)
    with pytest.raises(ModelError, match="attribute best_iteration: expected the number") as error:
        read(booster)
    assert len(str(error.value)) < 300
    assert read(booster, (0, 0)).rounds.end == 3


@pytest.mark.parametrize(
    ("asked", "taken", "reason"),
    [
        pytest.param((0, 2), (0, 2), "as asked", id="first-two"),
        pytest.param((1, 3), (1, 3), "as asked", id="from-the-second"),
        pytest.param((0, 0), (0, 4), "all, as asked by 0:0", id="zero-zero-is-all"),
    ],
)
def test_rounds_are_taken_as_asked_despite_early_stopping(asked, taken, reason):
    booster = early_stopped()[0:4]
    booster.set_attr(best_iteration="1")
    model = read(booster, asked)
    assert (model.rounds.begin, model.rounds.end) == taken
    assert model.rounds.reason == reason
    assert len(model.trees) == taken[1] - taken[0]


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param((0, 4), id="beyond-the-end"),
        pytest.param((2, 2), id="none"),
        pytest.param((-1, 2), id="negative"),
    ],
)
def test_rounds_that_are_not_there_are_refused(asked):
    with pytest.raises(ModelError, match=rf"rounds {asked[0]}:{asked[1]} \(as asked\).*3"):
        read(train(rounds=3), asked)


def test_a_parallel_forest_has_several_trees_a_round():
    model = read(train(num_parallel_tree=4, subsample=0.5, rounds=3), (1, 2))
    assert len(model.trees) == 4


def test_nodes_are_breadth_first_and_only_those_that_a_row_can_reach():
    booster = train(gamma=3.0, max_depth=6, rounds=1, tree_method="exact")
    raw = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]["model"]["trees"][0]
    assert int(raw["tree_param"]["num_deleted"]) > 0
    (tree,) = read(booster).trees
    assert len(tree.left) == int(raw["tree_param"]["num_nodes"]) - int(
        raw["tree_param"]["num_deleted"]
    )
    splits = np.flatnonzero(tree.left >= 0)
    children = np.stack((tree.left[splits], tree.right[splits]), axis=1).ravel()
    assert children.tolist() == list(range(1, len(tree.left)))


def test_a_tree_that_was_pruned_away_is_one_leaf():
    (tree,) = read(train(gamma=1e9, rounds=1)).trees
    assert tree.depth == 0
    assert tree.left.tolist() == tree.right.tolist() == [-1]


def test_names_and_types_are_kept_and_may_be_absent():
    assert read(train()).feature_names == ()
    booster = train(types=["q", "int", "c"])
    booster.feature_names = ["price", "clicks", "genre"]
    model = read(booster)
    assert model.feature_names == ("price", "clicks", "genre")
    assert model.feature_types == ("q", "int", "c")


@pytest.mark.parametrize(
    ("params", "margin"),
    [
        pytest.param({"objective": "reg:squarederror", "base_score": 0.1}, 0.1, id="as-it-is"),
        pytest.param(
            {"objective": "binary:logistic", "base_score": 0.3}, np.log(0.3 / 0.7), id="log-odds"
        ),
        pytest.param({"objective": "reg:gamma", "base_score": 3.3}, np.log(3.3), id="logarithm"),
        pytest.param({"objective": "rank:ndcg", "base_score": 2.0}, 2.0, id="rank"),
    ],
)
def test_the_base_margin_is_the_base_score_through_the_link_function(params, margin):
    model = read(train(np.arange(200) % 2 + (params["objective"] == "reg:gamma"), **params))
    assert model.base_margin.dtype == np.float32
    assert model.base_margin == pytest.approx(margin, rel=1e-6)


def test_the_callers_booster_is_left_alone():
    booster = train()
    before = bytes(booster.save_raw("ubj"))
    config = booster.save_config()
    read(booster)
    assert bytes(booster.save_raw("ubj")) == before
    assert booster.save_config() == config
