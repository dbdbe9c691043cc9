"""A worker's side of a switch: what it takes over, what it serves, what it refuses."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ranker.callers import CallerPolicy
from ranker.engine.simd import engine as simd
from ranker.memory_file import read_into_memory
from ranker.metrics import catalogue
from ranker.metrics.aggregates import Aggregates
from ranker.metrics.layout import Layout
from ranker.metrics.recorder import Recorder
from ranker.metrics.snapshot import snapshot
from ranker.metrics.supervisor_recorder import NamedModel, SupervisorRecorder
from ranker.metrics.unit_sample import split_checks
from ranker.model import Model, ModelFile
from ranker.model.packed import prepare
from ranker.process import generations as module
from ranker.process.generations import Generations
from ranker.process.link import Link, receive, send, socket_pair
from ranker.process.settings import Settings
from ranker.quota import Quota
from ranker.repository.wanted import WantedRoute
from tests.forest.onnx import onnx_models
from tests.forest.onnx.onnx_models import Split
from tests.metrics.support import nonzero

TREES = Path(__file__).parents[1] / "forest" / "onnx" / "data" / "xgboost_regressor.onnx"


class Worker:
    """A worker, and the supervisor's end of its link."""

    def __init__(self, aggregates: Aggregates | None = None) -> None:
        self.aggregates = aggregates or Aggregates.create(Layout(4, ("/a.B/C",)))
        self.recorder = Recorder(self.aggregates)
        self.end, theirs = socket_pair()
        self.end.setblocking(False)
        self._link = Link(theirs.detach())
        settings = Settings((), device="cpu")
        self.generations = Generations(settings, self.recorder, self._link)

    def tell(self, **facts: object) -> object:
        """Says something to the worker; returns what it then serves."""
        send(self.end, facts)
        return self.generations.on_message(self._link.hear())

    def give(self, number: int, path: Path, version: str, slot: int = 0) -> None:
        fd = read_into_memory(path, 2**31)
        file = ModelFile.inherited(fd, path)
        packed = prepare(file, "auto", "cpu", "books", version).write()
        send(self.end, {"model": number, "slot": slot}, [fd, packed])
        os.close(fd)
        os.close(packed)
        self.generations.on_message(self._link.hear())

    def heard(self) -> dict:
        return dict(receive(self.end).facts)

    def loads(self) -> dict[tuple[str, ...], float]:
        """How often models were loaded, or not."""
        return nonzero(snapshot(self.aggregates)).get("ranker_model_loads_total", {})

    def infos(self, metric) -> list[tuple[str, ...]]:
        families = {family.metric: family.samples for family in snapshot(self.aggregates)}
        return [sample.labels for sample in families[metric]]


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker()
    yield worker
    worker.recorder.close()


@pytest.fixture
def wide(tmp_path) -> Path:
    """A model of more features than the other one can have requests for."""
    path = tmp_path / "wide.onnx"
    tree = Split(0, "LT", 0.5, 1.0, 2.0, True)
    node = onnx_models.tree_ensemble([tree])
    path.write_bytes(onnx_models.model(node, features=1000).SerializeToString())
    return path


def test_it_serves_what_it_was_told_to_and_scores_as_the_file_does(worker):
    worker.give(1, TREES, "7")
    assert worker.tell(prepare=1, models=[1], routes={}) is None
    assert worker.heard() == {"prepared": 1}
    generation = worker.tell(switch=1)
    served = generation.find("books", "7", "").served
    rows = np.zeros((3, served.features.num_features), np.float32)
    expected = Model.load(TREES).score(rows)
    np.testing.assert_array_equal(served.engine.score([rows]), expected)


def test_a_model_stays_from_one_generation_to_the_next(worker):
    worker.give(1, TREES, "7", slot=0)
    worker.tell(prepare=1, models=[1], routes={})
    first = worker.tell(switch=1)
    worker.give(2, TREES, "8", slot=1)
    worker.tell(prepare=2, models=[2, 1], routes={"books": {"default": "7", "labels": {"a": "8"}}})
    second = worker.tell(switch=2)
    assert second.find("books", "", "").served is first.find("books", "", "").served
    assert second.find("books", "@a", "").served.version == "8"


