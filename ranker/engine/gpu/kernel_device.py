"""The GPU kernel on an NVIDIA GPU, through NVIDIA's `cuda.core`.

CuPy would do with as little code, but always compiles with `-ftz=true`, which takes
the smallest numbers for zero: a split at such a threshold would go the wrong way.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranker.engine.api import Rows, Scores
from ranker.engine.gpu.kernel_tables import LEAVES_BYTES, ROWS, WARPS, GpuForest, source

GRANTED_SHARED_BYTES = 48 << 10
"""Shared memory that every block may have; for more a kernel has to ask."""


def unavailable() -> str | None:
    """Why there is no GPU to run a kernel on; None if there is one."""
    try:
        from cuda.core import Device
    except ImportError as error:
        return f"cuda-core is not installed, which the extra gpu brings ({error})"
    try:
        if Device.get_all_devices():
            return None
    except Exception as error:  # whatever a missing or broken driver makes of it
        return f"no usable NVIDIA driver ({error})"
    return "the driver finds no GPU"


class CudaDevice:
    """An NVIDIA GPU with the kernel, compiled for it, and the tables of a forest.

    Args:
        tables: the forest.
        index: which GPU, as CUDA counts.

    Raises:
        Exception: whatever `cuda.core` makes of a GPU that isn't there or can't be used.
    """

    def __init__(self, tables: GpuForest, index: int = 0) -> None:
        from cuda.core import LegacyPinnedMemoryResource, Program, ProgramOptions

        self._index = index
        self._tables = tables
        self._held: list[Any] = []
        self.device = self.make_current()
        self.gpu = str(self.device.pci_bus_id)
        self.pinned = LegacyPinnedMemoryResource()
        options = ProgramOptions(std="c++17", ftz=False, fma=False)
        code = Program(source(), "c++", options).compile("cubin")
        limit = self.device.properties.max_shared_memory_per_block_optin
        self._in_shared = LEAVES_BYTES + self._tables.column_bytes <= limit
        self._shared_bytes = LEAVES_BYTES + self._in_shared * self._tables.column_bytes
        self._kernel = code.get_kernel("score_shared" if self._in_shared else "score_global")
        if self._shared_bytes > GRANTED_SHARED_BYTES:
            self._ask_for_shared_memory()
        self._stream = self.device.create_stream()
        self._forest = self._place(self._tables.place(self._place))

    def make_current(self) -> Any:
        """Makes the GPU this thread's own, as CUDA wants it before most calls."""
        from cuda.core import Device

        device = Device(self._index)
        device.set_current()
        return device

    def make_slot(self, capacity: int) -> CudaSlot:
        """Allocates a slot for so many rows."""
        self.make_current()
        return CudaSlot(self, capacity, self._tables.num_features)

    def lost(self) -> bool:
        """Whether this process can't use the GPU any more.

        After some errors, such as an illegal address, every call but those that
        ask nothing of the GPU gives that error again, until the process ends
        (CUDA driver API, `CUresult`). So it is asked to wait for all of its work.
        """
        try:
            self.make_current().sync()
        except Exception:  # which one: the caller has the error that came first
            return True
        return False

    def allocate(self, size: int) -> Any:
        """Memory of the GPU, as a `Buffer`."""
        buffer = self.device.allocate(size, stream=self._stream)
        self._stream.sync()
        return buffer

    def column_memory(self, capacity: int) -> Any:
        """Memory of the GPU for the columns of so many rows; None if a block's own is enough."""
        blocks = -(-capacity // ROWS)
        return None if self._in_shared else self.allocate(blocks * self._tables.column_bytes)

    def launch(self, stream: Any, rows: int, count: int, scores: int, columns: Any) -> None:
        """Has `count` rows scored; rows and scores are addresses that the GPU can reach."""
        from cuda.core import LaunchConfig, launch

        blocks = -(-count // ROWS)
        config = LaunchConfig(grid=blocks, block=(ROWS, WARPS), shmem_size=self._shared_bytes)
        arguments = [self._forest, rows, np.int32(count), scores]
        if columns is not None:
            arguments.append(int(columns.handle))
        launch(stream, config, self._kernel, *arguments)

    def _ask_for_shared_memory(self) -> None:
        from cuda.bindings import driver

        attribute = driver.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
        [result] = driver.cuKernelSetAttribute(
            attribute, self._shared_bytes, self._kernel.handle, self._index
        )
        if result != driver.CUresult.CUDA_SUCCESS:
            raise RuntimeError(f"{self._shared_bytes} bytes of shared memory: {result.name}")

    def _place(self, array: NDArray[Any]) -> int:
        """Copies an array to the GPU, for good; returns its address there."""
        staged = self.pinned.allocate(array.nbytes)
        host_bytes(staged)[:] = array.reshape(-1).view(np.uint8)
        buffer = self.allocate(array.nbytes)
        buffer.copy_from(staged, stream=self._stream)
        self._stream.sync()
        self._held.append(buffer)
        return int(buffer.handle)


class CudaSlot:
    """Memory for some rows and their scores, and a stream that works on them.

    Rows are copied to the GPU. Scores need no copy: the kernel writes them to the
    host's memory, one line of 128 bytes per block.

    Args:
        device: where to run.
        capacity: how many rows.
        num_features: how wide.
    """

    def __init__(self, device: CudaDevice, capacity: int, num_features: int) -> None:
        from cuda.core import EventOptions

        self._device = device
        self._width = num_features * 4
        self._stream = device.device.create_stream()
        # A thread that waits sleeps: the loop, or another batch, may need its core.
        self._done = device.device.create_event(EventOptions(blocking_sync=True))
        self._host_rows = device.pinned.allocate(capacity * self._width)
        self._host_scores = device.pinned.allocate(capacity * 4)
        self._rows = device.allocate(capacity * self._width)
        self._columns = device.column_memory(capacity)
        self.rows: Rows = (
            host_bytes(self._host_rows).view(np.float32).reshape(capacity, num_features)
        )
        self.scores: Scores = host_bytes(self._host_scores).view(np.float32)

    def start(self, count: int) -> None:
        """Has the first rows copied and scored, and returns at once."""
        from cuda.core import Buffer

        self._device.make_current()
        size = count * self._width
        there = Buffer.from_handle(int(self._rows.handle), size, owner=self._rows)
        here = Buffer.from_handle(int(self._host_rows.handle), size, owner=self._host_rows)
        there.copy_from(here, stream=self._stream)
        rows, scores = int(self._rows.handle), int(self._host_scores.handle)
        self._device.launch(self._stream, rows, count, scores, self._columns)
        self._stream.record(self._done)

    def wait(self) -> None:
        """Waits until what was started is done, and its scores are in `scores`."""
        self._done.sync()


def host_bytes(buffer: Any) -> NDArray[np.uint8]:
    """A pinned `Buffer` as an array; it must be kept as long as the array is."""
    memory = (ctypes.c_uint8 * buffer.size).from_address(int(buffer.handle))
    return np.frombuffer(memory, np.uint8)
