"""Which lists are noted for the ranking log, and with what."""

from __future__ import annotations

import gc
from dataclasses import replace

import numpy as np
import pytest

from ranker.categories import Categories
from ranker.ranking_log.entry import Entry
from ranker.repository.traffic import place
from ranker.serving import messages
from ranker.serving.generation import Generation, Route
from ranker.serving.ranking_log import SALT, RankingLog
from ranker.serving.services import RankingService
from ranker.serving.unserved import Unserved
from ranker.serving.wire import RANK
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import BrokenEngine, FakeCall
from tests.serving.support import THREE, Serving, StreamOfLists, request


class Written(list[Entry]):
    """A writer that keeps what it gets."""

    add = list.append


class Logging:
    """Serving with a log of its lists."""

    def __init__(self, serving: Serving, rate: float = 1.0) -> None:
        self.serving = serving
        self.written = Written()
        self.log = RankingLog(self.written, rate)
        self.log.serve(serving.intake.generation)
        self.service = RankingService(serving.intake, self.log.wire(RANK))
        serving.methods |= self.service.methods()


def test_a_unary_list_is_noted_as_it_came_and_as_it_left(serving):
    s = Logging(serving())
    unknown = b"\xc2\x3e\x03new"  # a field that a later contract may have
    data = request(THREE, request_id="q", unit="u").SerializeToString() + unknown
    call = FakeCall()
    call.traceparent = "00-trace"
    s.serving.send("Rank", call, data)
    s.serving.turn_until_idle()
    [entry] = s.written
    assert (entry.request, entry.response) == (data, call.sent[0])
    assert entry.traceparent == "00-trace"
    origin = entry.origin
    assert (origin.model, origin.version, origin.arm) == ("books", "7", "")
    assert (origin.feature_names, origin.by_unit, origin.sample_rate) == (
        ("a", "b", "c"),
        True,
        1.0,
    )


def test_lists_of_a_stream_are_noted(serving):
    s = Logging(serving())
    stream = StreamOfLists(s.serving)
    for name in "xy":
        stream.send(request(THREE, request_id=name))
    stream.answers()
    assert [each.response for each in s.written] == stream.call.sent
    assert not any(each.origin.by_unit for each in s.written)


def test_a_list_in_several_batches_is_noted_once(serving):
    s = Logging(serving(max_batch_rows=10))
    s.serving.rank(request(np.ones((35, 3))))
    [entry] = s.written
    assert len(pb.RankResponse.FromString(entry.response).indices) == 35


def test_units_are_in_or_out_as_a_whole_and_the_same_ones_in_every_process(serving):
    units = [f"reader {number}" for number in range(200)]
    logs = [Logging(serving(), rate=0.3) for _ in range(2)]
    for s in logs:
        for unit in units * 2:
            s.serving.rank(request(THREE, unit=unit))
    first, second = (
        [pb.RankRequest.FromString(each.request).unit for each in s.written] for s in logs
    )
    assert first == second
    expected = [unit for unit in units if place(SALT, unit) < 0.3]
    assert first == expected * 2
    assert 30 < len(expected) < 90


def test_without_a_unit_a_share_of_the_lists_is_drawn(serving):
    s = Logging(serving(), rate=0.5)
    for _ in range(200):
        s.serving.rank(request(THREE))
    assert 60 < len(s.written) < 140


def test_what_is_refused_or_cancelled_is_not_noted(serving):
    s = Logging(serving())
    call = FakeCall()
    s.serving.send("Rank", call, request(THREE))
    call.code = 1
    call.tag.cancelled = True
    s.serving.turn_until_idle()
    with pytest.raises(Exception, match="no model films"):
        s.serving.rank(request(THREE, model="films"))
    broken = Logging(serving(BrokenEngine()))
    with pytest.raises(Exception, match="scoring failed"):
        broken.serving.rank(request(THREE))
    assert not [*s.written, *broken.written]


def test_a_bug_in_the_log_costs_no_answer(serving, caplog):
    s = Logging(serving())
    s.log._add = None
    assert list(s.serving.rank(request(THREE)).indices) == [1, 2, 0]
    assert "noting a list for the ranking log failed" in caplog.text


@pytest.mark.parametrize("built", [True, False], ids=["in C", "by protobuf"])
def test_the_request_counts_once_while_it_waits(serving, monkeypatch, built):
    if not built:
        monkeypatch.setattr(messages, "read", messages._read_none)
    elif messages.write is None:
        pytest.skip("the extension is not built")
    plain, logged = serving(), Logging(serving()).serving
    for s in (plain, logged):
        s.send("Rank", FakeCall(), request(THREE))
    more = 0 if built else len(request(THREE).SerializeToString())
    assert logged.queue._bytes == plain.queue._bytes + more
    logged.turn_until_idle()


def test_an_arm_is_noted(serving):
    s = Logging(serving())
    [model] = s.serving.models
    route = Route("7", {"stable": "7"}, {"stable": 1.0}, split=lambda _: "stable")
    s.service.serve(Generation([model], routes={"books": route}), Unserved())
    s.serving.rank(request(THREE, unit="u"))
    assert s.written[0].origin.arm == "stable"


def test_what_codes_stand_for_is_noted(serving):
    s = Logging(serving())
    model = s.serving.models[0].model
    model.metadata = replace(model.metadata, categories={1: Categories(["x", "y"])})
    s.serving.rank(request(THREE))
    assert s.written[0].origin.categories == {"b": Categories(["x", "y"])}


def test_a_version_that_has_left_is_not_held(serving):
    s = Logging(serving())
    s.serving.rank(request(THREE))
    other = Logging(serving())
    [old], new = s.serving.models, other.serving.models
    s.log.serve(Generation(new))
    held = [each for each in gc.get_referrers(old) if isinstance(each, dict | tuple | frozenset)]
    s.serving.rank(request(THREE))  # the last lists of the old one are still noted
    assert len(s.written) == 2
    after = [each for each in gc.get_referrers(old) if isinstance(each, dict | tuple | frozenset)]
    assert len(after) == len(held)


def test_a_server_without_a_log_has_the_protocol_itself(serving):
    assert RankingService(serving().intake)._wire is RANK
