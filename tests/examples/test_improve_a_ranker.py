from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ranker.quality import evaluate
from tests.examples.conftest import EXAMPLES, ROOT

DATA = ROOT.parent / "shared" / "data" / "lambdarank"


@pytest.mark.slow
@pytest.mark.skipif(not DATA.exists(), reason="needs the real data set")
def test_the_whole_way(tmp_path: Path):
    out = tmp_path / "out"
    command = [sys.executable, EXAMPLES / "improve_a_ranker.py", DATA, "--out", out]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "930 lists that shop@1 ranked: 930 the same to the bit" in done.stdout
    assert "stable: 2" in (out / "ranker.yaml").read_text()
    assert (out / "report.html").stat().st_size > 10_000
    found = evaluate(out / "shop-2.onnx", out / "test.csv", baseline=out / "shop-1.onnx")
    assert found["ndcg@10"].difference.value > 0
