"""From what is wanted to what is served: edits that come fast, and those that go wrong."""

from __future__ import annotations

import itertools
import os
import time
from dataclasses import replace

import pytest

from ranker.callers import CallerPolicy
from ranker.metrics.snapshot import snapshot
from ranker.process import model_supply as module
from ranker.process.model_slots import RETIRED_AFTER
from ranker.quota import Quota
from ranker.repository.wanted import Wanted
from tests.metrics.support import nonzero
from tests.process.support import Clock, Setup, not_read, open_files, told, wanted
from tests.process.test_rollout import FakeWorker


def test_a_model_that_was_there_when_the_preparer_began_is_there_when_it_ends(s):
    """The file changes to 8, and back to 7 and 9 before all serve 8."""
    s.serve(wanted("7", entry="a"))
    s.supply.want(wanted("8", entry="b"))
    s.reader.finish()
    s.supply.step()
    s.supply.want(wanted("7", "9", entry="c"))
    s.prepared()  # 8 is served, and 7 no more
    assert s.worker.serves == 2
    s.reader.finish()
    s.supply.step()
    s.prepared()
    assert s.worker.serves == 3
    assert s.supply.failure is None


def test_files_of_what_is_about_to_be_served_stay_when_something_newer_fails(s):
    """A worker that starts later needs them."""
    s.serve(wanted("7", entry="a"))
    s.supply.want(wanted("8", entry="b"))
    s.reader.finish()
    s.supply.step()
    s.supply.want(wanted("9", entry="c"))
    s.reader.finish("broken")
    s.supply.step()
    s.prepared()  # 8
    started = FakeWorker()
    s.supply.on_start(started)
    assert (s.worker.serves, started.serves) == (2, 2)
    assert s.supply.failure == "broken"


def test_what_failed_is_tried_again_when_it_is_wanted_again(s, caplog):
    """A preparer that was killed for want of memory, say."""
    s.serve(wanted("7", entry="a"))
    for _ in range(3):
        s.supply.want(wanted("8", entry="b"))
        s.reader.finish("ended with SIGKILL")
        s.supply.step()
    assert s.supply.failure == "ended with SIGKILL"
    assert caplog.text.count("ended with SIGKILL") == 1
    assert s.reader.runs == 4
    s.serve(wanted("8", entry="b"))
    assert s.supply.failure is None
    assert s.worker.serves == 2


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def test_what_kills_a_worker_is_not_served_and_tried_again_more_and_more_seldom(s, clock):
    s.serve(wanted("7", entry="a"))
    begin, tried = clock.now, []
    while clock.now < begin + 1000.0:
        if s.try_in_vain(wanted("8", entry="b")):
            tried.append(clock.now - begin)
        assert s.worker.serves == 1
        assert "a worker ended" in s.supply.failure
        clock.now += 1.0  # the pace of the polls
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert pauses == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0]


def test_a_worker_that_dies_of_something_else_delays_a_switch_and_does_not_end_it(s, clock):
    s.serve(wanted("7", entry="a"))
    assert s.try_in_vain(wanted("8", entry="b"))
    clock.now += module.FIRST_PAUSE
    s.serve(wanted("8", entry="b"))
    assert s.worker.serves == 3
    assert s.supply.failure is None


def test_what_killed_a_worker_is_tried_again_though_nobody_asks(s, clock):
    """The sources may be looked at once an hour."""
    s.serve(wanted("7", entry="a"))
    assert s.try_in_vain(wanted("8", entry="b"))
    runs = s.reader.runs
    clock.now += module.FIRST_PAUSE - 1.0
    s.supply.step()
    assert s.reader.runs == runs
    clock.now += 1.0
    s.supply.step()
    assert s.reader.runs == runs + 1
    s.reader.finish()
    s.supply.step()
    s.prepared()
    assert s.worker.serves == 3
    s.supply.step()
    assert s.reader.runs == runs + 1


def test_deaths_of_workers_that_had_not_been_told_make_no_pause_longer(s, clock):
    s.serve(wanted("7", entry="a"))
    s.supply.want(wanted("8", entry="b"))
    for _ in range(3):
        s.reader.finish()
        s.supply.step()
        runs = s.reader.runs
        s.supply.on_death(FakeWorker())  # another one
        clock.now += module.FIRST_PAUSE
        s.supply.step()
        assert s.reader.runs == runs + 1


