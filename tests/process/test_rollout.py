"""Two phases: nobody serves a generation before all can, and all serve one that some do."""

from __future__ import annotations

import os
import time

import pytest

from ranker.process import rollout as module
from ranker.process.rollout import Plan, PreparedModel, Rollout
from ranker.process.shared_files import SharedFiles


class FakeWorker:
    """A worker that does what it is told, or not."""

    def __init__(self) -> None:
        self.said: list[dict] = []

    def say(self, facts, files=None) -> None:
        fds = () if files is None else files.fds
        assert len(fds) == (2 if "model" in facts else 0)
        for file in fds:
            os.fstat(file)  # it has to be open
        self.said.append(facts)

    @property
    def serves(self) -> int | None:
        """The generation that it serves if it does as it was told."""
        return max((facts["switch"] for facts in self.said if "switch" in facts), default=None)

    def models(self) -> list[int]:
        return [facts["model"] for facts in self.said if "model" in facts]


class Setup:
    def __init__(self, workers: int = 2) -> None:
        self.workers = [FakeWorker() for _ in range(workers)]
        self.begun: list[Plan] = []
        self.ends: list[str | None] = []
        self.rollout = Rollout(lambda: self.workers, self.begun.append, self.ends.append)

    def prepare(self, number: int, *workers: FakeWorker) -> None:
        for worker in workers or self.workers:
            self.rollout.on_message(worker, {"prepared": number})
        self.rollout.step()

    def serve(self, plan: Plan) -> None:
        self.rollout.begin(plan)
        self.prepare(plan.number)

    def kill(self, worker: FakeWorker) -> None:
        """A worker ends; nobody is in its place yet."""
        self.workers.remove(worker)
        self.rollout.on_death(worker)
        self.rollout.step()

    def start(self) -> FakeWorker:
        worker = FakeWorker()
        self.rollout.on_start(worker)
        self.workers.append(worker)
        self.rollout.step()
        return worker


def model(number: int) -> PreparedModel:
    return PreparedModel(f"books@{number}@ab", number, 0, SharedFiles((os.dup(0), os.dup(0))))


def plan(number: int, *models: PreparedModel) -> Plan:
    return Plan(number, models or (model(number),), {})


def test_nobody_is_told_to_serve_before_all_can():
    s = Setup()
    s.rollout.begin(plan(1))
    s.prepare(1, s.workers[0])
    assert [worker.serves for worker in s.workers] == [None, None]
    s.prepare(1, s.workers[1])
    assert [worker.serves for worker in s.workers] == [1, 1]
    assert s.ends == [None]


def test_if_one_can_not_all_serve_what_they_served():
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    s.prepare(2, s.workers[0])
    s.rollout.on_message(s.workers[1], {"refused": 2, "why": "no room"})
    s.prepare(2)
    assert [worker.serves for worker in s.workers] == [1, 1]
    assert [{"discard": 2} in worker.said for worker in s.workers] == [True, True]
    assert s.ends == [None, "no room"]
    assert s.rollout.current.number == 1


def test_what_is_known_is_not_sent_again():
    s = Setup()
    both, new = model(1), model(2)
    s.serve(plan(1, both))
    s.serve(plan(2, both, new))
    assert s.workers[0].models() == [1, 2]


def test_a_worker_that_starts_in_between_gets_both():
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    s.prepare(2, s.workers[0])
    s.workers[1] = FakeWorker()
    s.rollout.on_start(s.workers[1])
    assert s.workers[1].serves == 1
    s.rollout.step()
    assert s.workers[0].serves == 1  # the other one has not prepared
    s.prepare(2, s.workers[1])
    assert [worker.serves for worker in s.workers] == [2, 2]


def test_a_worker_that_starts_after_a_switch_is_told_of_that_alone():
    s = Setup()
    s.serve(plan(1))
    s.serve(plan(2))
    s.workers[0] = FakeWorker()
    s.rollout.on_start(s.workers[0])
    assert s.workers[0].serves == 2
    assert len(s.workers[0].models()) == 1


