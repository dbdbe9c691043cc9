"""The settings for Envoy are ones that it takes; what they do is tested end to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_envoy_takes_the_settings():
    envoy = Path(sys.executable).with_name("envoy")
    command = [envoy, "--mode", "validate", "--config-path", ROOT / "deploy/envoy/envoy.yaml"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower()
