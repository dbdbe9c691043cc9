"""Trains the models beside this file with whatever XGBoost is installed.

    python make_models.py

writes, for that XGBoost's version V, small models `V-CASE.json` or `.ubj` and
`V.npz` with the rows and, by case, the margins that this very version predicts.
Run it in a fresh environment with one of

    pip install xgboost==1.7.6 "numpy<2" "pandas<3"
    pip install xgboost-cpu==2.1.4 "pandas<3"
    pip install xgboost-cpu==3.0.5 "pandas<3"
    pip install xgboost-cpu==3.1.3 "pandas<3"

Models that are there already stay as they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xgboost as xgb

HERE = Path(__file__).parent
ROUNDS = 4
NAMES = ["price", "recency", "length", "genre"]
CASES = {
    "squarederror": {"objective": "reg:squarederror"},
    "logistic": {"objective": "binary:logistic"},
    "logistic_base": {"objective": "binary:logistic", "base_score": 0.3},
    "logitraw_base": {"objective": "binary:logitraw", "base_score": 0.3},
    "gamma_base": {"objective": "reg:gamma", "base_score": 3.3},
    "ndcg": {"objective": "rank:ndcg"},
    "dart": {"objective": "reg:squarederror", "booster": "dart", "rate_drop": 0.5},
    "forest": {"objective": "reg:squarederror", "num_parallel_tree": 2, "subsample": 0.5},
    "partition": {"objective": "reg:squarederror", "max_cat_to_onehot": 1},
    "frame": {"objective": "reg:squarederror", "max_cat_to_onehot": 100},
    "early": {"objective": "reg:squarederror", "learning_rate": 0.9},
    # Every other objective with one score a row; smaller, since only the base margin is new.
    **{
        name.partition(":")[2]: {"objective": name, "max_depth": 2}
        for name in (
            "binary:hinge",
            "count:poisson",
            "rank:map",
            "rank:pairwise",
            "reg:absoluteerror",
            "reg:gamma",
            "reg:pseudohubererror",
            "reg:squaredlogerror",
            "reg:tweedie",
            "survival:aft",
            "survival:cox",
        )
    },
    "quantileerror": {"objective": "reg:quantileerror", "quantile_alpha": 0.3, "max_depth": 2},
}
SINCE = {"quantileerror": 2}
"""The first major version that knows a case's objective, where not all do."""


def main() -> None:
    """Trains, saves and predicts all cases."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4)).astype(np.float32)
    rows[:, 3] = random.integers(0, 7, 200)
    label = rows[:, 0] + np.sin(3 * rows[:, 1]) + (rows[:, 3] % 3 == 0) + 5
    rows[random.random(rows.shape) < 0.1] = np.nan
    labels = {
        "binary": label > np.median(label),
        "count": label,
        "rank": np.digitize(label, np.quantile(label, (0.5, 0.8, 0.95))),
        "reg": label,
        "survival": label,
    }
    archive = HERE / f"{xgb.__version__}.npz"
    predictions = dict(np.load(archive)) if archive.exists() else {"rows": rows}
    np.testing.assert_array_equal(predictions["rows"], rows)
    version = int(xgb.__version__.split(".")[0])
    for index, (case, params) in enumerate(CASES.items()):
        if case in predictions or version < SINCE.get(case, 0):
            continue
        data = matrix(case, rows, labels[params["objective"].split(":")[0]])
        settings = {"max_depth": 3, "tree_method": "hist", "seed": 1, **params}
        if case == "early":
            held_out = xgb.DMatrix(rows[::2] + 0.3, label[::2], feature_names=NAMES)
            booster = xgb.train(
                settings, data, 40, [(held_out, "test")],
                early_stopping_rounds=2, verbose_eval=False,
            )  # fmt: skip
            kept = (0, booster.best_iteration + 1)
        else:
            booster = xgb.train(settings, data, ROUNDS)
            kept = (0, 0)
        booster.save_model(HERE / f"{xgb.__version__}-{case}.{('json', 'ubj')[index % 2]}")
        predictions[case] = booster.predict(data, output_margin=True, iteration_range=kept)
    np.savez_compressed(archive, **predictions)


def matrix(case: str, rows: np.ndarray, label: np.ndarray) -> xgb.DMatrix:
    """The rows as that case's training data: some with codes, one as a data frame."""
    if case == "frame":
        frame = pd.DataFrame(rows, columns=NAMES)
        codes = np.nan_to_num(rows[:, 3], nan=-1).astype(int)
        frame["genre"] = pd.Categorical.from_codes(codes, list("gfedcba"))
        return xgb.DMatrix(frame, label, enable_categorical=True)
    genre = "c" if case == "partition" else "q"
    data = xgb.DMatrix(
        rows, label, feature_names=NAMES, feature_types=["q", "q", "q", genre],
        enable_categorical=genre == "c",
    )  # fmt: skip
    if case in ("map", "ndcg", "pairwise"):
        data.set_group([20] * 10)
    if case == "map":
        data.set_label(label > 0)
    if case == "cox":  # a negative label is a time after which nobody looked
        data.set_label(np.where(label > np.median(label), -label, label))
    if case == "aft":
        data.set_float_info("label_lower_bound", label)
        data.set_float_info("label_upper_bound", np.where(label > 6, np.inf, label + 1))
    return data


if __name__ == "__main__":
    main()
