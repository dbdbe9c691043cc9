"""The engines by name, and the choice of one for a model.

An engine is one module, named here, with a function `load`; `EngineModule` says
how it is called. Nothing is imported before it is needed: the process that only
reads the command line needs no NumPy.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ranker.errors import ModelError, UnsupportedModelError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from ranker.engine.api import Engine, Explainer, LoadedEngine
    from ranker.engine.simd.explainer import Arrays
    from ranker.engine.simd.layout import Layout
    from ranker.forest import Forest
    from ranker.forest.onnx import OnnxFile

MODULES = {
    "simd": "ranker.engine.simd.engine",
    "onnx": "ranker.engine.onnx",
    "cuda": "ranker.engine.gpu.engine",
}

CHOICES = ("auto", *MODULES)
"""What `--engine` may be."""

_BY_NAME = "it was asked for by name"
_EXACT = "simd represents the model exactly"


class EngineModule(Protocol):
    """What a module that is named in `MODULES` has."""

    def load(self, file: OnnxFile, *, threads: int, gpu: int) -> LoadedEngine:
        """Loads a model into the engine.

        Args:
            file: the model.
            threads: how many threads may work on one large batch.
            gpu: which GPU, as CUDA counts; only for engines that run on one.

        Raises:
            UnsupportedModelError: the engine can't represent the model exactly.
            ModelError: the model is broken, or the engine can't run here; says why.
        """


def load_engine(
    file: OnnxFile, engine: str = "auto", threads: int = 1, device: str = "auto"
) -> LoadedEngine:
    """Loads a model into an engine.

    `auto` takes `simd` where this machine has it and it can represent the model
    exactly, and else `onnx`; it refuses broken trees instead of passing them on.
    Where there is a usable GPU, large batches go there, if it is faster. An
    engine or a GPU asked for by name is never exchanged for another.

    Args:
        file: the model.
        engine: one of `CHOICES`.
        threads: how many threads may work on one large batch; not for `cuda`.
        device: `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.

    Raises:
        ModelError: the model is broken, or is not for that engine and device; says why.
    """
    if engine not in CHOICES:
        raise ModelError(f"engine {engine!r}: expected one of {', '.join(CHOICES)}")
    gpu = gpu_index(device)
    if engine == "cuda" and device == "cpu":
        raise ModelError("engine cuda runs on a GPU, and device cpu is none")
    if engine in ("simd", "onnx") and gpu is not None:
        raise ModelError(f"engine {engine} runs on the CPU, and device {device} is a GPU")
    if gpu is not None:
        engine = "cuda"
    if engine == "auto":
        return _load_best(file, threads, device)

    from ranker.engine.api import LoadedEngine

    found, reason = _module(engine).load(file, threads=threads, gpu=gpu or 0)
    return LoadedEngine(found, f"{_BY_NAME}: {reason}" if reason else _BY_NAME)


class LaidOut(NamedTuple):
    """What processes that take a model over need of its trees.

    Attributes:
        layout: what the simd engine is made of, if `load_engine` would take that engine and no
            other; None if it is another one, or may be.
        reason: why it is this engine; empty if it is not known which one it is.
        explained: what its scores are explained by; or why they can't be.
        ranges: see `ranker.forest.ranges`; None if its trees can't be read.
    """

    layout: Layout | None
    reason: str
    explained: Arrays | str
    ranges: NDArray[np.float32] | None = None


def lay_out(file: OnnxFile, engine: str = "auto", device: str = "auto") -> LaidOut:
    """Lays a model's trees out for other processes.

    Raises:
        ModelError: as `load_engine`.
    """
    from ranker.engine.gpu import engine as gpu
    from ranker.engine.simd import engine as simd
    from ranker.engine.simd.layout import lay_out
    from ranker.forest.onnx import read_forest
    from ranker.forest.ranges import threshold_ranges

    on_gpu = gpu_index(device) is not None or (device == "auto" and gpu.unavailable() is None)
    other = engine not in ("auto", "simd") or on_gpu or simd.unavailable() is not None
    try:
        forest = read_forest(file)
    except ModelError as error:
        unsupported = isinstance(error, UnsupportedModelError)
        if not other and not (unsupported and engine == "auto"):
            raise
        return LaidOut(None, "", f"can't explain its scores: {error.message}")
    explained, ranges = _lay_out_explained(forest), threshold_ranges(forest)
    if other or simd.unsupported(forest) is not None:
        return LaidOut(None, "", explained, ranges)
    return LaidOut(lay_out(forest), _EXACT if engine == "auto" else _BY_NAME, explained, ranges)


def _lay_out_explained(forest: Forest) -> Arrays | str:
    from ranker.engine.simd.explainer import SimdExplainer

    try:
        return SimdExplainer(forest).arrays
    except ModelError as error:
        return error.message


def _load_best(file: OnnxFile, threads: int, device: str) -> LoadedEngine:
    """The fastest engine that scores the model exactly."""
    from ranker.engine.api import LoadedEngine
    from ranker.engine.gpu import engine as gpu
    from ranker.engine.gpu.auto_device import prefer_gpu
    from ranker.engine.simd import engine as simd
    from ranker.forest.onnx import read_forest

    try:
        forest = read_forest(file)
        obstacle = simd.unavailable() or simd.unsupported(forest)
    except UnsupportedModelError as error:
        obstacle = error.message
    if obstacle is not None:
        found, _ = _module("onnx").load(file, threads=threads, gpu=0)
        return LoadedEngine(found, f"simd can't score the model: {obstacle}")
    chosen: Engine = simd.SimdEngine(forest, threads)
    reason = _EXACT
    if device == "auto" and gpu.unavailable() is None:
        chosen, where = prefer_gpu(chosen, forest)
        reason = f"{reason}; {where}"
    return LoadedEngine(chosen, reason)


def load_explainer(file: OnnxFile) -> Explainer:
    """Loads a model to explain its scores, whichever engine computes them.

    Raises:
        UnsupportedModelError: it can't be explained; says why, and what helps.
        ModelError: the model is broken, or explanations can't be had here.
    """
    from ranker.engine.simd.explainer import SimdExplainer
    from ranker.forest.onnx import read_forest

    return SimdExplainer(read_forest(file))


def _module(engine: str) -> EngineModule:
    module: EngineModule = import_module(MODULES[engine])
    return module


def gpu_index(device: str) -> int | None:
    """Which GPU a `--device` names; None for `cpu` and `auto`.

    Raises:
        ModelError: it names nothing: expected `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.
    """
    if device in ("auto", "cpu"):
        return None
    named = re.fullmatch(r"cuda(?::(\d+))?", device)
    if named is None:
        raise ModelError(f"device {device!r}: expected auto, cpu, cuda or cuda:N")
    return int(named[1] or 0)
