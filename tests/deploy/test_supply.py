"""What is installed: locked by hashes, from no named place, audited, and built the same twice."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from deploy import audit

ROOT = Path(__file__).resolve().parents[2]
LOCKS = {path.name: path.read_text() for path in audit.LOCKS}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def pinned(name: str) -> dict[str, str]:
    found = re.findall(r"^([\w.-]+)==([^ \\\n]+)", LOCKS[name], re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", package).lower(): version for package, version in found}


@pytest.mark.parametrize("name", LOCKS)
def test_each_package_has_a_version_and_hashes_and_no_place(name):
    entries = re.split(r"\n(?=\S)", LOCKS[name])
    assert len(entries) > 20
    for entry in entries:
        if not entry.startswith("#"):
            assert re.fullmatch(
                r"[\w.-]+(\[[\w,-]+\])?==\S+( ; [^\\]*?)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n?",
                entry,
            ), entry
    assert not re.search(r"://|^-", LOCKS[name], re.MULTILINE)


def test_the_constraints_are_the_versions_of_the_lock():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert dict(line.split("==") for line in lines) == pinned("requirements-dev.txt")


def test_the_images_have_the_versions_of_the_tests():
    for name in ("requirements.txt", "requirements-gpu.txt"):
        versions = pinned("requirements-dev.txt")
        assert {k: v for k, v in pinned(name).items() if versions.get(k, v) != v} == {}
    assert pinned("requirements.txt").items() <= pinned("requirements-gpu.txt").items()


def test_the_lock_has_what_the_project_names():
    extras = PROJECT["project"]["optional-dependencies"]
    names = {
        re.sub(r"[-_.]+", "-", re.split(r"[\[<>=!~; ]", each)[0]).lower()
        for requirements in (PROJECT["project"]["dependencies"], *extras.values())
        for each in requirements
    }
    everywhere = pinned("requirements-dev.txt").keys() | pinned("requirements-gpu.txt").keys()
    assert names - everywhere == {"tree-ranker"}


@pytest.mark.parametrize(
    ("package", "bad", "unknown"),
    [
        pytest.param({"name": "a", "version": "1", "vulns": []}, [], [], id="sound"),
        pytest.param(
            {"name": "a", "version": "1", "vulns": [{"id": "X-1", "fix_versions": ["2"]}]},
            ["a 1: X-1, fixed in 2"],
            [],
            id="vulnerable",
        ),
        pytest.param({"name": "a", "skip_reason": "not found"}, [], ["a"], id="not-looked-up"),
    ],
)
def test_what_was_not_looked_up_is_not_taken_for_sound(package, bad, unknown):
    assert audit.judge([package]) == (bad, unknown)


def test_the_first_of_a_lock_is_whole():
    first = audit.first_of(audit.LOCKS[0])
    assert LOCKS["requirements-dev.txt"].count(first) == 1
    assert first.count("==") == 1
    assert "--hash" in first


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_builds_are_one_wheel(tmp_path):
    digests = set()
    for name in ("one", "another"):
        source = tmp_path / name
        tracked = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.split("\0")
        for path in filter(None, tracked):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
        command = ("make", "wheel", f"VENV={Path(sys.executable).parents[1]}", "READY=")
        environment = {**os.environ, "SOURCE_DATE_EPOCH": "1764288000"}
        subprocess.run(command, cwd=source, env=environment, check=True, capture_output=True)
        [wheel] = (source / "dist").glob("*.whl")
        extensions = [name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".so")]
        assert len(extensions) == 2
        digests.add(hashlib.sha256(wheel.read_bytes()).hexdigest())
    assert len(digests) == 1
