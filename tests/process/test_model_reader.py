"""The process that reads models: what it says of wrong ones, how nice it is, how long it stays."""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import xgboost as xgb

from ranker.export import export_onnx
from ranker.process import model_reader
from ranker.process.child import Child
from ranker.process.model_reader import (
    KEEP_SECONDS,
    NICENESS,
    STARVED_SECONDS,
    ModelReader,
)
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted, WantedModel
from tests.waiting import wait_until

NAMES = [f"feature_{number}" for number in range(4)]


@pytest.fixture(scope="module")
def booster() -> xgb.Booster:
    rows = np.random.default_rng(2).normal(size=(40, len(NAMES)))
    train = xgb.DMatrix(rows, np.arange(40) % 3, feature_names=NAMES)
    return xgb.train({"max_depth": 2}, train, 2)


def read(reader: ModelReader, wanted: Wanted, known: Collection[str] = ()) -> str | None:
    """Why the models can't be served; None if they can."""
    reader.begin(wanted, known)
    wait_for(reader)
    return reader.failure


def wait_for(reader: ModelReader) -> None:
    wait_until(reader.look)
    assert not reader.reading


def failure(path: Path, **settings: object) -> str | None:
    reader = ModelReader(Settings((str(path),), device="cpu", **settings))
    try:
        return read(reader, Wanted((WantedModel(str(path)),)))
    finally:
        reader.close()


def process_of(reader: ModelReader) -> psutil.Process | None:
    return None if reader._child is None else psutil.Process(reader._child.pid)


@pytest.mark.parametrize(
    ("filename", "advice"),
    [
        pytest.param("books.ubj", "ranker export {path} -o {folder}/books.onnx", id="xgboost"),
        pytest.param("books.pkl", "ranker.export_onnx(model, 'model.onnx')", id="pickle"),
        pytest.param("absent.onnx", "can't be read: No such file or directory", id="absent"),
        pytest.param("empty.onnx", "no IR version or no operators in it", id="empty"),
        pytest.param("text.onnx", "or a truncated one: protobuf can't parse it", id="text"),
    ],
)
def test_of_what_is_no_onnx_file_it_says_what_to_do(booster, tmp_path, filename, advice):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_bytes(b"not a model" * 50)
    booster.save_model(tmp_path / "books.ubj")
    (tmp_path / "books.pkl").write_bytes(pickle.dumps(booster))
    path = tmp_path / filename
    said = failure(path)
    assert said is not None
    assert said.startswith(f"{filename}: ")
    assert said.endswith(advice.format(path=path, folder=tmp_path))
    assert "\n" not in said


def test_a_feature_to_leave_out_of_the_log_is_one_of_the_model(booster, tmp_path):
    path = tmp_path / "books.onnx"
    export_onnx(booster, path, name="books", version="7")
    log = str(tmp_path / "log")
    assert failure(path, log_rankings=log, log_exclude_feature=("feature_3",)) is None
    misspelt = failure(path, log_rankings=log, log_exclude_feature=("featur_3",))
    assert misspelt is not None
    assert misspelt.startswith(
        "--log-exclude-feature: no feature 'featur_3' (did you mean 'feature_3'?) in books@7"
    )


def kill(process: psutil.Process) -> None:
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it is the reader's to be heard of


@pytest.fixture
def reader() -> Iterator[ModelReader]:
    reader = ModelReader(Settings(models=()))
    yield reader
    reader.close()


SERVED = ("books@1@00",)
"""A model that workers serve."""


def test_with_nobody_to_disturb_it_is_as_fast_as_it_can_be(reader):
    reader.begin(Wanted(()), ())
    process = process_of(reader)
    assert process is not None
    assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
    assert process.nice() == psutil.Process().nice()


def test_beside_workers_that_serve_it_takes_what_they_leave(reader, monkeypatch):
    monkeypatch.setattr(model_reader, "is_busy", lambda: False)
    reader.begin(Wanted(()), SERVED)
    process = process_of(reader)
    assert process is not None
    assert os.sched_getscheduler(process.pid) == os.SCHED_IDLE


def test_on_a_busy_machine_they_leave_nothing(reader, monkeypatch):
    monkeypatch.setattr(model_reader, "is_busy", lambda: True)
    reader.begin(Wanted(()), SERVED)
    process = process_of(reader)
    assert process is not None
    assert os.sched_getscheduler(process.pid) == os.SCHED_OTHER
    assert process.nice() == psutil.Process().nice() + NICENESS


