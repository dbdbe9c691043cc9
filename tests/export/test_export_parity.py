"""Exported models against XGBoost's own predict, on models that hypothesis makes up."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xgboost as xgb
from hypothesis import given, settings
from hypothesis import strategies as st

from ranker.export import export_onnx

OBJECTIVES = (
    "rank:ndcg",
    "rank:pairwise",
    "rank:map",
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:logistic",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "reg:quantileerror",
    "reg:gamma",
    "reg:tweedie",
    "binary:logistic",
    "binary:logitraw",
    "binary:hinge",
    "count:poisson",
    "survival:aft",
    "survival:cox",
)
LABELS_BELOW_ONE = (
    "reg:logistic",
    "binary:logistic",
    "binary:logitraw",
    "binary:hinge",
    "rank:map",
)


@st.composite
def settings_of_training(draw: st.DrawFn, booster: str, categorical: bool) -> dict:
    """What to train: parameters for XGBoost, and the keys that start with `data_`."""
    objective = draw(st.sampled_from(OBJECTIVES))
    leafwise = draw(st.booleans())
    # Where a base score is a probability, or a mean, it has to be one.
    bases = [0.5, 0.1, 0.9] if objective in LABELS_BELOW_ONE else [0.5, 0.1, 3.7]
    if objective == "reg:squarederror":
        bases += [1e4, -1e4]
    base = draw(st.sampled_from([None, *bases]))
    return {
        "objective": objective,
        "booster": booster,
        "max_depth": draw(st.integers(1, 12)),
        "grow_policy": "lossguide" if leafwise else "depthwise",
        "max_leaves": draw(st.integers(2, 40)) if leafwise else 0,
        "tree_method": draw(
            st.sampled_from(["hist", "approx", "hist" if categorical else "exact"])
        ),
        "learning_rate": draw(st.sampled_from([0.1, 0.3, 1.0])),
        "min_child_weight": draw(st.sampled_from([0.0, 1.0])),
        "gamma": draw(st.sampled_from([0.0, 0.0, 0.5, 1e6])),  # the last one prunes everything
        "num_parallel_tree": draw(st.sampled_from([1, 1, 3])),
        "subsample": draw(st.sampled_from([1.0, 0.6])),
        "max_cat_to_onehot": draw(st.sampled_from([1, 8, 100])),
        "rate_drop": 0.4,
        "quantile_alpha": 0.3,
        "verbosity": 0,
        "nthread": 1,
        **({} if base is None else {"base_score": base}),
        "seed": draw(st.integers(0, 2**31 - 1)),
        "data_features": draw(st.integers(1, 6)),
        "data_missing": draw(st.sampled_from([0.0, 0.1, 0.7, 0.97])),
        "data_scale": draw(st.sampled_from([1e-30, 1.0, 1e20])),
        "data_whole": draw(st.booleans()),
        "data_categories": draw(st.sampled_from([1, 2, 7, 40, 300])) if categorical else 0,
        "data_rounds": draw(st.integers(1, 6)),
        "data_stop": draw(st.booleans()),
    }


def train(params: dict) -> tuple[xgb.Booster, np.ndarray]:
    """A booster, and rows that probe its splits."""
    rng = np.random.default_rng(params["seed"])
    num_features, categories = params["data_features"], params["data_categories"]
    rows = rng.normal(size=(120, num_features)).astype(np.float32) * params["data_scale"]
    if params["data_whole"]:
        rows = np.round(rows)
    signal = rows[:, 0] / params["data_scale"] + rng.normal(size=120) * 0.3
    types = ["q"] * num_features
    for feature in range(num_features) if categories else ():
        if feature != 1:
            rows[:, feature] = rng.integers(0, categories, 120)
            signal += rng.normal(size=categories)[rows[:, feature].astype(int)]
            types[feature] = "c"
    rows[rng.random(rows.shape) < params["data_missing"]] = np.nan
    objective = params["objective"]
    grades = np.digitize(signal, np.quantile(signal, (0.5, 0.8)))
    label = np.minimum(grades, 1) if objective in LABELS_BELOW_ONE else grades
    if objective.startswith(("reg:", "survival:")) and objective not in LABELS_BELOW_ONE:
        label = signal - signal.min() + 0.5
    matrix = xgb.DMatrix(rows, label, feature_types=types, enable_categorical=True)
    if objective == "survival:aft":
        matrix.set_float_info("label_lower_bound", label)
        matrix.set_float_info("label_upper_bound", label + rng.random(120))
    if objective.startswith("rank:"):
        matrix.set_group([30] * 4)
    stop = {"early_stopping_rounds": 1} if params["data_stop"] else {}
    booster = xgb.train(
        {key: value for key, value in params.items() if not key.startswith("data_")},
        matrix,
        params["data_rounds"],
        evals=[(matrix, "train")],
        verbose_eval=False,
        **stop,
    )
    return booster, probes(booster, types, rows, rng)


def probes(
    booster: xgb.Booster, types: list[str], rows: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The training rows, and rows on, just below and just above the model's splits."""
    forest = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    on: list[set[float]] = [{0.0, -0.0} for _ in types]
    for tree in forest.get("gbtree", forest)["model"]["trees"]:
        for node, left in enumerate(tree["left_children"]):
            if left >= 0 and not tree["split_type"][node]:
                on[tree["split_indices"][node]].add(tree["split_conditions"][node])
        for begin, size, node in zip(
            tree["categories_segments"],
            tree["categories_sizes"],
            tree["categories_nodes"],
            strict=True,
        ):
            on[tree["split_indices"][node]].update(tree["categories"][begin : begin + size])
    made = np.empty((400, len(types)), np.float32)
    for feature, kind in enumerate(types):
        values = np.array(sorted(on[feature]), np.float32)
        inf = np.float32(np.inf)
        pool = [values, np.nextafter(values, inf), np.nextafter(values, -inf), -values, [np.nan]]
        pool.append([3e38, -3e38, 1e-45, -1e-45, 16777215.0, 16777216.0])
        if kind == "c":
            pool += [values + 1, values + 0.5, [-1, -0.5, 0.5, 1e9, 2.0**31]]
        made[:, feature] = rng.choice(np.concatenate(pool).astype(np.float32), len(made))
    return np.concatenate((rows, made))


