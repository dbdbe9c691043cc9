"""The portable path on an emulated ARM processor, bit for bit XGBoost's own.

Needs a cross compiler and an emulator: `apt install gcc-aarch64-linux-gnu qemu-user`.
"""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import xgboost

from ranker.engine.simd import engine as simd
from ranker.engine.simd.layout import Layout, lay_out
from tests.engine.simd.simd_forests import (
    booster_of,
    forest_of,
    predict,
    random_forest,
    random_rows,
)

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
SOURCES = Path(simd.__file__).parent

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not shutil.which(COMPILER) or not shutil.which(EMULATOR),
        reason=f"needs {COMPILER} and {EMULATOR}",
    ),
]


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """The kernel for ARM; undefined behaviour and loads that aren't aligned end it."""
    program = tmp_path_factory.mktemp("arm") / "portable_main"
    sources = [
        SOURCES / "_simd_forest.c",
        SOURCES / "_simd_paths.c",
        Path(__file__).parent / "portable_main.c",
    ]
    options = ["-O2", "-static", "-fsanitize=undefined", "-fsanitize-undefined-trap-on-error"]
    subprocess.run([COMPILER, *options, f"-I{SOURCES}", *sources, "-lm", "-o", program], check=True)
    return program


def write(layout: Layout, rows, path: Path) -> None:
    """A layout's arrays in their order, each after its length; then the rows, unaligned."""
    values = vars(layout)
    integers = np.array([values[name] for name in ("num_features", "num_columns", "depth")])
    arrays = [value for value in values.values() if isinstance(value, np.ndarray)]
    with path.open("wb") as file:
        for array in (integers, np.array([layout.base], np.float32), *arrays):
            file.write(np.uint64(array.size).tobytes() + array.tobytes())
        file.write(np.uint64(rows.nbytes + 1).tobytes() + b" " + rows.tobytes())


def score(program, forest, rows, directory):
    write(lay_out(forest), rows, directory / "input")
    subprocess.run([EMULATOR, program, directory / "input", directory / "scores"], check=True)
    return np.fromfile(directory / "scores", np.float32)


@pytest.mark.parametrize(
    ("trees", "features", "leaves", "chain"),
    [
        pytest.param(50, 8, 1, False, id="leaves"),
        pytest.param(50, 8, 64, False, id="tiles"),
        pytest.param(50, 300, 200, False, id="steps"),
        pytest.param(20, 8, 600, False, id="deep"),
        pytest.param(20, 8, 31, True, id="chains"),
    ],
)
def test_scores_are_xgboosts(program, tmp_path, trees, features, leaves, chain):
    rng = np.random.default_rng(5)
    forest = random_forest(rng, trees, features, leaves, chain)
    rows = random_rows(rng, 203, forest)
    scores = score(program, forest, rows, tmp_path)
    assert scores.tobytes() == predict(booster_of(forest), rows).tobytes()


def test_categories_score_as_xgboosts(program, tmp_path):
    rng = np.random.default_rng(6)
    rows = rng.integers(0, 40, (500, 3)).astype(np.float32)
    rows[:, 2] = rng.normal(size=len(rows))
    rows[rng.random(rows.shape) < 0.1] = np.nan
    target = np.isin(rows[:, 0], [1, 5, 9, 30]) * 3.0 + np.nan_to_num(rows[:, 2])
    data = xgboost.DMatrix(rows, target, feature_types=["c", "c", "q"], enable_categorical=True)
    booster = xgboost.train({"max_depth": 7, "max_cat_to_onehot": 2, "nthread": 1}, data, 20)
    forest = forest_of(booster, rows.shape[1])
    assert len(forest.members) > 0
    fractions = rows + np.array([0.75, 0.75, 0], np.float32)  # rounded down before use
    want = booster.predict(data, output_margin=True)
    for given in (rows, fractions):
        assert score(program, forest, given, tmp_path).tobytes() == want.tobytes()
