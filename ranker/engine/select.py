"""Chooses the engine for a model, and says why it is that one."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path

from ranker.engine import simd
from ranker.engine.api import Engine
from ranker.engine.cuda import CudaEngine
from ranker.engine.onnx import OnnxEngine
from ranker.errors import ModelError, UnsupportedModelError
from ranker.onnx_reader import read_forest
from ranker.onnx_reader.file import read_bytes

_BY_NAME = "it was asked for by name"


def load_engine(
    path: str | PathLike[str], engine: str = "auto", threads: int = 1
) -> tuple[Engine, str]:
    """Loads a model into an engine.

    `auto` takes `simd` where this machine has it and it can represent the model
    exactly, and else `onnx`; it refuses broken trees instead of passing them on.
    An engine asked for by name is never exchanged for another.

    Args:
        path: the ONNX file.
        engine: `auto`, `simd`, `onnx` or `cuda`.
        threads: how many threads may work on one large batch; not for `cuda`.

    Returns:
        The engine, and in one sentence why it is that one.

    Raises:
        ModelError: the file can't be read, is broken, or is not for that engine;
            names the file and says why.
    """
    loader = _LOADERS.get(engine)
    if loader is None:
        raise ModelError(f"engine {engine!r}: expected one of {', '.join(_LOADERS)}")
    try:
        return loader(read_bytes(path), threads)
    except ModelError as error:
        raise type(error)(f"{Path(path).name}: {error.message}") from error


def _load_auto(content: bytes, threads: int) -> tuple[Engine, str]:
    try:
        forest = read_forest(content)
        obstacle = simd.unavailable()
        if obstacle is None:
            return simd.SimdEngine(forest, threads), "simd represents the model exactly"
    except UnsupportedModelError as error:
        obstacle = error.message.removeprefix("engine simd: ")
    return OnnxEngine(content, threads), f"simd can't score the model: {obstacle}"


def _load_simd(content: bytes, threads: int) -> tuple[Engine, str]:
    return simd.SimdEngine(read_forest(content), threads), _BY_NAME


def _load_onnx(content: bytes, threads: int) -> tuple[Engine, str]:
    return OnnxEngine(content, threads), _BY_NAME


def _load_cuda(content: bytes, _threads: int) -> tuple[Engine, str]:
    return CudaEngine(read_forest(content)), _BY_NAME


_LOADERS: dict[str, Callable[[bytes, int], tuple[Engine, str]]] = {
    "auto": _load_auto,
    "simd": _load_simd,
    "onnx": _load_onnx,
    "cuda": _load_cuda,
}
