"""The name, the extras, and what is to be had without them."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

import pytest

import ranker
from ranker import distribution

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
SERVER_ONLY = sorted({module for modules in distribution.MODULES.values() for module in modules})
WITHOUT = f"import sys; sys.modules.update(dict.fromkeys({SERVER_ONLY}));"
"""Begins a program that finds none of what the extras bring, as if it were not installed."""
COMMAND = "from ranker.cli.main import cli; cli(sys.argv[1:], prog_name='ranker')"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_machine_on_which_scores_would_be_wrong_is_refused():
    done = python("import sys; sys.byteorder = 'big'; import ranker")
    assert done.returncode == 1
    assert "expected a little-endian machine, this one is big-endian" in done.stderr


def canonical(requirement: str) -> str:
    """The name in a requirement, as pip compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", requirement)[0]).lower()


def required(extra: str) -> set[str]:
    """The distributions that an extra names, by way of other extras too."""
    names = set()
    for requirement in EXTRAS[extra]:
        own = re.fullmatch(rf"{distribution.NAME}\[(.*)\]", requirement)
        if own:
            names |= {name for other in own[1].split(",") for name in required(other)}
        else:
            names.add(canonical(requirement))
    return names


def test_the_name_is_the_projects():
    assert PROJECT["name"] == distribution.NAME
    assert distribution.version() == PROJECT["version"]


@pytest.mark.parametrize("extra", distribution.MODULES)
def test_an_extra_brings_its_modules_and_the_base_does_not(extra):
    providers = metadata.packages_distributions()
    base = {canonical(requirement) for requirement in PROJECT["dependencies"]}
    for module in distribution.MODULES[extra]:
        names = {canonical(name) for name in providers[module]}
        assert names & required(extra), module
        assert not names & base, module


@pytest.mark.parametrize("extra", ["export", "gcp", "gpu", "quality"])
def test_what_adds_to_the_server_brings_the_server(extra):
    assert required("serve") <= required(extra)


def test_require_is_content_with_what_is_installed():
    for extra in distribution.MODULES:
        distribution.require(extra)


def test_require_names_what_is_missing_and_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setitem(sys.modules, "psutil", None)
    expected = r"^onnx, psutil: not installed; run: pip install 'tree-ranker\[serve\]'$"
    with pytest.raises(distribution.MissingExtraError, match=expected):
        distribution.require("serve")


def test_the_client_imports_nothing_of_the_server():
    loaded = python("import ranker.client, sys; print(*sys.modules)")
    names = {name.split(".")[0] for name in loaded.stdout.split()}
    # grpc itself imports grpc_reflection where that is installed.
    assert names & set(SERVER_ONLY) <= {"grpc_reflection"}
    assert "ranker" in names


def test_the_client_and_its_command_need_nothing_of_the_server():
    assert python(f"{WITHOUT} import ranker.client, ranker.errors").returncode == 0
    for arguments in (["--help"], ["rank", "--help"], ["models", "--help"], ["--version"]):
        done = python(WITHOUT + COMMAND, *arguments)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("extra", "arguments"),
    [
        pytest.param("serve", ["serve", "books.onnx"], id="serve"),
        pytest.param("serve", ["check", "ranker.yaml"], id="check"),
        pytest.param("serve", ["promote", "books", "canary"], id="promote"),
        pytest.param("serve", ["rollback", "books"], id="rollback"),
        pytest.param("export", ["export", sys.executable, "-o", "books.onnx"], id="export"),
    ],
)
def test_a_command_whose_extra_is_missing_is_one_line(extra, arguments):
    done = python(WITHOUT + COMMAND, *arguments)
    modules = ", ".join(distribution.MODULES[extra])
    line = f"Error: {modules}: not installed; run: pip install 'tree-ranker[{extra}]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.parametrize(
    ("name", "extra"), [("Model", "serve"), ("export_onnx", "export")], ids=["Model", "export_onnx"]
)
def test_a_name_whose_extra_is_missing_says_what_to_install(name, extra):
    done = python(f"{WITHOUT} from ranker import {name}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"run: pip install 'tree-ranker[{extra}]'")


def test_the_wire_contract_is_in_the_package():
    packaged = resources.files("ranker.v1") / "ranking.proto"
    assert packaged.read_text() == (ROOT / "protos/ranker/v1/ranking.proto").read_text()


def test_names_of_the_package_are_found():
    assert ranker.Model.__name__ == "Model"
    assert callable(ranker.export_onnx)
    with pytest.raises(AttributeError, match="no attribute 'Modell'"):
        ranker.Modell  # noqa: B018