def test_where_that_is_nothing_another_one_takes_its_share(reader, booster, tmp_path, monkeypatch):
    monkeypatch.setattr(model_reader, "is_busy", lambda: False)
    waited = iter([0.0, 1.0, STARVED_SECONDS + 0.1])
    monkeypatch.setattr(Child, "seconds_without_core", lambda _: next(waited, 0.0))
    export_onnx(booster, tmp_path / "books.onnx", name="books", version="7")
    reader.begin(Wanted((WantedModel(str(tmp_path / "books.onnx")),)), SERVED)
    first = process_of(reader)
    assert first is not None
    first.suspend()  # until it is to be replaced
    assert not reader.look()
    assert process_of(reader) == first
    assert not reader.look()
    second = process_of(reader)
    assert second not in (None, first)
    assert os.sched_getscheduler(second.pid) == os.SCHED_OTHER
    assert second.nice() == psutil.Process().nice() + NICENESS
    wait_for(reader)
    assert reader.failure is None
    assert [model.name for model in reader.models] == ["books"]


def test_a_system_that_does_not_let_it_be_idle_has_it_be_nice(reader, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(model_reader, "is_busy", lambda: False)
    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    reader.begin(Wanted(()), SERVED)
    process = process_of(reader)
    assert process is not None
    assert process.nice() == psutil.Process().nice() + NICENESS


def test_what_has_read_the_first_models_ends(reader):
    """It is not nice, and may have no work ever after."""
    assert read(reader, Wanted(())) is None
    assert process_of(reader) is None


def test_it_stays_for_the_next_models_but_not_for_ever(reader, booster, tmp_path, monkeypatch):
    for version in ("7", "8"):
        export_onnx(booster, tmp_path / f"{version}.onnx", name="books", version=version)
    processes = set()
    for version in ("7", "8", "7"):
        path = str(tmp_path / f"{version}.onnx")
        assert read(reader, Wanted((WantedModel(path, "books", version),)), SERVED) is None
        [model] = reader.models
        assert (model.name, model.version, len(model.files)) == ("books", version, 2)
        processes.add(process_of(reader))
    [process] = processes
    assert process is not None
    assert not reader.look()
    later = time.monotonic() + KEEP_SECONDS + 1.0
    monkeypatch.setattr(time, "monotonic", lambda: later)
    reader.look()
    assert process_of(reader) is None
    assert not process.is_running()


@pytest.mark.parametrize("how", ["killed", "failed", "left"])
def test_another_one_takes_the_place_of_one_that_did_not_end_well(reader, tmp_path, how):
    absent = Wanted((WantedModel(str(tmp_path / "absent.onnx")),))
    assert read(reader, Wanted(()), SERVED) is None
    first = process_of(reader)
    assert first is not None
    if how == "killed":
        kill(first)
    elif how == "failed":
        assert "can't be read" in str(read(reader, absent, SERVED))
    else:
        reader.begin(absent, SERVED)
    assert read(reader, Wanted(()), SERVED) is None
    assert process_of(reader) not in (None, first)
    assert not first.is_running()


def test_one_that_is_killed_at_its_work_is_said_to_be(reader, tmp_path):
    os.mkfifo(tmp_path / "books.onnx")  # to read it takes until somebody writes
    reader.begin(Wanted((WantedModel(str(tmp_path / "books.onnx")),)), SERVED)
    process = process_of(reader)
    assert process is not None
    kill(process)
    assert reader.look()
    assert reader.failure == "the process that reads the models ended with SIGKILL"


def test_a_system_without_a_process_to_spare_is_a_failure(reader, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    with monkeypatch.context() as patched:
        patched.setattr(subprocess, "Popen", refuse)
        said = read(reader, Wanted(()), SERVED)
    assert said == ("there is no process to read the models: Resource temporarily unavailable")
    assert read(reader, Wanted(()), SERVED) is None


def test_what_has_changed_since_it_was_found_is_not_served(reader, booster, tmp_path):
    path = tmp_path / "books.onnx"
    export_onnx(booster, path, name="books", version="7")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    found = WantedModel(str(path), "books", "7", digest)
    assert read(reader, Wanted((found,)), SERVED) is None
    export_onnx(booster, path, name="books", version="8")
    failure = str(read(reader, Wanted((found,)), SERVED))
    assert f"books.onnx: it has changed since it was found: expected sha256 {digest}" in failure


def test_what_is_served_needs_no_file(reader, tmp_path):
    known = WantedModel(str(tmp_path / "gone.onnx"), "books", "7", "5" * 64)
    assert read(reader, Wanted((known,)), [f"books@7@{known.sha256}"]) is None
    [model] = reader.models
    assert (model.name, model.version, list(model.files)) == ("books", "7", [])
