"""The GPU kernel, compiled for the CPU: the same source, one fiber per CUDA thread."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from numpy.typing import NDArray

import ranker.engine.gpu
from ranker.engine.gpu import kernel_device as cuda_device
from ranker.engine.gpu import kernel_tables as gpu_forest
from ranker.forest import Forest

COMPILER = os.environ.get("CXX") or shutil.which("c++")

SHARED_BYTES = 1 << 18
"""What the stand-in for shared memory has: enough for 1900 columns."""

needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
needs_gpu = pytest.mark.skipif(
    cuda_device.unavailable() is not None, reason=str(cuda_device.unavailable())
)


@cache
def library() -> ctypes.CDLL:
    """The kernel as a library; needs a C++ compiler."""
    assert COMPILER is not None
    built = Path(mkdtemp(prefix="gpu-on-cpu-")) / "kernel.so"
    subprocess.run(
        [
            *(COMPILER, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"),
            *("-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),  # #pragma unroll
            *("-I", str(Path(ranker.engine.gpu.__file__).parent), "-o", str(built)),
            str(Path(__file__).with_name("gpu_forest_on_cpu.cpp")),
        ],
        check=True,
    )
    loaded = ctypes.CDLL(str(built))
    shutil.rmtree(built.parent)
    return loaded


class KernelOnCpu:
    """A forest, scored by the kernel.

    Args:
        forest: what to score with.
        in_global: have the columns in global memory, as if they did not fit shared memory.
        descending: run the threads of a block from the last one to the first.
    """

    def __init__(self, forest: Forest, in_global: bool = False, descending: bool = False) -> None:
        self.tables = gpu_forest.lay_out(forest)
        self._held: list[NDArray] = []
        self._forest = self.tables.place(self._place)
        self._in_global = in_global
        self._descending = descending

    def _place(self, array: NDArray) -> int:
        assert array.flags.c_contiguous
        self._held.append(array)
        return array.ctypes.data

    def score(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores float32 [n, num_features]."""
        in_shared = 0 if self._in_global else self.tables.column_bytes
        assert gpu_forest.LEAVES_BYTES + in_shared <= SHARED_BYTES
        scores = np.full(len(rows) + 1, 77, np.float32)
        blocks = -(-len(rows) // gpu_forest.ROWS)
        columns = np.full(blocks * self.tables.column_bytes // 4, np.nan, np.float32)
        met = library().score(
            ctypes.c_void_p(self._forest.ctypes.data),
            ctypes.c_void_p(np.ascontiguousarray(rows).ctypes.data),
            len(rows),
            ctypes.c_void_p(scores.ctypes.data),
            ctypes.c_void_p(columns.ctypes.data if self._in_global else None),
            int(self._descending),
        )
        assert met == 0, "some threads of a block waited at a barrier that others never reached"
        assert scores[-1] == 77
        return scores[:-1]
