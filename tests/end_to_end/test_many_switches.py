"""Switches by the hundred: under load, with faults, and what they must never do.

Every answer's scores are held, bit for bit, against XGBoost's of the version that it states.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx
import psutil
import pytest
from onnx import helper

from ranker.model import ModelFile
from ranker.model.parity import ParityRows
from ranker.repository.publication import publish
from ranker.repository.traffic import Split
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.checked_load import CALLERS, Load
from tests.end_to_end.conftest import RunningServer
from tests.end_to_end.test_live_models import LIST_MODELS, VERSIONS, Shop
from tests.end_to_end.test_watched_rollout import SHARED, ask_for
from tests.repository import buckets
from tests.waiting import PATIENCE, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

RELOADS = int(os.environ.get("RELOADS", "1000"))
FAULTS = int(os.environ.get("FAULTS", "200"))
"""Fewer of them try the tests themselves."""
PACE = float(os.environ.get("PACE", "0"))
"""Seconds from one reload to the next, at least."""

BURNER = """
import os, sys, time
os.nice(10)
work, pause = map(float, sys.argv[1:])
for _ in range(10):
    end = time.process_time() + work
    while time.process_time() < end:
        sum(range(1000))
    time.sleep(pause)
"""
"""Takes as much of the cores as ten reloads, and does nothing."""

GENERATION = "ranker_model_generation"
STABLE_ONLY = "models: {{books: {{source: books, labels: {{stable: {}}}}}}}"
WARM = 10
"""Reloads after which a process's memory has what it needs."""

GROWTH = 12 * 2**20
"""Bytes that a process may hold more than it did then."""


@dataclass
class Size:
    """What a server's processes hold; those that stay."""

    memory: dict[int, int]
    files: dict[int, int]

    @classmethod
    def of(cls, server: RunningServer) -> Size:
        stays = [p for p in server.processes() if "preparer" not in " ".join(p.cmdline())]
        memory = {process.pid: process.memory_info().rss for process in stays}
        return cls(memory, {process.pid: process.num_fds() for process in stays})

    def __str__(self) -> str:
        sizes = (f"{size / 2**20:.1f}" for size in self.memory.values())
        return f"MiB {' '.join(sizes)}, files {' '.join(map(str, self.files.values()))}"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Shop:
    """Versions of 500 trees of depth 6."""
    return Shop(tmp_path_factory.mktemp("large"), trees=500)


def test_reloads_under_load(large: Shop, tmp_path: Path):
    """At half of what the callers get as fast as they can, two workers."""
    large.write(STABLE_ONLY.format(VERSIONS[0]))
    server = RunningServer(tmp_path / "log", "--config", str(large.config), "--workers", "2")
    took: list[float] = []
    ratios: list[float] = []
    controls: list[float] = []
    try:
        with Load(server, large) as load:
            load.wait(3.0)
        capacity = len(load.calls) / 3.0
        with Load(server, large, capacity / 2) as load:
            load.wait_for(VERSIONS[0])
            spent_before, first = _cpu_of_preparers(server), time.monotonic()
            for number in range(1, RELOADS + 1):
                version = VERSIONS[number % 2]
                began = time.monotonic()
                large.write(STABLE_ONLY.format(version))
                load.wait_for(version)
                took.append(time.monotonic() - began)
                load.wait(max(0.0, PACE - took[-1]))
                if number == WARM:
                    warm = Size.of(server)
                if number % 10 == 0:  # ten reloads, a steady window, and one with a burner
                    middle = time.monotonic()
                    busy = middle - first
                    load.wait(busy)
                    after = time.monotonic()
                    spent = _cpu_of_preparers(server) - spent_before
                    pause = max(0.0, busy - spent) / 10
                    burn = (sys.executable, "-c", BURNER, f"{spent / 10:.3f}", f"{pause:.3f}")
                    subprocess.run(burn, check=True)
                    steady = load.percentile(middle, after, 99)
                    ratios.append(load.percentile(middle - busy, middle, 99) / steady)
                    controls.append(load.percentile(after, time.monotonic(), 99) / steady)
                    print(
                        f"{number} reloads, {spent / 10:.2f} CPU s each: {Size.of(server)}, "
                        f"p99 x {ratios[-1]:.2f}, with the burner x {controls[-1]:.2f}",
                        flush=True,
                    )
                    spent_before, first = _cpu_of_preparers(server), time.monotonic()
        end = Size.of(server)
        assert server.metric(GENERATION) == RELOADS + 1
        assert server.metric("ranker_model_switches_total", outcome="error") == 0
        assert server.stop() == 0
    finally:
        server.kill()
    print(
        f"{RELOADS} reloads, {len(load.calls)} answers, {capacity / 2:.0f} a second; "
        f"from the file's change to the last connection: median {statistics.median(took):.2f} s, "
        f"p99 {np.percentile(took, 99):.2f} s; a reload each {max(PACE, np.mean(took)):.2f} s: "
        f"p99 with them over p99 without, median of the pairs: {statistics.median(ratios):.2f}, "
        f"with a burner instead: {statistics.median(controls):.2f}; "
        f"after {WARM}: {warm}; at the end: {end}"
    )
    assert load.failures == []
    opened = {pid: count - warm.files[pid] for pid, count in end.files.items()}
    assert max(opened.values()) <= CALLERS, "more than connections that come and go"
    assert end.memory.keys() == warm.memory.keys(), "a process has died"
    grown = {pid: size - warm.memory[pid] for pid, size in end.memory.items()}
    assert max(grown.values()) < GROWTH, grown


