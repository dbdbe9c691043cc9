from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HADOLINT = Path(sys.executable).with_name("hadolint")


def lint(text: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([HADOLINT, "-"], input=text, capture_output=True, text=True)


def test_hadolint_has_nothing_to_say():
    done = lint((ROOT / "Dockerfile").read_text())
    assert (done.returncode, done.stdout) == (0, "")


def test_hadolint_would():
    done = lint((ROOT / "Dockerfile").read_text() + "\nENTRYPOINT ranker serve\n")
    assert done.returncode == 1
    assert "DL3025" in done.stdout


def test_bases_are_named_by_digest():
    text = (ROOT / "Dockerfile").read_text()
    bases = dict(re.findall(r"^ARG (\w*BASE)=(.*)$", text, re.MULTILINE))
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    begins_from = set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) - set(stages)
    assert begins_from == {f"${{{name}}}" for name in bases}
    for base in bases.values():
        assert re.fullmatch(r"\S+:3\.\d+-\S+@sha256:[0-9a-f]{64}", base)


@pytest.mark.parametrize("script", ["base.sh", "build.sh"])
def test_scripts_are_sound_shell(script):
    path = ROOT / "deploy/image" / script
    subprocess.run(["sh", "-n", path], check=True)
    assert path.stat().st_mode & 0o111
