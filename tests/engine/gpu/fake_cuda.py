"""A stand-in for `cuda.core` whose GPU is the CPU: memory is memory, a launch runs the kernel.

It has what `kernel_device.py` uses, with the arguments that the real package takes, and
does nothing before a stream is waited for: what a stream was asked for runs then.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tests.engine.gpu.gpu_on_cpu import library


class Buffer:
    def __init__(self, size: int, handle: int = 0, owner: Buffer | None = None) -> None:
        self.size = size
        self._memory = owner or (ctypes.c_uint8 * size)(*[0xFF] * min(size, 64))
        self.handle = handle or ctypes.addressof(self._memory)

    @staticmethod
    def from_handle(ptr: int, size: int, mr: object = None, owner: object = None) -> Buffer:
        assert mr is None
        assert isinstance(owner, Buffer)
        assert (ptr, size <= owner.size) == (owner.handle, True)
        return Buffer(size, ptr, owner)

    def copy_from(self, src: Buffer, *, stream: Stream) -> None:
        assert src.size == self.size
        stream.later(lambda: ctypes.memmove(self.handle, src.handle, self.size))


class Stream:
    def __init__(self) -> None:
        self._asked: list[Callable[[], object]] = []

    def later(self, work: Callable[[], object]) -> None:
        assert FakeCuda.current is not None
        self._asked.append(work)

    def sync(self) -> None:
        asked, self._asked = self._asked, []
        for work in asked:
            work()

    def record(self, event: Event) -> None:
        event.stream = self


class Event:
    stream: Stream

    def sync(self) -> None:
        self.stream.sync()


class FakeCuda:
    """The machine: how many GPUs, what they can do, and what was asked of them."""

    current: int | None = None

    def __init__(self, gpus: int = 1, shared_memory: int = 227 << 10) -> None:
        self.gpus = gpus
        self.shared_memory = shared_memory
        self.options: dict[str, object] = {}
        self.kernels: list[str] = []
        self.granted = 48 << 10
        self.grids: list[int] = []
        self.error = ""  # given by whatever is asked of the GPU, once it is set
        FakeCuda.current = None

    def install(self, monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
        monkeypatch.setattr("ranker.engine.gpu.engine.DRIVERS", (Path(os.devnull),))
        core, bindings, cuda = map(ModuleType, ("cuda.core", "cuda.bindings", "cuda"))
        vars(core).update(
            Buffer=Buffer,
            Device=self._device_class(),
            EventOptions=lambda blocking_sync: SimpleNamespace(blocking_sync=blocking_sync),
            LaunchConfig=lambda grid, block, shmem_size: SimpleNamespace(
                grid=grid, block=block, shmem_size=shmem_size
            ),
            LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=Buffer),
            Program=self._program,
            ProgramOptions=lambda **options: options,
            launch=self._launch,
        )
        vars(bindings).update(
            driver=SimpleNamespace(
                CUfunction_attribute=SimpleNamespace(
                    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES=8
                ),
                CUresult=SimpleNamespace(CUDA_SUCCESS=SimpleNamespace(name="CUDA_SUCCESS")),
                cuKernelSetAttribute=self._set_attribute,
            )
        )
        self.driver = bindings.driver
        for module in (core, bindings, cuda):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return self

    def _device_class(self) -> type:
        fake = self

        class Device:
            def __init__(self, index: int) -> None:
                self._index = index
                self.pci_bus_id = f"0000:{index:02x}:00.0"
                self.properties = SimpleNamespace(
                    max_shared_memory_per_block_optin=fake.shared_memory,
                    multiprocessor_count=132,
                    clock_rate=1_980_000,
                )

            @staticmethod
            def get_all_devices() -> tuple[Device, ...]:
                return tuple(map(Device, range(fake.gpus)))

            def set_current(self) -> None:
                if self._index >= fake.gpus:
                    raise RuntimeError("CUDA_ERROR_INVALID_DEVICE")
                FakeCuda.current = self._index

            def sync(self) -> None:
                if fake.error:
                    raise RuntimeError(fake.error)

            def create_stream(self) -> Stream:
                return Stream()

            def create_event(self, options: SimpleNamespace) -> Event:
                assert options.blocking_sync
                return Event()

            def allocate(self, size: int, *, stream: Stream) -> Buffer:
                assert isinstance(stream, Stream)
                assert size > 0
                return Buffer(size)

        return Device

    def _program(self, code: str, code_type: str, options: dict[str, object]) -> SimpleNamespace:
        assert "score_shared" in code
        assert code_type == "c++"
        self.options = options

        def get_kernel(name: str) -> SimpleNamespace:
            self.kernels.append(name)
            return SimpleNamespace(handle=name, name=name)

        def compile_(kind: str) -> SimpleNamespace:
            assert kind == "cubin"
            return SimpleNamespace(get_kernel=get_kernel)

        return SimpleNamespace(compile=compile_)

    def _set_attribute(self, attribute: int, value: int, kernel: str, device: int) -> tuple:
        assert (attribute, kernel, device) == (8, self.kernels[-1], FakeCuda.current)
        self.granted = value
        return (self.driver.CUresult.CUDA_SUCCESS,)

    def _launch(self, stream: Stream, config: SimpleNamespace, kernel: SimpleNamespace, *args):
        assert config.shmem_size <= min(self.granted, self.shared_memory)
        assert config.block == (32, 16)
        self.grids.append(config.grid)
        if self.error:
            raise RuntimeError(self.error)
        forest, rows, count, scores, *columns = args
        assert type(count) is np.int32  # a plain int would be passed as an address
        assert len(columns) == (kernel.name == "score_global")
        pointers = [ctypes.c_void_p(address) for address in (forest, rows, scores)]
        stream.later(
            lambda: library().score(
                *pointers[:2], int(count), pointers[2], ctypes.c_void_p(*columns or [None]), 0
            )
        )