def _cpu_of_preparers(server: RunningServer) -> float:
    """Seconds of those that have ended, the supervisor's only processes that do, and of one now."""
    times = psutil.Process(server.process.pid).cpu_times()
    spent = times.children_user + times.children_system
    for process in server.processes():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "preparer" in " ".join(process.cmdline()):
                times = process.cpu_times()
                spent += times.user + times.system
    return spent


@dataclass
class Trial:
    """A server whose models are in a bucket, and what is done to it.

    Attributes:
        served: the version that all should serve.
    """

    server: RunningServer
    shop: Shop
    bucket: buckets.Bucket
    load: Load
    dice: random.Random
    served: str

    def write(self, version: str, more: str = "") -> None:
        text = f"models: {{books: {{source: '{self.bucket.address}', labels: {{stable: {version}}}"
        self.shop.write(f"{text}{more}}}}}\npoll_seconds: 1\n")

    def other(self) -> str:
        return self.dice.choice([version for version in VERSIONS if version != self.served])

    def switch(self) -> None:
        """To another version, which all serve in the end."""
        self.served = self.other()
        self.write(self.served)

    def bad_file(self) -> None:
        failed = self.failed()
        self.shop.write(self.dice.choice(["models: [", "models: {books: {sauce: x}}", ""]))
        self.wait_for_failure(failed)
        self.switch()

    def bad_parity(self) -> None:
        failed = self.failed()
        self.write("66")
        self.wait_for_failure(failed)
        self.switch()

    def worker_killed(self) -> None:
        """In the middle: somewhen within the second that a switch takes. The other one serves."""
        self.wait_for_metric("ranker_workers_serving", 2)
        self.switch()
        time.sleep(self.dice.random())
        self.kill(rf"worker {self.dice.randrange(2)}")

    def office_killed(self) -> None:
        started = self._offices()
        self.kill("office")
        self.switch()
        wait_until(lambda: self._offices() > started)

    def preparer_killed(self) -> None:
        """Again and again, be it at its work or while it waits for more."""
        failed, generation = self.failed(), self.server.metric(GENERATION)
        self.switch()
        limit = time.monotonic() + self.dice.random()
        while self.server.metric(GENERATION) == generation:
            for process in self.server.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if time.monotonic() < limit and "preparer" in " ".join(process.cmdline()):
                        process.kill()
            if self.failed() > failed:
                self.served = self.other()
                self.write(self.served)
                return

    def bucket_gone(self) -> None:
        """What is cached can be served without it."""
        self.bucket.faults["GET", ""] = buckets.Fault(status=self.dice.choice([403, 404, 500]))
        self.switch()
        time.sleep(self.dice.random())
        self.bucket.faults.clear()

    def kill(self, name: str) -> None:
        found = re.findall(rf"{name} started, pid (\d+)", self.server.log.read_text())
        os.kill(int(found[-1]), signal.SIGKILL)

    def _offices(self) -> int:
        return self.server.log.read_text().count("office serves")

    def failed(self) -> float:
        return self.server.metric("ranker_model_switches_total", outcome="error")

    def wait_for_failure(self, before: float) -> None:
        wait_until(lambda: self.failed() > before)

    def wait_for_metric(self, name: str, value: float) -> None:
        wait_until(lambda: self.server.metric(name) == value)

    def check(self) -> None:
        """All connections get one and the same, and it is what it should be."""
        found: set[tuple[int, tuple[str, ...]]] = set()

        def all_serve_it() -> bool:
            found.clear()
            found.update(_listed(self.server.address) for _ in range(12))
            return {versions for _, versions in found} == {(self.served,)} and len(found) == 1

        wait_until(all_serve_it, lambda: (self.served, found))
        self.load.wait_for(self.served)


