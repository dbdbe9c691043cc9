"""Which engine scores on a GPU: the kernel, or where that can't be, the tensor graph."""

from __future__ import annotations

from pathlib import Path

from ranker.engine.api import Engine, LoadedEngine
from ranker.errors import ModelError
from ranker.forest import Forest
from ranker.forest.onnx import OnnxFile, read_forest

DRIVERS = (Path("/dev/nvidiactl"), Path("/dev/dxg"))
"""Where a driver for NVIDIA's GPUs shows itself: on Linux, and on Linux in Windows."""


def unavailable() -> str | None:
    """Why no GPU can be used here, as far as can be told without trying; None if one may.

    Where there is no driver, nothing that is for GPUs is imported to find that out.
    """
    if not any(path.exists() for path in DRIVERS):
        return f"no driver for NVIDIA's GPUs: there is no {' and no '.join(map(str, DRIVERS))}"
    obstacles = _obstacles()
    return None if None in obstacles else "; ".join(map(str, obstacles))


def _obstacles() -> tuple[str | None, str | None]:
    """Why the kernel, and why the graph can't be had."""
    from ranker.engine.gpu import graph_engine, kernel_device

    return kernel_device.unavailable(), graph_engine.unavailable()


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
    from ranker.engine.gpu.graph_engine import CudaEngine
    from ranker.engine.gpu.kernel_device import CudaDevice
    from ranker.engine.gpu.kernel_engine import KernelEngine
    from ranker.engine.gpu.kernel_tables import lay_out

    obstacle, other = _obstacles()
    if obstacle is not None and other is not None:
        raise ModelError(f"engine cuda: {obstacle}; {other}")
    try:
        if obstacle is None:
            tables = lay_out(forest)
            return KernelEngine(CudaDevice(tables, index), tables), "the GPU kernel"
        return CudaEngine(forest, index), f"onnxruntime on the GPU, not the kernel: {obstacle}"
    except ModelError:
        raise
    except Exception as error:  # no such GPU, its memory full: neither library has a base class
        raise ModelError(f"GPU {index} can't be used: {error}") from error