def predict(booster: xgb.Booster, rows: np.ndarray) -> np.ndarray:
    best = booster.attr("best_iteration")
    return booster.predict(
        xgb.DMatrix(rows, feature_types=booster.feature_types, enable_categorical=True),
        output_margin=True,
        iteration_range=(0, 0) if best is None else (0, int(best) + 1),
    )


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("export") / "model.onnx"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(params=settings_of_training("gbtree", categorical=False))
def test_numeric_trees_are_equal_to_the_last_bit(params, path, score):
    booster, rows = train(params)
    report = export_onnx(booster, path)
    np.testing.assert_array_equal(score(path, rows), predict(booster, rows))
    assert report.comparison.max_difference == 0
    infinite = np.where(np.abs(rows) > 1e38, np.copysign(np.float32(np.inf), rows), rows)
    np.testing.assert_array_equal(
        score(path, infinite),
        booster.inplace_predict(
            infinite,
            predict_type="margin",
            iteration_range=(report.rounds.begin, report.rounds.end),
        ),
    )


@settings(max_examples=100, deadline=None, derandomize=True)
@given(params=settings_of_training("gbtree", categorical=True))
def test_categorical_trees_are_equal_to_the_last_bit(params, path, score):
    booster, rows = train(params)
    export_onnx(booster, path)
    np.testing.assert_array_equal(score(path, rows), predict(booster, rows))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(params=settings_of_training("dart", categorical=False))
def test_dart_is_equal_but_for_a_fused_multiply_and_add(params, path, score):
    # Where the processor has one, XGBoost may be compiled to skip a rounding.
    booster, rows = train(params)
    export_onnx(booster, path)
    want = predict(booster, rows)
    np.testing.assert_allclose(score(path, rows), want, rtol=0, atol=1e-6 * np.abs(want).max())