def _listed(address: str) -> tuple[int, tuple[str, ...]]:
    """The generation, and the versions that are served, on a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(address, options) as channel:
        rank = channel.unary_unary(LIST_MODELS)
        for left in reversed(range(20)):
            try:
                listed = pb.ListModelsResponse.FromString(rank(b"", timeout=PATIENCE))
                break
            except grpc.RpcError:  # of a worker that was killed
                if not left:
                    raise
                time.sleep(0.1)
    models = [m for m in listed.models if m.state == pb.MODEL_STATE_AVAILABLE]
    return listed.generation, tuple(model.version for model in models)


@pytest.fixture
def bucket(monkeypatch) -> Iterator[buckets.Bucket]:
    with buckets.google() as bucket:
        for name, value in bucket.environment.items():
            monkeypatch.setenv(name, value)
        yield bucket


def publish_wrong(shop: Shop, bucket: buckets.Bucket) -> None:
    """A version 66 that does not score what XGBoost does."""
    path = shop.folder / "66.onnx"
    proto = onnx.load(shop.folder / "7.onnx")
    rows = ParityRows.from_text(ModelFile.read(shop.folder / "7.onnx").metadata.parity)
    wrong = dataclasses.replace(rows, margins=rows.margins + np.float32(1))
    changed = {"ranker.parity": f'"{wrong.to_text()}"', "ranker.version": '"66"'}
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    helper.set_model_props(proto, properties | changed)
    path.write_bytes(proto.SerializeToString())
    publish(ModelFile.read(path), bucket.address, "66", progress=str)


def test_switches_with_faults(tmp_path: Path, bucket: buckets.Bucket, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shop = Shop(tmp_path)
    for version in VERSIONS:
        publish(ModelFile.read(tmp_path / f"{version}.onnx"), bucket.address, progress=str)
    publish_wrong(shop, bucket)
    text = f"models: {{books: {{source: '{bucket.address}', labels: {{stable: 7}}}}}}"
    shop.write(f"{text}\npoll_seconds: 1\n")
    server = RunningServer(tmp_path / "log", "--config", str(shop.config), "--workers", "2")
    kinds = ("bad_file", "bad_parity", "worker_killed", "office_killed", "preparer_killed")
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    try:
        with Load(server, shop, rate=100, retries=100) as load:
            trial = Trial(server, shop, bucket, load, dice, "7")
            for number in range(FAULTS):
                kind = dice.choice((*kinds, "bucket_gone"))
                print(f"{number} {kind}", flush=True)
                getattr(trial, kind)()
                trial.check()
        assert load.failures == []
        assert server.stop() == 0
    finally:
        server.kill()
    print(f"{FAULTS} faults, {len(load.calls)} answers")
    assert len(load.calls) > 10 * FAULTS


def test_shares_over_a_hundred_thousand_units_on_two_servers(large: Shop, tmp_path: Path):
    large.write(SHARED.format(stable=95, canary=8, share=5, more=""))
    units = [f"reader-{i}" for i in range(100_000)]
    arms: list[dict[str, str]] = []
    for number in range(2):
        log = tmp_path / f"{number}.log"
        server = RunningServer(log, "--config", str(large.config), "--workers", str(number + 1))
        try:
            answers = ask_for(server.address, units, large.rows[:1])
            arms.append({unit: answer.arm for unit, answer in answers.items()})
            assert server.metric("ranker_split_p_value", model="books") > 1e-6
        finally:
            server.kill()
    assert arms[0] == arms[1]
    split = Split({"stable": 95, "canary": 5}, "s")
    assert arms[0] == {unit: split.arm(unit) for unit in units}
    canary = list(arms[0].values()).count("canary")
    deviation = (100_000 * 0.05 * 0.95) ** 0.5
    assert abs(canary - 5000) < 4 * deviation
