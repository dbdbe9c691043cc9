"""Explanations: lists that wait to be explained, while plain lists go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from ranker.engine.api import Explainer
from ranker.errors import (
    CancelledError,
    Code,
    DeadlineError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    RankerError,
    UnsupportedModelError,
)
from ranker.model import Model
from ranker.serving import explanations
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import FakeCall, SumEngine
from tests.serving.support import THREE, Serving, StreamOfLists, request
from tests.waiting import PATIENCE

BIAS = 0.5


class SumExplainer(Explainer):
    """Explains `SumEngine`: each feature adds itself, and the bias nothing that is true.

    Attributes:
        calls: the rows of each block of each call.
        gate: a call waits until it is set.
        seconds: that a row takes.
        error: what a call raises, if it is to.
    """

    num_features = 3

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.seconds = 0.0
        self.error: Exception | None = None

    def explain(self, blocks):
        assert threading.current_thread() is not threading.main_thread()
        self.calls.append([len(block) for block in blocks])
        assert self.gate.wait(PATIENCE)
        time.sleep(self.seconds * sum(self.calls[-1]))
        if self.error is not None:
            raise self.error
        rows = np.concatenate(blocks)
        return np.hstack([rows, np.full((len(rows), 1), BIAS, np.float32)])


class Explaining(Serving):
    """All of serving but a transport, with models that can be explained."""

    def __init__(self, *engines, **limits) -> None:
        super().__init__(*engines, **limits)
        self.explainer = SumExplainer()
        for served in self.models:
            model = served.model
            served.model = Model(
                served.engine,
                "made up",
                model.metadata,
                served.name,
                served.version,
                load_explainer=lambda: self.explainer,
            )
        self.scored_before = 0

    def turn(self) -> float | None:
        """As `ranker.process.server` does it."""
        delay = super().turn()
        idle = self.dispatcher.idle()
        self.explanations.turn(spare=idle and self.dispatcher.scored == self.scored_before)
        self.scored_before = self.dispatcher.scored
        return delay

    def ask(
        self, explain: int, rows=THREE, deadline: float = np.inf, caller: str = "a", **fields
    ) -> FakeCall:
        call = FakeCall(deadline=time.monotonic() + deadline, peer=caller)
        self.send("Rank", call, request(rows, explain=explain, **fields))
        return call

    def answer(self, call: FakeCall) -> pb.RankResponse:
        """What a call is answered with; raises what it is refused with."""
        self.turn_until(lambda: call.over)
        if call.error is not None:
            raise call.error
        return pb.RankResponse.FromString(call.sent[0])


@pytest.fixture
def serving():
    made: list[Explaining] = []

    def make(*engines, **limits) -> Explaining:
        made.append(Explaining(*engines, **limits))
        return made[-1]

    yield make
    for each in made:
        each.explainer.gate.set()
        each.close()


Make = Callable[..., Explaining]


def many(rows: int) -> np.ndarray:
    return np.random.default_rng(rows).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize(
    ("explain", "top_k", "explained"), [(1, 0, 1), (2, 0, 2), (9, 0, 3), (2, 1, 1), (9, 2, 2)]
)
def test_the_best_are_explained_and_nothing_else_changes(serving: Make, explain, top_k, explained):
    s = serving()
    plain = s.answer(s.ask(0, top_k=top_k))
    found = s.answer(s.ask(explain, top_k=top_k))
    assert [each.bias for each in found.explanations] == [BIAS] * explained
    assert [list(each.contributions) for each in found.explanations] == [
        THREE[index] for index in plain.indices[:explained]
    ]
    assert list(found.explained_feature_names) == ["a", "b", "c"]
    assert (found.indices, found.scores) == (plain.indices, plain.scores)
    assert not plain.explanations
    assert not plain.explained_feature_names
    assert found.timing.scoring_us > 0


def test_a_list_that_takes_several_batches_is_explained_whole(serving: Make):
    s = serving(max_batch_rows=64)
    rows = many(400)
    found = s.answer(s.ask(150, rows))
    assert list(found.indices) == np.argsort(-rows.sum(axis=1), kind="stable").tolist()
    np.testing.assert_array_equal(
        [each.contributions for each in found.explanations], rows[list(found.indices[:150])]
    )


def test_context_and_named_columns_are_laid_out(serving: Make):
    s = serving()
    fields = {"feature_names": ["c", "a"], "context": pb.Context(feature_names=["b"], values=[7])}
    found = s.answer(s.ask(1, [[1, 2], [3, 4]], **fields))
    assert list(found.explanations[0].contributions) == [4, 7, 3]


def test_nothing_is_handed_over_while_there_is_something_to_score(serving: Make):
    s = serving()
    explained = s.ask(1)
    for _ in range(20):
        plain = s.ask(0)
        s.turn()
        assert plain.over
    assert not explained.over
    assert s.explainer.calls == []
    s.answer(explained)


def test_plain_lists_are_answered_while_the_thread_explains(serving: Make):
    s = serving()
    s.explainer.gate.clear()
    explained = s.ask(1)
    s.turn_until(lambda: s.explainer.calls)
    assert s.answer(s.ask(0)).indices
    assert not explained.over
    s.explainer.gate.set()
    s.answer(explained)


def test_lists_take_turns(serving: Make):
    s = serving()
    s.explainer.seconds = 1e-4
    s.answer(s.ask(20, many(20)))  # it is known what a row takes
    long, short = s.ask(400, many(400)), s.ask(3)
    s.turn_until(lambda: short.over)
    assert not long.over
    assert len(s.answer(long).explanations) == 400
    assert max(map(sum, s.explainer.calls)) <= explanations.RUN_ROWS


def test_short_lists_share_a_run(serving: Make):
    s = serving()
    s.models[0].explaining.observe(3, 3e-6)  # it is known what a row takes
    calls = [s.ask(2) for _ in range(5)]
    for call in calls:
        assert len(s.answer(call).explanations) == 2
    assert s.explainer.calls == [[2] * 5]


def test_each_model_has_runs_of_its_own(serving: Make):
    s = serving(SumEngine(), SumEngine())
    calls = [s.ask(2, model=name) for name in ("books", "films", "books")]
    for call, name in zip(calls, ("books", "films", "books"), strict=True):
        assert s.answer(call).model == name


def refusal(s: Explaining, call: FakeCall) -> RankerError:
    with pytest.raises(RankerError) as caught:
        s.answer(call)
    return caught.value


def test_a_model_that_can_not_be_explained_says_so_before_it_scores(serving: Make):
    s = serving()
    s.models[0].model = Model(s.engines[0], "", s.models[0].model.metadata, "books", "7")
    error = refusal(s, s.ask(1))
    assert isinstance(error, UnsupportedModelError)
    assert "can't explain" in error.message
    assert s.engines[0].batches == []
    assert s.answer(s.ask(0)).indices


def test_more_than_there_is_room_for_can_never_be_had(serving: Make):
    s = serving(max_explained_bytes=50_000)
    error = refusal(s, s.ask(500, many(500)))
    assert isinstance(error, InvalidRequestError)
    assert error.field == "explain"
    most = int(error.description.split()[3])
    assert len(s.answer(s.ask(most, many(500))).explanations) == most


def test_too_much_that_waits_is_refused_and_room_comes_back(serving: Make):
    s = serving(max_explained_bytes=60_000)
    s.explainer.gate.clear()
    calls = [s.ask(2, caller=caller) for caller in "ab"]
    error = refusal(s, s.ask(2, caller="c"))
    assert isinstance(error, OverloadedError)
    assert error.reason == "explanations"
    assert s.counted()["ranker_requests_shed_total"] == 1
    assert s.counted()["ranker_explanation_rows"] == 4
    s.explainer.gate.set()
    for call in calls:
        s.answer(call)
    assert not s.explanations.lists
    assert s.counted()["ranker_explanation_rows"] == 0
    assert s.answer(s.ask(2)).explanations


def test_no_more_than_so_many_lists_wait_however_small(serving: Make, monkeypatch):
    monkeypatch.setattr(explanations, "MOST_LISTS", 3)
    s = serving()
    calls = [s.ask(1, caller=caller) for caller in "abc"]
    assert refusal(s, s.ask(1, caller="d")).reason == "explanations"
    for call in calls:
        s.answer(call)


def test_one_connection_can_not_have_all_places(serving: Make, monkeypatch):
    monkeypatch.setattr(explanations, "MOST_LISTS", 16)
    s = serving()
    s.explainer.gate.clear()
    calls = [s.ask(1, caller="many") for _ in range(12)]  # the first quarter, and half
    error = refusal(s, s.ask(1, caller="many"))
    assert (error.code, error.reason) == (Code.RESOURCE_EXHAUSTED, "connection_share")
    assert "this connection has its share" in error.message
    calls += [s.ask(1, caller="one") for _ in range(4)]
    assert refusal(s, s.ask(1, caller="two")).reason == "explanations"
    s.explainer.gate.set()
    for call in calls:
        s.answer(call)
    s.explainer.gate.clear()
    calls = [s.ask(1, caller="many") for _ in range(12)]  # it was given back
    s.explainer.gate.set()
    for call in calls:
        s.answer(call)


def test_one_connection_can_not_have_all_bytes(serving: Make):
    s = serving(max_explained_bytes=60_000)
    calls = [s.ask(2)]
    assert refusal(s, s.ask(2)).reason == "connection_share"
    calls.append(s.ask(2, caller="b"))
    for call in calls:
        s.answer(call)


def test_what_would_come_too_late_is_refused_and_said_when_to_come_back(serving: Make):
    s = serving(max_deadline=1000.0)
    s.models[0].explaining.observe(100, 1000.0)
    first = s.ask(3, deadline=600.0)
    error = refusal(s, s.ask(3, deadline=20.0))
    assert isinstance(error, OverloadedError)
    assert (error.reason, error.in_time) == ("deadline", False)
    assert error.retry_after == pytest.approx(30.0)
    s.answer(first)


def test_a_prediction_that_has_gone_wrong_can_learn(serving: Make):
    s = serving()
    s.models[0].explaining.observe(100, 1000.0)
    assert s.answer(s.ask(3, deadline=20.0)).explanations


def wait_behind_another(s: Explaining, **fields) -> tuple[FakeCall, FakeCall]:
    """A list that is being explained until the gate opens, and one that waits behind it."""
    s.explainer.gate.clear()
    first = s.ask(3)
    s.turn_until(lambda: s.explainer.calls)
    second = s.ask(3, **fields)
    s.turn()
    return first, second


def test_a_deadline_passes_while_a_list_waits(serving: Make):
    s = serving()
    first, second = wait_behind_another(s, deadline=1.0)
    error = refusal(s, second)
    assert isinstance(error, DeadlineError)
    assert "before it was explained" in error.message
    assert s.counted()["ranker_requests_expired_total"] == 1
    s.explainer.gate.set()
    s.answer(first)


def test_a_caller_goes_while_a_list_waits(serving: Make):
    s = serving()
    first, second = wait_behind_another(s)
    second.cancelled = True
    s.close_call("Rank", second)
    assert isinstance(refusal(s, second), CancelledError)
    s.explainer.gate.set()
    s.answer(first)
    assert s.explainer.calls == [[3]]
    assert not s.explanations.lists


@pytest.mark.parametrize("error", [RuntimeError("secret"), MemoryError()], ids=repr)
def test_a_failure_ends_the_lists_of_the_run_and_no_more(serving: Make, error):
    s = serving()
    s.explainer.error = error
    found = refusal(s, s.ask(3))
    assert isinstance(found, InternalError)
    assert "secret" not in found.message
    s.explainer.error = None
    assert s.answer(s.ask(3)).explanations


def test_on_a_stream_a_plain_list_overtakes_an_explained_one(serving: Make):
    s = serving()
    s.explainer.gate.clear()
    stream = StreamOfLists(s)
    stream.send(request(THREE, request_id="explained", explain=2))
    stream.send(request(THREE, request_id="plain"))
    s.turn_until(lambda: s.explainer.calls)
    assert list(stream.answers()) == ["plain"]
    s.explainer.gate.set()
    s.turn_until(lambda: len(stream.call.sent) == 2)
    answers = stream.answers()
    assert list(answers) == ["plain", "explained"]
    assert len(answers["explained"].explanations) == 2


def test_a_list_keeps_neither_its_message_nor_its_other_rows(serving: Make):
    s = serving()
    s.explainer.gate.clear()
    call = s.ask(2, many(400))
    s.turn_until(lambda: s.explainer.calls)
    [task] = s.explanations.lists
    assert task.candidates.nbytes == 0
    s.explainer.gate.set()
    s.answer(call)


def test_it_is_counted(serving: Make):
    s = serving()
    for _ in range(3):
        s.answer(s.ask(2))
    counted = s.counted()
    assert counted["ranker_candidates_explained_total"] == 6
    assert counted["ranker_explanation_duration_seconds"] > 0
    assert counted["ranker_requests_total"] == 3


def test_a_late_explanation_does_not_make_the_queue_more_careful(serving: Make):
    s = serving()
    told: list[bool] = []
    s.intake.admission.on_end = lambda *, in_time: told.append(in_time)
    for explain in (0, 1):
        s.ask(0)  # so that there is a wait
        call = s.ask(explain)
        s.answer(call)
        call.tag.waited = True
        s.close_call("Rank", call)
    assert told == [True]
