"""A stand-in for NVIDIA's driver, below the real `cuda.core`: a plugin, see `run_tests`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ranker.engine
from ranker.engine.gpu import kernel_engine as kernel
from tests.engine.gpu.gpu_on_cpu import COMPILER


def pytest_configure() -> None:
    """Fits our side to the stand-in: no CUDA runtime, and a launch takes its time."""
    from cuda.core import Device

    # Asks CUDA's runtime, which won't work with a driver that is none.
    Device.pci_bus_id = property(lambda device: f"0000:{device.device_id:02x}:00.0")
    kernel.SLOT_BYTES = 1 << 13


def run_tests(folder: Path, *arguments: str) -> None:
    """Runs tests as if the machine had two GPUs; all must pass, and none be skipped.

    Args:
        folder: where the driver is put.
        arguments: which tests, as pytest takes them.
    """
    assert COMPILER is not None
    subprocess.run(
        [
            *(COMPILER, "-std=c++17", "-O2", "-ffp-contract=off", "-shared", "-fPIC"),
            *("-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"),
            *("-I", str(Path(ranker.engine.__file__).parent), "-o", str(folder / "libcuda.so.1")),
            str(Path(__file__).with_name("cuda_driver.cpp")),
        ],
        check=True,
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", __name__, "-p", "no:cacheprovider", *arguments],
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    report = done.stdout + done.stderr
    assert done.returncode == 0, report
    assert " skipped" not in done.stdout, report