def test_what_can_not_be_served_is_refused_and_forgotten(worker, wide):
    worker.give(1, TREES, "7")
    send(worker.end, {"prepare": 1, "models": [1], "routes": {}})
    send(worker.end, {"switch": 1})
    first = worker.generations.first()
    worker.heard()
    worker.give(2, wide, "8", slot=1)
    assert worker.tell(prepare=2, models=[1, 2], routes={}) is None
    answer = worker.heard()
    assert answer["refused"] == 2
    assert "books@8: has 1000 features" in answer["why"]
    assert worker.loads() == {("books", "7", "ok"): 1, ("books", "8", "error"): 1}
    worker.tell(discard=2)
    worker.tell(prepare=3, models=[1], routes={})
    assert worker.tell(switch=3).models == first.models


def test_a_broken_engine_is_a_refusal_with_an_incident(worker, monkeypatch, caplog):
    def broken(*_: object) -> Model:
        raise RuntimeError("a bug")

    monkeypatch.setattr(module, "take_over", broken)
    worker.give(1, TREES, "7")
    worker.tell(prepare=1, models=[1], routes={})
    assert "the server's log says more" in worker.heard()["why"]
    assert worker.loads() == {("books", "7", "error"): 1}
    assert "a bug" in caplog.text


def test_what_is_not_served_any_more_is_not_on_record(worker):
    """A version whose file has changed is, in the metrics, the same version."""
    worker.give(1, TREES, "7", slot=0)
    worker.give(2, TREES, "8", slot=1)
    worker.tell(prepare=1, models=[1, 2], routes={})
    worker.tell(switch=1)
    assert [labels[1] for labels in worker.infos(catalogue.MODEL_INFO)] == ["7", "8"]
    worker.give(3, TREES, "8", slot=1)
    worker.tell(prepare=2, models=[3], routes={})
    worker.tell(switch=2)
    assert [labels[1] for labels in worker.infos(catalogue.MODEL_INFO)] == ["8"]
    worker.give(4, TREES, "9", slot=2)
    worker.tell(prepare=3, models=[4], routes={})
    worker.tell(discard=3)
    assert [labels[1] for labels in worker.infos(catalogue.MODEL_INFO)] == ["8"]


@pytest.mark.skipif(simd.unavailable() is not None, reason=str(simd.unavailable()))
def test_what_is_loaded_and_not_served_yet_is_not_on_record(worker):
    worker.give(1, TREES, "7", slot=0)
    worker.tell(prepare=1, models=[1], routes={})
    assert worker.infos(catalogue.MODEL_INFO) == []
    assert sum(worker.loads().values()) == 1.0
    worker.tell(switch=1)
    assert [labels[:2] for labels in worker.infos(catalogue.MODEL_INFO)] == [("books", "7")]
    worker.give(2, TREES, "8", slot=1)
    worker.tell(prepare=2, models=[1, 2], routes={})
    assert [labels[:2] for labels in worker.infos(catalogue.MODEL_INFO)] == [("books", "7")]
    worker.tell(discard=2)
    assert [labels[:2] for labels in worker.infos(catalogue.MODEL_INFO)] == [("books", "7")]


def test_a_model_is_on_record_with_its_engine(worker):
    worker.give(1, TREES, "7")
    worker.tell(prepare=1, models=[1], routes={})
    worker.tell(switch=1)
    [labels] = worker.infos(catalogue.MODEL_INFO)
    assert labels[:3] == ("books", "7", "simd")
    assert worker.infos(catalogue.GPU_INFO) == []


def test_the_gpu_is_on_record_if_one_is_used(worker, monkeypatch):
    take_over = module.take_over

    def on_gpu(*arguments):
        model = take_over(*arguments)
        model.engine.gpu = "0000:1B:00.0"
        return model

    monkeypatch.setattr(module, "take_over", on_gpu)
    worker.give(1, TREES, "7")
    assert worker.infos(catalogue.GPU_INFO) == [("0000:1B:00.0",)]


def test_what_is_not_served_is_told(worker):
    others = [{"name": "books", "version": "9", "state": "failed", "reason": "broken"}]
    worker.tell(others=others, failure="broken")
    assert worker.generations.unserved.failure == "broken"
    [other] = worker.generations.unserved.models
    facts = SimpleNamespace(name=other.name, version=other.version, reason=other.state_reason)
    assert facts == SimpleNamespace(name="books", version="9", reason="broken")