def test_what_was_wanted_before_does_not_speak_against_what_is_wanted_now(s):
    s.serve(wanted("7", entry="a"))
    s.supply.want(wanted("8", entry="b"))
    s.reader.finish()
    s.supply.step()
    s.supply.want(wanted("9", entry="c"))  # and is being read
    s.die()
    runs = s.reader.runs
    s.supply.want(wanted("9", entry="c"))
    assert s.reader.runs == runs, "it was begun anew"
    s.reader.finish()
    s.supply.step()
    s.prepared()
    assert s.supply.failure is None


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda s: s.supply.try_again(), id="asked"),
        pytest.param(lambda s: s.supply.want(wanted("7", entry="a")), id="changed"),
    ],
)
def test_what_killed_a_worker_is_tried_again_at_once_if_somebody_wants_it_so(s, clock, ask):
    s.serve(wanted("7", entry="a"))
    assert s.try_in_vain(wanted("8", entry="b"))
    assert not s.try_in_vain(wanted("8", entry="b"))
    ask(s)
    assert s.try_in_vain(wanted("8", entry="b"))
    clock.now += module.FIRST_PAUSE - 1.0
    assert not s.try_in_vain(wanted("8", entry="b"))


@pytest.mark.usefixtures("clock")
def test_why_something_is_not_tried_again_yet_is_told_after_another_mistake(s):
    s.serve(wanted("7", entry="a"))
    assert s.try_in_vain(wanted("8", entry="b"))
    s.supply.fail("line 3: wrong")
    assert told(s) == ("line 3: wrong", ["failed"])
    assert not s.try_in_vain(wanted("8", entry="b"))
    assert told(s) == ("a worker ended while new models were taken over", ["failed"])


def test_a_wrong_file_that_is_made_right_again_leaves_no_trace(s):
    s.serve(wanted("7", entry="a"))
    s.supply.fail("line 3: wrong")
    s.supply.want(wanted("7", entry="a"))
    assert s.supply.failure is None
    assert s.reader.runs == 1


def test_a_server_starts_though_a_mistake_is_made_while_its_first_models_are_loaded(s):
    s.supply.want(wanted("7", entry="a"))
    s.supply.fail("line 3: wrong")
    assert s.supply.start_failure is None
    s.reader.finish()
    s.supply.step()
    s.supply.fail("line 3: wrong")
    assert s.supply.start_failure is None
    s.prepared()
    assert s.worker.serves == 1


@pytest.mark.parametrize(
    "fail",
    [
        pytest.param(lambda s: s.supply.fail("wrong"), id="nobody-knows-what-is-wanted"),
        pytest.param(lambda s: not_read(s, wanted("7"), "wrong"), id="a-model-can-not-be-read"),
        pytest.param(lambda s: refused(s, wanted("7"), "wrong"), id="a-worker-can-not-serve-it"),
    ],
)
def test_a_server_does_not_start_if_what_is_wanted_can_not_be_served(s, fail):
    fail(s)
    assert s.supply.start_failure == "wrong"


def test_once_something_is_served_nothing_is_wrong_with_the_start(s):
    s.serve(wanted("7", entry="a"))
    not_read(s, wanted("8", entry="b"), "wrong")
    assert s.supply.failure == "wrong"
    assert s.supply.start_failure is None


def refused(s: Setup, wish: Wanted, why: str) -> None:
    s.supply.want(wish)
    s.reader.finish()
    s.supply.step()
    s.supply.on_message(s.worker, {"refused": 1, "why": why})


def test_a_model_that_can_not_be_read_counts_as_a_load_that_failed(s):
    s.serve(wanted("7", entry="a"))
    for failed in (1, 2):
        s.supply.want(wanted("8", entry="b"))
        s.reader.finish("8.onnx: not an ONNX file")
        s.supply.step()
        loads = nonzero(snapshot(s.aggregates))["ranker_model_loads_total"]
        assert loads == {("unknown", "", "error"): failed}


def test_callers_are_told_why_nobody_can_say_what_is_wanted(s):
    s.serve(wanted("7", entry="a"))
    assert told(s) == ("", [])
    s.supply.fail("line 3: wrong")
    assert told(s) == ("line 3: wrong", [])
    s.supply.want(wanted("7", entry="a"))
    assert told(s) == ("", [])


def test_callers_are_told_why_a_part_of_what_is_wanted_stays_as_it_was(s):
    s.serve(replace(wanted("7"), failure="films: away"))
    assert told(s) == ("films: away", [])
    s.supply.want(replace(wanted("7"), failure="films: gone"))
    assert told(s) == ("films: gone", [])
    runs = s.reader.runs
    s.supply.want(wanted("7"))
    assert told(s) == ("", [])
    assert s.reader.runs == runs, "what is served was wanted all the time"
    switches = nonzero(snapshot(s.aggregates))["ranker_model_switches_total"]
    assert switches == {("ok",): 1.0, ("error",): 2.0}


