"""Files that are no ONNX files: each is told by its content, in one line that says what to do."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import re
from pathlib import Path

import joblib
import numpy as np
import pytest
import xgboost as xgb

from ranker.errors import ModelError
from ranker.export import export_onnx
from ranker.model import Model

TREES = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"
ROWS = np.random.default_rng(0).normal(size=(60, 2))
ESTIMATOR = xgb.XGBRegressor(n_estimators=2, max_depth=2).fit(ROWS, ROWS[:, 0])
BOOSTER = ESTIMATOR.get_booster()
JSON = bytes(BOOSTER.save_raw("json"))
UBJ = bytes(BOOSTER.save_raw("ubj"))


def joblibs(compress) -> bytes:
    file = io.BytesIO()
    joblib.dump(ESTIMATOR, file, compress=compress)
    return file.getvalue()


XGBOOST = [
    pytest.param(UBJ, id="ubj"),
    pytest.param(JSON, id="json"),
    pytest.param(json.dumps(json.loads(JSON), indent=2).encode(), id="json-indented"),
    pytest.param(json.dumps(dict(reversed(json.loads(JSON).items()))).encode(), id="json-reversed"),
]
PICKLES = [
    *(
        pytest.param(pickle.dumps(ESTIMATOR, protocol), id=f"pickle-{protocol}")
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
    pytest.param(joblibs(0), id="joblib"),
    *(pytest.param(joblibs((c, 3)), id=c) for c in ("zlib", "gzip", "bz2", "lzma", "xz")),
]
OTHERS = [
    pytest.param(
        b"tree\nversion=v4\nnum_class=1\n", r"a LightGBM model: .*convert_lightgbm", id="lightgbm"
    ),
    pytest.param(
        b'{"name": "tree", "version": "v4", "num_class": 1',
        r"a LightGBM model: .*convert_lightgbm",
        id="lightgbm-json",
    ),
    pytest.param(
        b"CBM10\x19\0\0\x10\0\0\0", r"a CatBoost model: .*save_model.*'onnx'", id="catboost"
    ),
    pytest.param(
        b'{\n  "features_info":\n    {\n', r"a CatBoost model: .*save_model", id="catboost-json"
    ),
    pytest.param(
        b"binf\0\0\0\x3f\3\0\0\0",
        r"binary format of before version 3\.1: .*save_model",
        id="binary",
    ),
    pytest.param(
        ("booster[0]:\n" + BOOSTER.get_dump()[0]).encode(),
        r"a text dump of XGBoost's.*rounded",
        id="dump",
    ),
    pytest.param(b'[\n  { "nodeid": 0, "depth": 0', r"a text dump of XGBoost's", id="dump-in-json"),
    pytest.param(gzip.compress(UBJ), r"a compressed file: unpack it", id="compressed"),
    pytest.param(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:", r"git lfs pull", id="git-lfs"
    ),
]


@pytest.fixture(params=["model.onnx", "model.ubj"])
def file(request, tmp_path):
    """A file whose suffix says nothing of what is in it."""
    return tmp_path / request.param


def refusal(action, file, content) -> str:
    file.write_bytes(content)
    with pytest.raises(ModelError) as error:
        action(file)
    assert "\n" not in error.value.message
    return error.value.message


def export(file):
    export_onnx(file, file.with_name("new.onnx"))


@pytest.mark.parametrize("content", XGBOOST)
def test_an_xgboost_file_is_to_be_exported_first(content, file):
    message = refusal(Model.load, file, content)
    command = f"ranker export {file} -o {file.with_suffix('.onnx')}"
    assert message == f"{file.name}: an XGBoost model: export it first, {command}"


@pytest.mark.parametrize("content", PICKLES)
@pytest.mark.parametrize("action", [Model.load, export])
def test_a_pickle_is_to_be_loaded_in_python(content, action, file):
    message = refusal(action, file, content)
    call = "ranker.export_onnx(model, 'model.onnx')"
    assert message.endswith(f": a pickle or joblib file: load it in Python and call {call}")


@pytest.mark.parametrize(("content", "words"), OTHERS)
@pytest.mark.parametrize("action", [Model.load, export])
def test_other_formats_say_which_path_works(content, words, action, file):
    assert re.search(rf"{file.name}: .*{words}", refusal(action, file, content))


def test_an_onnx_file_is_served_and_not_exported(file):
    message = refusal(export, file, TREES.read_bytes())
    assert message.endswith(f"an ONNX file: serve it as it is, ranker serve {file}")


def test_a_path_with_a_space_is_quoted(tmp_path):
    message = refusal(Model.load, tmp_path / "my books.ubj", UBJ)
    assert f"ranker export '{tmp_path}/my books.ubj' -o '{tmp_path}/my books.onnx'" in message


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(b"BZh9" + b"\xff" * 100, id="no-bzip2"),
        pytest.param(b"\xfd7zXZ\0" + b"\xff" * 100, id="no-xz"),
        pytest.param(b"x\x9c" + b"\xff" * 100, id="no-zlib"),
        pytest.param(b'{"books": []}', id="other-json"),
    ],
)
def test_what_is_not_known_is_called_so(content, file):
    assert "not an ONNX file, or a truncated one" in refusal(Model.load, file, content)


def test_a_truncated_onnx_file_is_called_so(file):
    assert "not an ONNX file, or a truncated one" in refusal(
        Model.load, file, TREES.read_bytes()[:-100]
    )


@pytest.mark.parametrize(
    ("package", "advice"),
    [
        pytest.param("lightgbm.sklearn", "onnxmltools", id="lightgbm"),
        pytest.param("catboost.core", "save_model", id="catboost"),
    ],
)
def test_an_estimator_of_another_library_says_which_path_works(package, advice, tmp_path):
    estimator = type("Ranker", (), {"__module__": package})()
    with pytest.raises(ModelError, match=f"got Ranker, a .* model: .*{advice}"):
        export_onnx(estimator, tmp_path / "model.onnx")
