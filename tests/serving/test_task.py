"""What a list knows of who has sent it."""

from __future__ import annotations

import pytest

from ranker import forwarded_caller
from ranker.forwarded_caller import OFFICE, ForwardedCaller
from ranker.metrics.recorder import Recorder
from ranker.serving.generation import Generation, Route
from ranker.serving.task import UnaryTask
from ranker.serving.unserved import Unserved
from ranker.serving.wire import RANK
from tests.fakes import FakeCall
from tests.metrics.support import new_aggregates
from tests.serving.support import StreamOfLists, request

HTTP = ForwardedCaller("10.0.0.7:4242")


@pytest.fixture(autouse=True)
def secret(monkeypatch) -> None:
    monkeypatch.setenv(forwarded_caller._VARIABLE, "")
    forwarded_caller.prepare()


def task(peer: str, forwarded: ForwardedCaller | None) -> UnaryTask:
    call = FakeCall(peer=peer)
    if forwarded is not None:
        call.metadata = list(forwarded.metadata())
    return UnaryTask(call, 0.0, call, Recorder(new_aggregates()).unknown_model(), RANK)


@pytest.mark.parametrize(
    ("connection", "forwarded", "peer"),
    [
        pytest.param("ipv4:10.0.0.9:1", None, "ipv4:10.0.0.9:1", id="grpc"),
        pytest.param("unix:", HTTP, "ipv4:10.0.0.7:4242", id="http"),
        pytest.param("unix:", None, "unix:", id="nobody-said"),
        pytest.param("unix:", OFFICE, "unix:", id="the-office-itself"),
        pytest.param("ipv4:10.0.0.9:1", HTTP, "ipv4:10.0.0.9:1", id="not-the-offices-address"),
        pytest.param("", HTTP, "", id="gone"),
    ],
)
def test_the_log_names_who_has_asked_the_office(connection, forwarded, peer):
    assert task(connection, forwarded).peer() == peer
    assert task(connection, forwarded).connection() == connection


def test_what_others_say_is_not_believed():
    told = task("unix:", HTTP)
    forwarded_caller.prepare()  # another server
    assert told.peer() == "unix:"


def test_a_streams_lists_too(serving):
    stream = StreamOfLists(serving(), peer="unix:")
    stream.call.metadata = list(HTTP.metadata())
    stream.send(request([[1, 1, 1]], request_id="a"))
    [waiting] = stream.call.tag._waiting.values()
    assert waiting.peer() == "ipv4:10.0.0.7:4242"


@pytest.mark.parametrize(
    ("connection", "asked", "arm"),
    [
        pytest.param("unix:", {}, "draw", id="drawn-by-the-office"),
        pytest.param("unix:", {"unit": "u"}, "unit", id="a-unit-of-its-own"),
        pytest.param("unix:", {"model_version": "@nobody"}, "nobody", id="a-label"),
        pytest.param("ipv4:10.0.0.9:1", {}, "nobody", id="not-by-others"),
    ],
)
def test_what_the_office_has_drawn_decides_for_a_list_without_a_unit(
    serving, connection, asked, arm
):
    s = serving()
    arms = {"": "nobody", "1f": "draw", "u": "unit"}
    labels = dict.fromkeys(arms.values(), "7")
    route = Route("7", labels, dict.fromkeys(labels, 1.0), split=arms.__getitem__)
    s.service.serve(Generation(s.models, routes={"books": route}), Unserved())
    call = FakeCall(peer=connection)
    call.metadata = list(HTTP._replace(draw="1f").metadata())
    s.send("Rank", call, request([[1, 1, 1]], **asked))
    assert (call.tag.arm, call.tag.unit) == (arm, asked.get("unit", ""))
