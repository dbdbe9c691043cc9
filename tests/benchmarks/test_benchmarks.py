"""Every benchmark is listed, and says what it measures."""

from __future__ import annotations

import importlib
import subprocess
import sys

import pytest
from click.testing import CliRunner

from benchmarks.__main__ import FILES, about


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_without_a_name_all_are_listed():
    done = run()
    assert done.returncode == 0
    for name in FILES:
        assert f"{name:10} {about(name)}" in done.stdout
    assert {"server", "peers", "soak", "engine", "gpu"} <= FILES.keys()


def test_an_unknown_name_is_an_error_that_lists_the_known_ones():
    done = run("sever")
    assert done.returncode == 1
    assert "no benchmark 'sever'" in done.stderr
    assert "server" in done.stdout


@pytest.mark.parametrize("name", FILES)
def test_help_says_what_is_measured(name):
    main = importlib.import_module(f"benchmarks.{name}").main
    done = CliRunner().invoke(main, ["--help"])
    assert done.exit_code == 0
    assert len(about(name)) > 20
    assert about(name)[:40] in done.output
    assert "--json" in done.output
