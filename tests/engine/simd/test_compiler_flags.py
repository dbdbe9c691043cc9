"""The C code can't be built with flags that make its scores wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import ranker

SOURCES = Path(ranker.__file__).parent
HEADERS = ["engine/simd/_simd_forest.h", "serving/messages/_ranking.h"]


def built(header: str, *flags: str) -> subprocess.CompletedProcess[str]:
    """The end of a compiler that only looks at the header."""
    compiler = shutil.which("cc")
    if compiler is None or not (SOURCES / header).exists():
        pytest.skip("no compiler, or no sources")
    command = [compiler, "-std=c11", *flags, "-fsyntax-only", "-x", "c", str(SOURCES / header)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-ffinite-math-only"])
@pytest.mark.parametrize("header", HEADERS)
def test_fast_math_is_refused(header, flag):
    ended = built(header, flag)
    assert ended.returncode != 0
    assert "build without -ffast-math" in ended.stderr


@pytest.mark.parametrize("header", HEADERS)
def test_other_flags_are_none_of_its_business(header):
    assert built(header, "-O3").returncode == 0
