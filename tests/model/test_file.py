"""A model's file, read once: its names, its digest, and errors that name it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import onnx
import pytest

from ranker.engine.simd import engine as simd
from ranker.errors import ModelError
from ranker.model import Model, ModelFile

DATA = Path(__file__).parents[1] / "forest" / "onnx" / "data"
TREES = DATA / "xgboost_regressor.onnx"
EXPONENT = DATA / "lightgbm_poisson.onnx"

needs_simd = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))


def test_a_file_without_names_is_called_after_itself():
    file = ModelFile.read(TREES)
    assert (file.name, file.version) == ("xgboost_regressor", "1")


@pytest.mark.parametrize(
    ("filename", "name"),
    [
        pytest.param("books.v2.onnx", "books.v2", id="dots"),
        pytest.param("my books (1).onnx", "my_books_1", id="spaces"),
        pytest.param("Bücher.onnx", "B_cher", id="beyond-ascii"),
        pytest.param("._hidden.onnx", "hidden", id="hidden"),
        pytest.param("本.onnx", "model", id="nothing-left"),
        pytest.param("b" * 200 + ".onnx", "b" * 128, id="long"),
    ],
)
def test_a_file_that_is_named_oddly_is_served_under_what_a_name_may_hold(filename, name, tmp_path):
    path = tmp_path / filename
    path.write_bytes(TREES.read_bytes())
    assert Model.load(path).name == name


@pytest.mark.parametrize("field", ["name", "version"])
def test_a_name_in_the_file_that_is_none_is_refused(field, tmp_path):
    proto = onnx.load(TREES)
    onnx.helper.set_model_props(proto, {f"ranker.{field}": '"a b/c"'})
    onnx.save(proto, tmp_path / "model.onnx")
    with pytest.raises(ModelError, match=rf"^model\.onnx: {field} 'a b/c': expected 1 to 128"):
        Model.load(tmp_path / "model.onnx")


def test_the_digest_is_that_of_the_bytes():
    assert Model.load(TREES).digest == hashlib.sha256(TREES.read_bytes()).hexdigest()


def test_what_was_read_is_what_is_loaded(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(TREES.read_bytes())
    file = ModelFile.read(path)
    path.write_bytes(b"another model by now")
    model = Model.of(file)
    assert model.digest == file.digest
    assert model.features.num_features == Model.load(TREES).features.num_features


@pytest.mark.parametrize("engine", ["auto", "simd", "onnx"])
def test_missing_file(engine, tmp_path):
    with pytest.raises(ModelError, match=r"^absent\.onnx: can't be read"):
        Model.load(tmp_path / "absent.onnx", engine)


@needs_simd
def test_an_engines_refusal_names_the_file():
    with pytest.raises(ModelError, match=r"^lightgbm_poisson\.onnx: .*operator 'Exp'"):
        Model.load(EXPONENT, "simd")
