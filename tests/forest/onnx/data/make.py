"""Makes the models in this folder: what converters outside this project write.

Run by hand in an environment of its own, since nothing here is a dependency:

    pip install lightgbm onnxmltools scikit-learn skl2onnx xgboost-cpu
    python make.py

Each model's rows and the training library's own scores of them go into
`scores.npz`. The committed files were made with lightgbm 4.7.0, onnxmltools
1.16.0, scikit-learn 1.9.1, skl2onnx 1.20.0 and xgboost 3.2.0.
"""

from __future__ import annotations

from pathlib import Path

import lightgbm
import numpy as np
import onnx
import onnxmltools
import skl2onnx
import xgboost
from onnxmltools.convert.common.data_types import FloatTensorType
from sklearn.ensemble import GradientBoostingRegressor

FOLDER = Path(__file__).parent
FEATURES = 5
CATEGORY = 4  # the column that holds category codes

rng = np.random.default_rng(7)
rows = rng.normal(size=(600, FEATURES)).astype(np.float32)
rows[:, CATEGORY] = rng.integers(0, 40, len(rows))
effect = rng.normal(size=40)
target = rows[:, 0] + rows[:, 1] ** 2 + effect[rows[:, CATEGORY].astype(int)]
grade = np.digitize(target, np.quantile(target, [0.5, 0.8, 0.95]))
holes = rows.copy()
holes[:, :CATEGORY][rng.random((len(rows), CATEGORY)) < 0.1] = np.nan
group = np.full(len(rows) // 20, 20)
shape = [("features", FloatTensorType([None, FEATURES]))]
scores = {"rows": rows[:200], "rows_with_missing": holes[:200]}


def save(name: str, model: onnx.ModelProto, predicted: np.ndarray) -> None:
    del model.metadata_props[:]
    model.doc_string = model.graph.doc_string = ""
    onnx.save(model, FOLDER / f"{name}.onnx")
    scores[name] = predicted


xgb = xgboost.XGBRegressor(n_estimators=6, max_depth=3, base_score=0.0).fit(holes, target)
save(
    "xgboost_regressor",
    onnxmltools.convert_xgboost(xgb, initial_types=shape),
    xgb.predict(holes[:200]),
)

plain = {"n_estimators": 6, "num_leaves": 7, "verbose": -1}
ranker = lightgbm.LGBMRanker(**plain).fit(holes, grade, group=group)
save(
    "lightgbm_ranker",
    onnxmltools.convert_lightgbm(ranker, initial_types=shape, zipmap=False),
    ranker.predict(holes[:200]),
)

categorical = lightgbm.LGBMRegressor(**plain, min_data_per_group=1, cat_smooth=0)
categorical.fit(rows, target, categorical_feature=[CATEGORY])
save(
    "lightgbm_categorical",
    onnxmltools.convert_lightgbm(categorical, initial_types=shape, zipmap=False),
    categorical.predict(rows[:200]),
)

counts = lightgbm.LGBMRegressor(**plain, objective="poisson").fit(rows, np.abs(target))
save(
    "lightgbm_poisson",  # an Exp follows the trees
    onnxmltools.convert_lightgbm(counts, initial_types=shape, zipmap=False),
    counts.predict(rows[:200]),
)

boosted = GradientBoostingRegressor(n_estimators=6, max_depth=3).fit(rows, target)
save("sklearn_boosting", skl2onnx.to_onnx(boosted, rows[:1]), boosted.predict(rows[:200]))

np.savez_compressed(FOLDER / "scores.npz", **scores)
