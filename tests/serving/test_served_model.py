"""What a model goes through before it serves."""

from __future__ import annotations

import subprocess
import sys

import numpy as np

WARM = """
import sys
from types import SimpleNamespace
from ranker.serving.served_model import ServedModel
blocks = []
engine = SimpleNamespace(name="fake", num_features=3, score=blocks.extend)
model = SimpleNamespace(name="books", version="7", engine=engine, features=None)
ServedModel(model, 1024, None).warm()
"""


def test_it_is_warmed_with_rows_that_differ():
    found: dict[str, list[np.ndarray]] = {}
    exec(WARM, found)
    assert {block.shape for block in found["blocks"]} == {(1, 3), (16, 3), (256, 3)}
    for block in found["blocks"]:
        assert block.dtype == np.float32
        assert len(np.unique(block)) == block.size
        assert np.abs(block).max() <= 2


def test_it_is_warmed_without_numpys_generators():
    """They take as long to import as the rest of it takes."""
    code = f"{WARM}\nprint('numpy.random' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