def test_one_worker_takes_new_models_over_first_and_the_others_follow():
    """If they kill it, the others serve."""
    s = Setup(3)
    both = model(1)
    s.serve(plan(1, both))
    s.rollout.begin(plan(2, both, model(2)))
    for _ in range(3):
        s.rollout.step()
    assert [worker.models() for worker in s.workers] == [[1, 2], [1], [1]]
    s.prepare(2, s.workers[0])
    assert [worker.models() for worker in s.workers] == [[1, 2]] * 3
    s.prepare(2)
    assert [worker.serves for worker in s.workers] == [2, 2, 2]


@pytest.mark.parametrize("dies", [0, 1], ids=["the-first", "the-last"])
def test_if_a_worker_dies_of_new_models_all_serve_what_they_served(dies):
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    for worker in s.workers[:dies]:
        s.prepare(2, worker)
    other = s.workers[1 - dies]
    s.kill(s.workers[dies])
    started = s.start()
    assert (other.serves, started.serves) == (1, 1)
    assert started.models() == [1]
    assert {"discard": 2} in other.said
    assert s.ends == [None, "a worker ended while new models were taken over"]


def test_if_a_worker_dies_that_had_prepared_they_are_given_up_as_well():
    """Where memory is short, the kernel may end any of them."""
    s = Setup(3)
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    s.prepare(2, s.workers[0])
    s.prepare(2, s.workers[1])
    s.kill(s.workers[0])
    assert s.rollout.pending is None
    assert s.ends[-1] is not None


def test_a_switch_that_brings_no_models_is_made_though_a_worker_dies():
    """A rollback, say, while what is served kills workers."""
    s = Setup()
    both = model(1)
    s.serve(plan(1, both))
    s.rollout.begin(plan(2, both))
    assert [worker.said[-1]["prepare"] for worker in s.workers] == [2, 2]
    s.kill(s.workers[1])
    started = s.start()
    s.prepare(2)
    assert [worker.serves for worker in s.workers] == [2, 2]
    assert started.models() == [1]
    assert s.ends == [None, None]


def test_before_anything_is_served_all_are_told_at_once_and_those_that_start_as_well():
    s = Setup()
    s.rollout.begin(plan(1))
    assert [worker.models() for worker in s.workers] == [[1], [1]]
    s.kill(s.workers[0])
    assert s.start().models() == [1]
    s.prepare(1)
    assert [worker.serves for worker in s.workers] == [1, 1]
    assert s.ends == [None]


def test_the_workers_that_follow_have_as_long_as_the_first(monkeypatch):
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    now = time.monotonic() + module.PREPARE_SECONDS - 1
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    s.prepare(2, s.workers[0])
    now += module.PREPARE_SECONDS - 1
    s.prepare(2, s.workers[1])
    assert s.workers[1].serves == 2


def test_a_newer_wish_takes_the_place_of_one_that_is_pending():
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    s.rollout.begin(plan(3))
    s.prepare(2)
    assert [worker.serves for worker in s.workers] == [1, 1]
    s.prepare(3)
    assert [worker.serves for worker in s.workers] == [3, 3]


def test_a_worker_that_never_answers_is_not_waited_for_for_ever(monkeypatch):
    s = Setup()
    s.serve(plan(1))
    s.rollout.begin(plan(2))
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + module.PREPARE_SECONDS + 1)
    s.rollout.step()
    assert s.rollout.current.number == 1
    assert "1 of 1 workers that were told were not ready within 60 s" in s.ends[-1]
    assert "A server that is started anew" in s.ends[-1]


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_workers_serve_one_generation(seed):
    """Random histories of wishes, answers, refusals and deaths."""
    import random

    dice = random.Random(seed)
    s = Setup(3)
    s.serve(plan(1))
    number = 1
    for _ in range(200):
        act = dice.randrange(4)
        if act == 0:
            number += 1
            s.rollout.begin(plan(number))
        elif act == 1 and s.rollout.pending:
            s.prepare(s.rollout.pending.number, dice.choice(s.workers))
        elif act == 2 and s.rollout.pending:
            refusal = {"refused": s.rollout.pending.number, "why": "no"}
            s.rollout.on_message(dice.choice(s.workers), refusal)
        elif act == 3:
            s.kill(dice.choice(s.workers))
            s.start()
        s.rollout.step()
        assert {worker.serves for worker in s.workers} == {s.rollout.current.number}
