"""Models that older versions of XGBoost wrote, against what these versions predicted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ranker.export import export_onnx

MODELS = sorted(
    path for path in (Path(__file__).parent / "data").iterdir() if path.suffix in (".json", ".ubj")
)


@pytest.mark.parametrize("model", [pytest.param(path, id=path.name) for path in MODELS])
def test_scores_are_what_that_version_predicted(model, tmp_path, score):
    version, case = model.stem.split("-")
    expected = np.load(model.with_name(f"{version}.npz"))
    path = tmp_path / "model.onnx"
    export_onnx(model, path)
    np.testing.assert_array_equal(score(path, expected["rows"]), expected[case])


def test_every_version_and_case_is_there():
    versions = ("1.7.6", "2.1.4", "3.0.5", "3.1.3")
    assert {path.stem.split("-")[0] for path in MODELS} == set(versions)
    cases = {path.stem.split("-")[1] for path in MODELS}
    assert len(cases) == 23
    assert len(MODELS) == len(cases) * len(versions) - 1  # quantileerror came after 1.7
