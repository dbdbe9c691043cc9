from __future__ import annotations

import os
import subprocess
import sys

import pytest

IMPORTERS = (
    "ranker.engine.onnx",
    "ranker.engine.gpu.graph_engine",
    "ranker.export",
    "ranker.process.worker",
)


@pytest.mark.parametrize("module", IMPORTERS)
def test_onnxruntime_leaves_no_device_id_behind(module, tmp_path):
    """As its telemetry does on import, unless it is off."""
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    environment.update(HOME=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
