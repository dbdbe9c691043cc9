"""For whom the office asks: only the server's own processes can say so."""

from __future__ import annotations

import pytest

from ranker import forwarded_caller
from ranker.forwarded_caller import KEY, OFFICE, ForwardedCaller

CALLER = ForwardedCaller("127.0.0.1:7", "dns:retrieval.shop.test")


@pytest.fixture(autouse=True)
def secret(monkeypatch) -> None:
    monkeypatch.setenv(forwarded_caller._VARIABLE, "")
    forwarded_caller.prepare()


@pytest.mark.parametrize(
    "caller",
    [
        pytest.param(CALLER, id="named"),
        pytest.param(ForwardedCaller("[::1]:7"), id="nameless"),
        pytest.param(OFFICE, id="the-office-itself"),
        pytest.param(CALLER._replace(has_waited=True), id="has-waited"),
        pytest.param(CALLER._replace(name="dns:x waited"), id="a-name-with-a-space"),
        pytest.param(CALLER._replace(draw="1f"), id="with-a-draw"),
        pytest.param(ForwardedCaller("[::1]:7", draw="1f"), id="nameless-with-a-draw"),
    ],
)
def test_a_worker_reads_what_the_office_wrote(caller):
    assert ForwardedCaller.read(caller.metadata()) == caller
    assert caller.is_office == (caller is OFFICE)


@pytest.mark.parametrize(
    ("connection", "peer"),
    [
        pytest.param("10.0.0.7:4242", "ipv4:10.0.0.7:4242", id="ipv4"),
        pytest.param("::1:4242", "ipv6:%5B::1%5D:4242", id="ipv6"),
        pytest.param("::ffff:10.0.0.7:4242", "ipv6:%5B::ffff:10.0.0.7%5D:4242", id="mapped"),
        pytest.param("fe80::1%eth0:1", "ipv6:%5Bfe80::1%25eth0%5D:1", id="with-a-zone"),
    ],
)
def test_a_connection_over_http_has_a_name_like_one_over_grpc(connection, peer):
    assert ForwardedCaller(connection).peer == peer


def test_nobody_else_can_say_it(monkeypatch):
    [(key, value)] = CALLER.metadata()
    for said in (
        value[1:],
        value[:40],
        " " + value,
        "",
        "office",
        value.encode(),
        "\u00e9 office ",
    ):
        assert ForwardedCaller.read([(key, said)]) is None, said
    forwarded_caller.prepare()  # another server
    assert ForwardedCaller.read([(key, value)]) is None
    monkeypatch.delenv(forwarded_caller._VARIABLE)
    for said in (" office ", "None office "):
        assert ForwardedCaller.read([(KEY, said)]) is None
    assert CALLER.metadata() == ()
