"""What of the machine may be used: the limits of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ranker.process.machine import is_busy, memory_limit, usable_cores


@pytest.fixture
def groups(tmp_path):
    """Writes what the system would show of control groups; returns where."""

    def groups(membership: str, files: dict[str, str]) -> tuple[Path, Path]:
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n")
        (tmp_path / "membership").write_text(membership)
        return tmp_path / "cgroup", tmp_path / "membership"

    return groups


MEMBERSHIPS = [
    pytest.param("0::/pod/box\n", "pod/", id="v2-around-it"),
    pytest.param("0::/pod/box\n", "pod/box/", id="v2-nested"),
    pytest.param("0::/\n", "", id="v2-in-a-container"),
    pytest.param("0::/host/name\n", "", id="v2-name-of-the-host"),
]


@pytest.mark.parametrize(("membership", "place"), MEMBERSHIPS)
def test_version_2_limits_memory_and_cores(groups, membership, place):
    files = {f"{place}memory.max": "300", f"{place}cpu.max": "12500 100000"}
    places = groups(membership, files)
    assert memory_limit(*places) == 300
    assert usable_cores(*places) == 0.125


def test_the_least_limit_counts(groups):
    places = groups(
        "0::/pod/box\n",
        {"pod/memory.max": "300", "pod/box/memory.max": "200", "pod/cpu.max": "max 100000"},
    )
    assert memory_limit(*places) == 200


def test_version_1_limits_memory(groups):
    files = {"memory/box/memory.limit_in_bytes": "500"}
    assert memory_limit(*groups("5:cpu,memory:/box\n0::/\n", files)) == 500


@pytest.mark.parametrize(
    ("membership", "files"),
    [
        pytest.param("0::/\n", {"memory.max": "max", "cpu.max": "max 100000"}, id="v2"),
        pytest.param("5:memory:/\n", {"memory/memory.limit_in_bytes": str(2**63 - 4096)}, id="v1"),
        pytest.param("", {}, id="no-groups"),
    ],
)
def test_unlimited(groups, membership, files):
    places = groups(membership, files)
    assert 2**20 < memory_limit(*places) < 2**60
    assert usable_cores(*places) >= 1


def test_no_such_files(tmp_path):
    assert memory_limit(tmp_path, tmp_path / "none") > 2**20
    assert usable_cores(tmp_path, tmp_path / "none") >= 1


@pytest.mark.parametrize(("load", "busy"), [(3.9, False), (4.1, True)])
def test_a_machine_is_busy_if_more_want_a_core_than_there_are(monkeypatch, load, busy):
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert is_busy() is busy