def test_it_ends_if_the_supervisor_goes_first(worker):
    worker.end.close()
    assert worker.generations.first() is None


def test_it_hears_who_may_call(worker):
    policy = CallerPolicy(("dns:a",), {"dns:a": Quota(queue_share=0.5)}, Quota(1.0))
    assert worker.generations.policy == CallerPolicy()
    assert worker.tell(callers=policy.to_facts()) is None
    assert worker.generations.policy == policy


def test_a_model_whose_files_found_no_free_descriptor_is_refused(worker):
    """A worker that did not get over it would hear nothing any more, not even to end."""
    worker.give(0, TREES, "7")
    worker.tell(prepare=1, models=[0], routes={})
    assert worker.heard() == {"prepared": 1}
    worker.tell(switch=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fd, packed = os.memfd_create("file"), os.memfd_create("packed")
    send(worker.end, {"model": 1, "slot": 1}, [fd, packed])
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        message = worker._link.hear()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.close(fd)
    os.close(packed)
    assert message.files == []
    worker.generations.on_message(message)
    worker.tell(prepare=2, models=[1], routes={})
    refused = worker.heard()
    assert refused["refused"] == 2
    assert "too many files are open" in refused["why"]
    assert worker.loads() == {("books", "7", "ok"): 1, ("unknown", "", "error"): 1}
    worker.tell(discard=2)
    worker.give(2, TREES, "8")
    worker.tell(prepare=3, models=[2], routes={})
    assert worker.heard() == {"prepared": 3}


def test_bytes_of_models_are_allowed_for_while_they_are_loaded_and_forgotten_with_them(
    worker, monkeypatch
):
    told: list[int] = []
    own = iter([100, 150, 1000, 10**9])
    monkeypatch.setattr(module, "_own_bytes", lambda: next(own))
    worker.generations.on_bytes = told.append
    size = TREES.stat().st_size
    of_file = 2 if simd.unavailable() is None else 10
    worker.give(1, TREES, "1")
    assert told == [of_file * size, 50]
    worker.give(2, TREES, "2", slot=1)
    assert told[2:] == [50 + of_file * size] * 2  # not more than a model can take
    worker.tell(prepare=1, models=[1], routes={})
    worker.tell(switch=1)
    assert told[-1] == worker.generations.bytes == 50


ALONE = {"default": "7", "labels": {"stable": "7"}}
SPLIT = {
    "default": "7",
    "labels": {"stable": "7", "canary": "8"},
    "traffic": {"stable": 80.0, "canary": 20.0},
    "salt": "s",
}


@pytest.mark.parametrize("replaced", [False, True], ids=["goes-on", "replaced"])
@pytest.mark.parametrize(
    "between",
    [
        pytest.param({**ALONE, "traffic": {"stable": 100.0}, "salt": "s"}, id="all-to-stable"),
        pytest.param(ALONE, id="no-split"),
    ],
)
def test_a_split_that_comes_back_is_counted_anew(worker, between, replaced, request):
    """Else the units that one version had before would be held against those of another since."""

    def serve(number: int, models: list[int], route: dict) -> object:
        worker.tell(prepare=number, models=models, routes={"books": route})
        generation = worker.tell(switch=number)
        generation.start()
        return generation

    worker.give(1, TREES, "7", slot=0)
    worker.give(2, TREES, "8", slot=1)
    first = serve(1, [1, 2], SPLIT)
    for number in range(1000):
        first.find("books", "", f"u{number}").served.metrics.request_split(f"u{number}")
    mark = WantedRoute.from_facts(SPLIT).split_mark()
    named = {0: NamedModel(["stable"], mark, 0.8), 1: NamedModel(["canary"], mark, 0.2)}
    supervisor = SupervisorRecorder(worker.aggregates)
    supervisor.switched(1, named)
    [check] = split_checks(worker.aggregates)
    assert min(check.units) > 100
    if replaced:  # by one that never knew the version that has gone
        worker = Worker(worker.aggregates)
        request.addfinalizer(worker.recorder.close)
        worker.give(1, TREES, "7", slot=0)
    serve(2, [1], between)
    worker.give(3, TREES, "8", slot=1)
    serve(3, [1, 3], SPLIT)
    [check] = split_checks(worker.aggregates)
    assert check.units == (0, 0)
