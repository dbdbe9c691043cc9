"""Who calls, as a worker finds it out, and what is counted of it."""

from __future__ import annotations

import math
import time

import pytest

from ranker import forwarded_caller
from ranker.callers import CallerPolicy
from ranker.errors import QUOTA, Code, PermissionDeniedError, UnauthenticatedError
from ranker.forwarded_caller import OFFICE, ForwardedCaller
from ranker.metrics.snapshot import snapshot
from ranker.quota import Quota
from ranker.serving import callers as module
from ranker.serving.callers import Caller, Callers
from ranker.serving.quotas import REFUSALS_AT_ONCE
from tests.fakes import FakeCall
from tests.serving.support import THREE, Serving, StreamOfLists, request

A, B = "spiffe://shop.test/a", "dns:b.shop.test"


class Guarded:
    """Serving, to some callers."""

    def __init__(self, serving: Serving, *names: str) -> None:
        self.serving = serving
        self.callers = serving.intake.callers = Callers(serving.recorder)
        self.let_in(*names)

    def let_in(self, *names: str) -> None:
        self.serving.aggregates.name_callers(names)
        self.callers.serve(CallerPolicy(names))

    def rank(self, *names: str, metadata=()) -> FakeCall:
        """A call of Rank, as a transport takes it."""
        call = FakeCall()
        call.names, call.metadata = names, list(metadata)
        refusal = self.callers.refusal_of(call)
        if refusal is not None:
            self.serving.methods["/ranker.v1.RankingService/Rank"].handler.refused(call, refusal)
        else:
            self.serving.send("Rank", call, request(THREE))
            self.serving.turn_until_idle()
            self.serving.intake.refusals.answer(math.inf)
        assert call.over
        return call

    def counted(self) -> dict[tuple[str, ...], float]:
        """The requests of callers, by caller and code."""
        [family] = [
            family
            for family in snapshot(self.serving.aggregates)
            if family.metric.name == "ranker_caller_requests_total"
        ]
        return {sample.labels: sample.value for sample in family.samples if sample.value}


@pytest.fixture
def guarded(serving) -> Guarded:
    return Guarded(serving(), A, B)


@pytest.mark.parametrize(
    ("names", "label", "code"),
    [
        pytest.param([A], A, Code.OK, id="one"),
        pytest.param(["dns:x", B, A], B, Code.OK, id="the-first-that-may"),
        pytest.param(["dns:x"], "other", Code.PERMISSION_DENIED, id="another"),
        pytest.param([], "none", Code.UNAUTHENTICATED, id="nameless"),
    ],
)
def test_who_may_call(guarded, names, label, code):
    assert guarded.rank(*names).code is code
    assert guarded.counted() == {(label, code.name): 1.0}


def test_the_office_speaks_for_callers_and_for_itself(guarded, monkeypatch):
    monkeypatch.setenv(forwarded_caller._VARIABLE, "")
    forwarded_caller.prepare()
    for caller, code in (
        (ForwardedCaller("127.0.0.1:7", B), Code.OK),
        (ForwardedCaller("127.0.0.1:7", "dns:x"), Code.PERMISSION_DENIED),
        (ForwardedCaller("127.0.0.1:7"), Code.UNAUTHENTICATED),
    ):
        assert guarded.rank(metadata=caller.metadata()).code is code
    counted = {(B, "OK"), ("other", "PERMISSION_DENIED"), ("none", "UNAUTHENTICATED")}
    assert guarded.counted().keys() == counted
    assert guarded.rank(metadata=OFFICE.metadata()).code is Code.OK
    assert guarded.counted().keys() == counted


def test_a_certificate_counts_more_than_what_metadata_say(guarded, monkeypatch):
    monkeypatch.setenv(forwarded_caller._VARIABLE, "")
    forwarded_caller.prepare()
    said = ForwardedCaller("127.0.0.1:7", A).metadata()
    assert guarded.rank("dns:x", metadata=said).code is Code.PERMISSION_DENIED


def test_what_is_refused_says_whom(guarded):
    assert isinstance(guarded.rank("dns:x").error, PermissionDeniedError)
    assert guarded.rank("dns:x").error.message.startswith("dns:x is not among")
    assert isinstance(guarded.rank().error, UnauthenticatedError)


def open_stream(guarded: Guarded, *names: str, ask: bool = True) -> StreamOfLists:
    stream = StreamOfLists(guarded.serving)
    stream.call.names = names
    if ask:
        assert guarded.callers.refusal_of(stream.call) is None
    return stream


