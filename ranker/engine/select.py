"""Chooses the engine for a model, and says why it is that one."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from ranker.engine import gpu, simd
from ranker.engine.api import Engine
from ranker.engine.device import gpu_index, prefer_gpu
from ranker.engine.onnx import OnnxEngine
from ranker.errors import ModelError, UnsupportedModelError
from ranker.onnx_reader import read_forest
from ranker.onnx_reader.file import Source

_BY_NAME = "it was asked for by name"


def load_engine(
    path: str | PathLike[str], engine: str = "auto", threads: int = 1, device: str = "auto"
) -> tuple[Engine, str]:
    """Loads a model into an engine.

    `auto` takes `simd` where this machine has it and it can represent the model
    exactly, and else `onnx`; it refuses broken trees instead of passing them on.
    Where there is a usable GPU, large batches go there, if it is faster. An
    engine or a GPU asked for by name is never exchanged for another.

    Args:
        path: the ONNX file.
        engine: `auto`, `simd`, `onnx` or `cuda`.
        threads: how many threads may work on one large batch; not for `cuda`.
        device: `auto`, `cpu`, `cuda` (the first GPU) or `cuda:N`.

    Returns:
        The engine, and in one sentence why it is that one.

    Raises:
        ModelError: the file can't be read, is broken, or is not for that engine
            and device; names the file and says why.
    """
    if engine not in (*_LOADERS, "cuda"):
        raise ModelError(f"engine {engine!r}: expected one of {', '.join(_LOADERS)}, cuda")
    index = gpu_index(device)
    if engine == "cuda" and device == "cpu":
        raise ModelError("engine cuda runs on a GPU, and device cpu is none")
    if engine in ("simd", "onnx") and index is not None:
        raise ModelError(f"engine {engine} runs on the CPU, and device {device} is a GPU")
    try:
        if engine == "cuda" or index is not None:
            found, which = gpu.load_gpu(read_forest(path), index or 0)
            return found, f"{_BY_NAME}: {which}"
        chosen, reason = _LOADERS[engine](path, threads)
        if engine == device == "auto" and chosen.name == "simd" and gpu.unavailable() is None:
            chosen, where = prefer_gpu(chosen, read_forest(path))
            reason = f"{reason}; {where}"
    except ModelError as error:
        raise type(error)(f"{Path(path).name}: {error.message}") from error
    return chosen, reason


def _load_auto(path: Source, threads: int) -> tuple[Engine, str]:
    try:
        forest = read_forest(path)
        obstacle = simd.unavailable()
        if obstacle is None:
            return simd.SimdEngine(forest, threads), "simd represents the model exactly"
    except UnsupportedModelError as error:
        obstacle = error.message.removeprefix("engine simd: ")
    return OnnxEngine(path, threads), f"simd can't score the model: {obstacle}"


def _load_simd(path: Source, threads: int) -> tuple[Engine, str]:
    return simd.SimdEngine(read_forest(path), threads), _BY_NAME


def _load_onnx(path: Source, threads: int) -> tuple[Engine, str]:
    return OnnxEngine(path, threads), _BY_NAME


_LOADERS: dict[str, Callable[[Source, int], tuple[Engine, str]]] = {
    "auto": _load_auto,
    "simd": _load_simd,
    "onnx": _load_onnx,
}
