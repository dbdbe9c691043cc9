"""Loading a large model takes little more than its file."""

import platform
from pathlib import Path

import pytest

from benchmarks.load import TREES, in_fresh_process, load_model, write
from ranker.engine.simd import engine as simd
from ranker.process.heap import return_freed_arrays


def load_as_a_server_does(path: Path) -> object:
    return_freed_arrays()
    return load_model(path)


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="measures /proc and glibc's heap")
def test_loading_takes_at_most_three_times_the_file(tmp_path):
    path, warm = tmp_path / "large.onnx", tmp_path / "small.onnx"
    write("perfect", TREES, path)
    write("perfect", 2, warm)
    cost = in_fresh_process(load_as_a_server_does, path, warm, heap="")
    assert 1 < cost.peak < 3, cost
    assert cost.kept < 1.5, cost