def code_of(stream: StreamOfLists, request_id: str) -> int:
    stream.send(request(THREE, request_id=request_id))
    return stream.answers()[request_id].status.code


def test_lists_of_open_streams_are_asked_too(guarded):
    a, b = open_stream(guarded, A), open_stream(guarded, B)
    assert code_of(a, "1") == code_of(b, "1") == Code.OK
    guarded.let_in(B)
    assert code_of(a, "2") == Code.PERMISSION_DENIED
    assert code_of(b, "2") == Code.OK
    guarded.let_in(A, B)
    assert code_of(a, "3") == code_of(b, "3") == Code.OK
    counted = {(A, "OK"): 2.0, (B, "OK"): 3.0, ("other", "PERMISSION_DENIED"): 1.0}
    assert guarded.counted() == counted


def test_streams_from_before_callers_were_named_are_asked(guarded):
    guarded.serving.intake.callers = None
    stream, stranger = open_stream(guarded, A, ask=False), open_stream(guarded, ask=False)
    assert code_of(stream, "1") == code_of(stranger, "1") == Code.OK
    guarded.serving.intake.callers = guarded.callers
    assert code_of(stream, "2") == Code.OK
    assert code_of(stranger, "2") == Code.UNAUTHENTICATED
    guarded.serving.intake.callers = None
    assert code_of(stranger, "3") == Code.OK


def test_a_refused_stream_counts_as_one_request(guarded):
    call = FakeCall()
    refusal = guarded.callers.refusal_of(call)
    handler = guarded.serving.methods["/ranker.v1.RankingService/RankStream"].handler
    handler.refused(call, refusal)
    handler.closed(call)
    assert call.code is Code.UNAUTHENTICATED
    assert guarded.counted() == {("none", "UNAUTHENTICATED"): 1.0}


class TestQuotas:
    """What is refused to a caller that is over its quota, and to nobody else."""

    def let_in(self, guarded: Guarded) -> None:
        guarded.callers.serve(CallerPolicy((A, B), {A: Quota(requests_per_second=3.0)}))

    def test_only_the_one_that_is_over_its_quota_is_refused(self, guarded):
        self.let_in(guarded)
        codes = [guarded.rank(A).code for _ in range(30)]
        assert 3 <= codes.count(Code.OK) <= 5
        assert codes.count(Code.RESOURCE_EXHAUSTED) == 30 - codes.count(Code.OK)
        assert [guarded.rank(B).code for _ in range(30)] == [Code.OK] * 30
        counted = guarded.serving.counted()
        assert counted["ranker_requests_shed_total"] == codes.count(Code.RESOURCE_EXHAUSTED)
        assert counted["ranker_caller_taken_requests_total"] == codes.count(Code.OK)
        assert counted["ranker_caller_taken_candidates_total"] == 3 * codes.count(Code.OK)

    def test_the_lists_of_streams_count(self, guarded):
        self.let_in(guarded)
        streams = [open_stream(guarded, A) for _ in range(2)]
        codes = [code_of(streams[n % 2], str(n)) for n in range(20)]
        assert 3 <= codes.count(Code.OK) <= 5
        assert set(codes) == {Code.OK, Code.RESOURCE_EXHAUSTED}

    def test_nothing_is_read_of_a_stream_whose_refusal_is_held_back(self, guarded):
        self.let_in(guarded)
        stream = open_stream(guarded, A)
        sent = 0
        while stream.send(request(THREE, request_id=str(sent))):
            sent += 1
            assert sent < 40
        assert sent >= 3 + REFUSALS_AT_ONCE
        held = guarded.serving.intake.refusals
        [(_, _, task, _)] = held.held
        assert task.candidates.size == 0  # it would hold the whole message
        assert str(sent) not in stream.answers()
        assert not stream.call.resumed
        held.answer(math.inf)
        assert stream.answers()[str(sent)].status.code == Code.RESOURCE_EXHAUSTED
        assert stream.call.resumed

    def test_what_is_held_back_is_refused_before_a_drain_ends_its_stream(self, guarded):
        self.let_in(guarded)
        stream = open_stream(guarded, A)
        held = 0
        while stream.send(request(THREE, request_id=str(held))):
            held += 1
        guarded.serving.service.drain()
        assert stream.answers()[str(held)].status.code == Code.RESOURCE_EXHAUSTED
        assert stream.call.code is Code.UNAVAILABLE

    def test_the_same_quota_again_changes_nothing(self, guarded):
        self.let_in(guarded)
        codes = [guarded.rank(A).code for _ in range(10)]
        self.let_in(guarded)
        codes += [guarded.rank(A).code for _ in range(10)]
        assert codes.count(Code.OK) <= 5

    def test_a_quota_that_is_taken_away_and_set_again_begins_anew(self, guarded):
        quotas = {A: Quota(candidates_per_second=0.1)}
        guarded.callers.serve(CallerPolicy((A, B), quotas))
        assert [guarded.rank(A).code for _ in range(2)] == [Code.OK, Code.RESOURCE_EXHAUSTED]
        guarded.callers.serve(CallerPolicy((A, B)))
        guarded.callers.serve(CallerPolicy((A, B), quotas))
        assert guarded.rank(A).code is Code.OK


