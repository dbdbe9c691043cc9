"""What is served while the guard holds the share of a version."""

from __future__ import annotations

import time

import pytest

from ranker.errors import Code
from ranker.metrics.snapshot import snapshot
from ranker.process import model_supply as module
from tests.metrics.support import Ended, nonzero
from tests.process.support import Setup, not_read, wanted


def breach(s: Setup, monkeypatch) -> None:
    """The canary fails, and the guard notices."""
    now = time.monotonic() + 10.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    s.supply.step()
    for slot, code in zip(s.slots(), (Code.OK, Code.INTERNAL), strict=True):
        for _ in range(200):
            model = s.counts.recorder.model(slot, ("books", str(slot)))
            model.request_ended(code, Ended(1, 0.0, 1.0, 0.001))
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 2.0)
    s.supply.step()


@pytest.fixture
def shared(s) -> Setup:
    s.serve(wanted("7", "8", share=20, entry="a"))
    return s


def test_the_guard_moves_the_share_and_says_so(shared, monkeypatch, caplog):
    breach(shared, monkeypatch)
    assert shared.routes()["traffic"] == {"stable": 100, "canary": 0}
    assert "200 of 200 requests failed" in shared.routes()["held"]["canary"]
    shared.prepared()
    assert shared.worker.serves == 2
    assert "the guard moves the 20 % of canary to stable" in caplog.text
    shared.supply.step()
    assert shared.supply.failure is None


def test_the_guard_does_not_hide_that_something_else_could_not_be_served(shared, monkeypatch):
    shared.supply.want(wanted("7", "8", "9", share=20, entry="a"))
    shared.reader.finish("no such file")
    shared.supply.step()
    breach(shared, monkeypatch)
    shared.prepared()
    assert shared.worker.serves == 2
    assert shared.supply.failure == "no such file"


def test_what_is_wanted_with_the_same_entry_is_held_and_with_another_is_not(shared, monkeypatch):
    breach(shared, monkeypatch)
    shared.prepared()
    shared.supply.want(wanted("7", "8", "9", share=20, entry="a"))
    shared.reader.finish()
    shared.supply.step()
    assert shared.routes()["traffic"] == {"stable": 100, "canary": 0}
    shared.prepared()
    shared.serve(wanted("7", "8", share=20, entry="b"))
    assert shared.routes()["traffic"] == {"stable": 80, "canary": 20}
    assert shared.routes()["held"] == {}


def test_a_share_stays_held_while_what_was_written_since_can_not_be_served(
    shared, monkeypatch, caplog
):
    """So that an edit that is taken back does not bring a bad version back."""
    caplog.set_level("INFO")
    breach(shared, monkeypatch)
    shared.prepared()
    not_read(shared, wanted("7", "9", share=20, entry="b"), "9 is broken")
    assert "lets it go" not in caplog.text
    shared.supply.want(wanted("7", "8", share=20, entry="a"))  # nothing has to be read for it
    shared.prepared()
    assert shared.routes()["traffic"] == {"stable": 100, "canary": 0}
    shared.serve(wanted("7", "9", share=20, entry="b"))
    assert shared.routes()["traffic"] == {"stable": 80, "canary": 20}
    assert caplog.text.count("books: its configuration has changed: the guard lets it go") == 1


def rollbacks(s: Setup) -> float:
    return sum(nonzero(snapshot(s.aggregates))["ranker_guard_rollbacks_total"].values())


def test_a_switch_of_the_guard_that_fails_is_tried_again_and_counted_once(
    shared, monkeypatch, caplog
):
    breach(shared, monkeypatch)
    refusal = {"refused": 2, "why": "no memory"}
    shared.supply.on_message(shared.worker, refusal)
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now + 2.0)
    shared.supply.step()
    shared.prepared()
    assert shared.worker.serves == 3
    assert shared.routes()["traffic"] == {"stable": 100, "canary": 0}
    assert rollbacks(shared) == 1.0
    assert caplog.text.count("the guard moves the 20 % of canary to stable") == 1
