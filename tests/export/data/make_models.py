"""Trains the models beside this file with whatever XGBoost is installed.

    python make_models.py

writes, for that XGBoost's version V, small models `V-CASE.json` or `.ubj` and
`V.npz` with the rows and, by case, the margins that this very version predicts.
Run it in a fresh environment with one of

    pip install xgboost==1.7.6 "numpy<2" "pandas<3"
    pip install xgboost-cpu==2.1.4 "pandas<3"
    pip install xgboost-cpu==3.0.5 "pandas<3"
    pip install xgboost-cpu==3.1.3 "pandas<3"
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
}


def main() -> None:
    """Trains, saves and predicts all cases."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(200, 4)).astype(np.float32)
    rows[:, 3] = random.integers(0, 7, 200)
    label = rows[:, 0] + np.sin(3 * rows[:, 1]) + (rows[:, 3] % 3 == 0) + 5
    rows[random.random(rows.shape) < 0.1] = np.nan
    labels = {
        "binary": label > np.median(label),
        "rank": np.digitize(label, np.quantile(label, (0.5, 0.8, 0.95))),
        "reg": label,
    }
    predictions = {}
    for index, (case, params) in enumerate(CASES.items()):
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
    np.savez_compressed(HERE / f"{xgb.__version__}.npz", rows=rows, **predictions)


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
    if case == "ndcg":
        data.set_group([20] * 10)
    return data


if __name__ == "__main__":
    main()
