"""Who may ask over HTTP."""

from __future__ import annotations

import pytest
from starlette.responses import PlainTextResponse

from ranker.callers import CallerPolicy
from ranker.errors import PermissionDeniedError, UnavailableError
from ranker.forwarded_caller import OFFICE, ForwardedCaller
from ranker.office.callers import CallerCheck, with_names
from ranker.office.workers import FORWARDED
from tests.office.support import ask, served

A = "dns:a.shop.test"


class Refusing:
    """Workers that refuse whoever asks, or are not there."""

    def __init__(self) -> None:
        self.asked: list[ForwardedCaller] = []
        self.error: Exception = PermissionDeniedError("a worker says no")

    async def rank(self, *_: object) -> bytes:
        self.asked.append(FORWARDED.get())
        raise self.error


async def tell(scope, receive, send) -> None:
    """Answers with whom a worker would be asked for."""
    await PlainTextResponse(FORWARDED.get().name or "-")(scope, receive, send)


@pytest.fixture
def workers() -> Refusing:
    return Refusing()


@pytest.fixture
def check(workers) -> CallerCheck:
    return CallerCheck(tell, workers, ["/healthz"], CallerPolicy((A,)))


def answer(app, names: tuple[str, ...], path: str = "/", body: object = None):
    with served(with_names(app, names)) as port:
        return ask(port, path, body)


@pytest.mark.parametrize(
    ("names", "path", "status"),
    [
        pytest.param((A,), "/", 200, id="one-that-may"),
        pytest.param(("dns:x", A), "/", 200, id="by-its-second-name"),
        pytest.param(("dns:x",), "/", 403, id="another"),
        pytest.param((), "/", 401, id="nameless"),
        pytest.param(("dns:x",), "/healthz", 200, id="health"),
        pytest.param(("dns:x",), "/healthz/../", 403, id="beside-health"),
    ],
)
def test_who_may_see_a_page(check, workers, names, path, status):
    found = answer(check, names, path)
    assert found.status == status
    if status == 200:
        assert found.body.decode() == (A if A in names else names[0])
    assert not workers.asked


def test_a_worker_refuses_lists_so_that_it_counts_them(check, workers):
    found = answer(check, ("dns:x",), body={})
    assert (found.status, found.json["detail"]) == (403, "a worker says no")
    assert [caller.name for caller in workers.asked] == ["dns:x"]


def test_they_are_refused_without_a_worker_too(check, workers):
    workers.error = UnavailableError("no worker")
    assert answer(check, ("dns:x",), body={}).status == 403
    assert answer(check, (), body={}).status == 401


def test_where_nobody_is_named_anybody_may(check):
    check.policy = CallerPolicy()
    assert answer(check, ()).status == 200


def test_until_the_configuration_is_read_nobody_may(check):
    check.policy = None
    assert answer(check, (A,)).status == 503
    assert answer(check, (A,), "/healthz").status == 200


def test_the_office_asks_for_itself_otherwise():
    assert FORWARDED.get() == OFFICE
