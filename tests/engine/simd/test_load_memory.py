"""Loading a large model takes little more than its file."""

import platform

import numpy as np
import pytest

from benchmarks.load import TREES, in_fresh_process, load_model, perfect, write
from ranker.engine.simd import engine as simd


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="measures /proc and glibc's heap")
def test_loading_takes_at_most_three_times_the_file(tmp_path):
    path, warm = tmp_path / "large.onnx", tmp_path / "small.onnx"
    write(perfect(np.random.default_rng(0), TREES), path)
    write(perfect(np.random.default_rng(0), 2), warm)
    cost = in_fresh_process(load_model, path, warm, by_server=True)
    assert 1 < cost.peak < 3, cost
    assert cost.kept < 1.5, cost