class TestConnections:
    """Quotas where nobody is named."""

    quota = Quota(requests_per_second=4.0)

    def caller(self, callers: Callers, peer: str, metadata=()) -> Caller:
        call = FakeCall(peer=peer)
        call.metadata = list(metadata)
        assert callers.refusal_of(call) is None
        return call.caller

    def test_each_connection_has_its_own(self, serving):
        callers = Callers(serving().recorder)
        callers.serve(CallerPolicy(per_connection=self.quota))
        first = self.caller(callers, "ipv4:1.2.3.4:1")
        assert self.caller(callers, "ipv4:1.2.3.4:1") is first
        assert self.caller(callers, "ipv4:1.2.3.4:2") is not first
        assert first.quota.quota == self.quota

    def test_over_http_each_worker_has_its_part(self, serving, monkeypatch):
        monkeypatch.setenv(forwarded_caller._VARIABLE, "")
        forwarded_caller.prepare()
        callers = Callers(serving().recorder, workers=2)
        callers.serve(CallerPolicy(per_connection=self.quota))
        caller = self.caller(callers, "unix:", ForwardedCaller("1.2.3.4:1").metadata())
        assert caller.quota.quota == self.quota.divided(2)
        assert self.caller(callers, "unix:", OFFICE.metadata()) is None

    def test_what_has_waited_in_the_office_is_refused(self, serving, monkeypatch):
        monkeypatch.setenv(forwarded_caller._VARIABLE, "")
        forwarded_caller.prepare()
        callers = Callers(serving().recorder)
        call, waited = FakeCall(peer="unix:"), ForwardedCaller("1.2.3.4:1", has_waited=True)
        call.metadata = list(waited.metadata())
        callers.serve(CallerPolicy())
        assert callers.refusal_of(call) is None
        callers.serve(CallerPolicy(per_connection=self.quota))
        error = callers.refusal_of(call)
        assert (error.reason, "other requests" in error.message) == (QUOTA, True)
        for _ in range(4):
            call.caller.quota.take(1, time.monotonic(), math.inf)
        assert "4 requests a second" in callers.refusal_of(call).message

    def test_those_that_called_longest_ago_are_forgotten(self, serving, monkeypatch):
        monkeypatch.setattr(module, "MOST_CONNECTIONS", 10)
        callers = Callers(serving().recorder)
        callers.serve(CallerPolicy(per_connection=self.quota))
        first, second = (self.caller(callers, f"ipv4:1.2.3.4:{port}") for port in (1, 2))
        for port in range(3, 12):
            self.caller(callers, f"ipv4:1.2.3.4:{port}")
            assert self.caller(callers, "ipv4:1.2.3.4:1") is first
        assert self.caller(callers, "ipv4:1.2.3.4:2") is not second

    def test_on_its_address_the_office_alone_may_call(self, serving, monkeypatch):
        monkeypatch.setenv(forwarded_caller._VARIABLE, "")
        forwarded_caller.prepare()
        callers = Callers(serving().recorder)
        http = ForwardedCaller("1.2.3.4:1").metadata()
        for policy in (CallerPolicy(), CallerPolicy(per_connection=self.quota)):
            callers.serve(policy)
            refusal = callers.refusal_of(FakeCall(peer="unix-abstract:"))
            assert isinstance(refusal, UnauthenticatedError)
            self.caller(callers, "unix-abstract:", http)
            self.caller(callers, "unix-abstract:", OFFICE.metadata())
            self.caller(callers, "ipv4:1.2.3.4:1")

    def test_once_callers_are_named_connections_do_not_count(self, serving):
        guarded = Guarded(serving())
        guarded.callers.serve(CallerPolicy(per_connection=self.quota))
        stream = open_stream(guarded)
        assert code_of(stream, "1") == Code.OK
        guarded.callers.serve(CallerPolicy((A,), per_connection=self.quota))
        assert code_of(stream, "2") == Code.UNAUTHENTICATED
