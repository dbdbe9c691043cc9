"""Which engine scores on a GPU: the kernel, or where that can't be, the tensor graph."""

from __future__ import annotations

from ranker.engine.api import Engine, LoadedEngine
from ranker.engine.gpu import graph_engine as cuda
from ranker.engine.gpu import kernel_device as cuda_device
from ranker.engine.gpu.kernel_engine import KernelEngine
from ranker.engine.gpu.kernel_tables import lay_out
from ranker.errors import ModelError
from ranker.forest import Forest
from ranker.forest.onnx import OnnxFile, read_forest


def unavailable() -> str | None:
    """Why no GPU can be used here, as far as can be told without trying; None if one may."""
    obstacles = cuda_device.unavailable(), cuda.unavailable()
    return None if None in obstacles else "; ".join(map(str, obstacles))


def load(file: OnnxFile, *, threads: int, gpu: int) -> LoadedEngine:  # noqa: ARG001
    """Loads a model; see `EngineModule.load`."""
    return LoadedEngine(*load_gpu(read_forest(file), gpu))


def load_gpu(forest: Forest, index: int = 0) -> tuple[Engine, str]:
    """Loads a forest into the engine `cuda`.

    Args:
        forest: what to score with.
        index: which GPU, as CUDA counts.

    Returns:
        The engine, and in one sentence which one it is and why.

    Raises:
        UnsupportedModelError: the forest can't be represented; says why.
        ModelError: there is no usable GPU; says why.
    """
    obstacle = cuda_device.unavailable()
    if obstacle is not None and cuda.unavailable() is not None:
        raise ModelError(f"engine cuda: {unavailable()}")
    try:
        if obstacle is None:
            tables = lay_out(forest)
            return KernelEngine(cuda_device.CudaDevice(tables, index), tables), "the GPU kernel"
        return cuda.CudaEngine(forest, index), f"onnxruntime on the GPU, not the kernel: {obstacle}"
    except ModelError:
        raise
    except Exception as error:  # no such GPU, its memory full: neither library has a base class
        raise ModelError(f"GPU {index} can't be used: {error}") from error
