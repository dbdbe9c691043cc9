"""What a model goes through before it serves."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from ranker.serving.batcher import Batch
from ranker.serving.served_model import ServedModel
from tests.serving.lists import a_list

WARM = """
import sys
from types import SimpleNamespace
from ranker.serving.served_model import ServedModel
blocks = []
engine = SimpleNamespace(name="fake", num_features=3, batches_at_once=1, score=blocks.extend)
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


@pytest.mark.parametrize(
    ("most", "features", "rows"),
    [
        pytest.param(16384, 3, 16384, id="narrow"),
        pytest.param(16384, 64, 16384, id="of-64-features"),
        pytest.param(16384, 500, 2097, id="wide"),
        pytest.param(16384, 5000, 1024, id="very-wide"),
        pytest.param(100, 5000, 100, id="no-more-than-asked-for"),
    ],
)
def test_a_batch_of_wide_rows_has_fewer_of_them(most, features, rows):
    """They may have to be laid out, all at once, which takes memory."""
    engine = SimpleNamespace(num_features=features, batches_at_once=1)
    model = SimpleNamespace(name="books", version="7", engine=engine, features=None)
    batcher, batch = ServedModel(model, most, None).batcher, Batch()
    for _ in range(100):
        batcher.add(a_list(200))
    batcher.fill(batch, 0.0)
    assert batch.rows == rows
