"""Which engine a model gets, and the reason that is given."""

from pathlib import Path

import numpy as np
import pytest

from ranker.engine.gpu import auto_device as device
from ranker.engine.gpu import engine as gpu
from ranker.engine.gpu.graph_engine import CPU_PROVIDER, TensorEngine
from ranker.engine.registry import load_engine
from ranker.engine.simd import engine as simd
from ranker.errors import ModelError
from ranker.forest.onnx import OnnxFile

READER = Path(__file__).parents[1] / "forest" / "onnx" / "data"
CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
TREES = READER / "xgboost_regressor.onnx"
EXPONENT = READER / "lightgbm_poisson.onnx"
SIGMOID = CORPUS / "sound_surrounded"
BROKEN = CORPUS / "attribute_names_of_no_utf8"

needs_simd = pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))


@pytest.fixture
def no_simd(monkeypatch):
    """A machine where the extension was not built."""
    monkeypatch.setattr(simd, "_extension", None)
    monkeypatch.setattr(simd, "_why", "the C extension was not built: no compiler")


def scores_of(engine):
    scores = np.load(READER / "scores.npz")
    return engine.score([scores["rows_with_missing"]]), scores["xgboost_regressor"]


@needs_simd
def test_auto_takes_simd_where_it_is_exact():
    engine, reason = load_engine(OnnxFile.read(TREES), device="cpu")
    assert (engine.name, reason) == ("simd", "simd represents the model exactly")
    np.testing.assert_array_equal(*scores_of(engine))


@needs_simd
@pytest.mark.parametrize(
    ("path", "why"),
    [
        pytest.param(EXPONENT, "operator 'Exp'", id="the-file-is-more-than-trees"),
        pytest.param(SIGMOID, "logistic", id="the-kernel-refuses"),
    ],
)
def test_auto_falls_back_with_the_reason(path, why):
    engine, reason = load_engine(OnnxFile.read(path), "auto")
    assert engine.name == "onnx"
    assert reason.startswith("simd can't score the model: ")
    assert why in reason


@pytest.mark.usefixtures("no_simd")
def test_auto_without_the_extension():
    engine, reason = load_engine(OnnxFile.read(TREES), "auto")
    assert engine.name == "onnx"
    assert reason == ("simd can't score the model: the C extension was not built: no compiler")
    np.testing.assert_array_equal(*scores_of(engine))


@pytest.mark.usefixtures("no_simd")
def test_broken_trees_are_refused_without_the_extension_too():
    with pytest.raises(ModelError, match="unknown attribute"):
        load_engine(OnnxFile.read(BROKEN), "auto")


@needs_simd
@pytest.mark.parametrize("name", ["simd", "onnx"])
def test_by_name(name):
    engine, reason = load_engine(OnnxFile.read(TREES), name)
    assert (engine.name, reason) == (name, "it was asked for by name")
    np.testing.assert_array_equal(*scores_of(engine))


@pytest.mark.usefixtures("no_simd")
def test_simd_by_name_is_never_exchanged():
    with pytest.raises(ModelError, match=r"^engine simd: .* not built"):
        load_engine(OnnxFile.read(TREES), "simd")


@needs_simd
def test_simd_by_name_says_what_it_can_not_represent():
    with pytest.raises(ModelError, match=r"operator 'Exp'"):
        load_engine(OnnxFile.read(EXPONENT), "simd")


@needs_simd
def test_a_path_that_the_machine_lacks_is_no_reason_to_fall_back(monkeypatch):
    monkeypatch.setenv(simd.PATH_VARIABLE, "abacus")
    with pytest.raises(ModelError, match="RANKER_SIMD=abacus"):
        load_engine(OnnxFile.read(TREES), "auto")


@pytest.mark.skipif(gpu.unavailable() is None, reason="this machine may have a GPU")
def test_cuda_by_name_is_never_exchanged():
    with pytest.raises(ModelError, match=r"^engine cuda: "):
        load_engine(OnnxFile.read(TREES), "cuda")


def test_unknown_engine():
    with pytest.raises(ModelError, match="engine 'gpu': expected one of auto, simd, onnx, cuda"):
        load_engine(OnnxFile.read(TREES), "gpu")


@pytest.mark.parametrize(
    ("engine", "device", "words"),
    [
        pytest.param("auto", "gpu", "expected auto, cpu, cuda or cuda:N", id="unknown-device"),
        pytest.param("cuda", "cpu", "device cpu is none", id="cuda-on-the-cpu"),
        pytest.param("simd", "cuda:1", "device cuda:1 is a GPU", id="simd-on-a-gpu"),
        pytest.param("onnx", "cuda", "device cuda is a GPU", id="onnx-on-a-gpu"),
    ],
)
def test_a_device_that_does_not_suit_the_engine(engine, device, words):
    with pytest.raises(ModelError, match=words):
        load_engine(OnnxFile.read(TREES), engine, device=device)


@pytest.mark.skipif(gpu.unavailable() is None, reason="this machine may have a GPU")
def test_a_gpu_by_name_is_never_exchanged():
    with pytest.raises(ModelError, match="without CUDAExecutionProvider"):
        load_engine(OnnxFile.read(TREES), "auto", device="cuda")


@pytest.fixture
def gpus(monkeypatch):
    """Stands in for GPUs, which score with the tensor graph on the CPU; which were asked for."""
    asked = []

    def load_gpu(forest, index=0):
        asked.append(index)
        return TensorEngine(forest, CPU_PROVIDER, 128), f"GPU {index}"

    monkeypatch.setattr(gpu, "unavailable", lambda: None)
    for module in (gpu, device):
        monkeypatch.setattr(module, "load_gpu", load_gpu)
    monkeypatch.setattr(device, "crossover", lambda *_: 32)
    return asked


@pytest.mark.parametrize(
    ("engine", "where", "index"),
    [
        pytest.param("auto", "cuda", 0, id="the-first"),
        pytest.param("auto", "cuda:2", 2, id="another"),
        pytest.param("cuda", "auto", 0, id="by-the-engines-name"),
        pytest.param("cuda", "cuda:1", 1, id="by-both-names"),
    ],
)
def test_a_gpu_by_name_scores_everything(gpus, engine, where, index):
    found, reason = load_engine(OnnxFile.read(TREES), engine, device=where)
    assert (found.name, reason) == ("tensor", f"it was asked for by name: GPU {index}")
    assert gpus == [index]
    np.testing.assert_array_equal(*scores_of(found))


@needs_simd
def test_auto_sends_large_batches_to_a_gpu(gpus):
    engine, reason = load_engine(OnnxFile.read(TREES))
    assert engine.name == "simd+tensor"
    assert reason == "simd represents the model exactly; simd below 32 rows, from there on GPU 0"
    assert gpus == [0]
    np.testing.assert_array_equal(*scores_of(engine))


@needs_simd
@pytest.mark.parametrize(
    ("engine", "where"), [("auto", "cpu"), ("simd", "auto"), ("simd", "cpu"), ("onnx", "auto")]
)
def test_a_gpu_is_left_alone_unless_it_may_be_used(gpus, engine, where):
    found, _ = load_engine(OnnxFile.read(TREES), engine, device=where)
    assert found.name == ("simd" if engine == "auto" else engine)
    assert gpus == []