def test_what_was_wrong_is_forgotten_as_soon_as_something_else_is_wanted(s):
    s.serve(wanted("7", entry="a"))
    s.supply.fail("line 3: wrong")
    s.supply.want(wanted("7", "8", entry="b"))
    assert told(s) == ("", ["loading", "loading"])
    s.reader.finish("8 is broken")
    s.supply.step()
    assert told(s) == ("8 is broken", ["failed", "failed"])
    s.supply.want(wanted("7", "8", entry="b"))
    assert told(s) == ("8 is broken", ["failed", "failed"]), "until it is known to be otherwise"


def test_files_of_models_that_are_not_served_are_closed(s):
    s.serve(wanted("1", entry="0"))
    before = open_files()
    for i in range(1, 20):
        s.supply.want(wanted("7", entry=f"{i}"))
        s.reader.finish()
        s.supply.step()
        s.serve(wanted(f"{i}", "x", entry=f"{i}"))
        s.serve(wanted("1", entry=f"back-{i}"))
    assert open_files() == before


def test_files_of_models_that_find_no_room_are_closed_once(s):
    """There are four numbers in the metrics, and the models that have some keep them."""
    s.serve(wanted("1", "2", entry="a"))
    before = open_files()
    s.supply.want(wanted("1", "3", "4", "5", entry="b"))
    s.reader.finish()
    s.supply.step()
    assert s.supply.failure is not None
    assert "2 versions are served and 3 of those that are wanted are new" in s.supply.failure
    assert open_files() == before
    s.serve(wanted("1", "3", entry="c"))
    assert s.worker.serves == 2


def test_a_version_that_is_about_to_be_served_again_keeps_its_number(s):
    """Version 2 is read when its generation fails, and meanwhile more is wanted."""
    s.serve(wanted("1", entry="a"))
    s.supply.want(wanted("1", "2", entry="b"))
    s.reader.finish()
    s.supply.step()
    s.supply.want(wanted("1", "2", "3", "4", entry="c"))
    number = [facts["prepare"] for facts in s.worker.said if "prepare" in facts][-1]
    s.supply.on_message(s.worker, {"refused": number, "why": "no room"})
    s.supply._slots.retire_due(time.monotonic() + 2 * RETIRED_AFTER)
    s.reader.finish()
    s.supply.step()
    s.prepared()
    assert len({model.slot for model in s.supply._rollout.current.models}) == 4


@pytest.mark.parametrize("came", [0, 1])
def test_a_model_whose_files_found_no_free_descriptor_is_not_served(s, came):
    s.serve(wanted("1", entry="a"))
    before = open_files()
    s.supply.want(wanted("1", "2", entry="b"))
    s.reader.finish()
    read = s.reader.models[-1]
    for fd in read.files[came:]:
        os.close(fd)
    s.reader.models[-1] = read._replace(files=read.files[:came])
    s.supply.step()
    assert "too many files are open" in s.supply.failure
    assert open_files() == before


def test_a_worker_hears_who_may_call_before_it_serves(s):
    """And of changes at once, also if nobody can say what is to be served."""
    policy = CallerPolicy(("dns:a",), {"dns:a": Quota(5.0)})
    s.supply._settings = replace(s.supply._settings, tls_client_ca="ca.crt")
    s.supply.let_in(policy)
    s.supply.want(wanted("7"))
    assert s.worker.said[0] == {"callers": policy.to_facts()}
    assert s.aggregates.callers()[0] == "dns:a"
    s.reader.finish()
    s.supply.step()
    s.prepared()
    late = FakeWorker()
    s.supply.on_start(late)
    assert late.said[0] == {"callers": policy.to_facts()}
    assert [facts for facts in late.said if "model" in facts]
    other = CallerPolicy(("dns:b",))
    s.supply.let_in(other)
    assert s.worker.said[-1] == {"callers": other.to_facts()}
    s.supply.fail("books: away")
    later = FakeWorker()
    s.supply.on_start(later)
    assert later.said[0] == {"callers": other.to_facts()}


def test_callers_that_are_the_same_are_told_once(s):
    policy = CallerPolicy(("dns:a",))
    s.supply._settings = replace(s.supply._settings, tls_client_ca="ca.crt")
    for _ in range(2):
        s.supply.let_in(policy)
        s.supply.want(wanted("7"))
    assert s.worker.said.count({"callers": policy.to_facts()}) == 1
