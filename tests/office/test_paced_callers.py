"""Callers over their quotas: what of theirs is read, and what others get meanwhile."""

from __future__ import annotations

import asyncio
import math
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from ranker import refusal_pace
from ranker.callers import CallerPolicy
from ranker.errors import OverloadedError
from ranker.office import limited_connection, paced_callers
from ranker.office.callers import CallerCheck
from ranker.office.paced_callers import IN_A_ROW, REFUSALS_AT_ONCE, PacedCaller
from ranker.office.problem import problem
from ranker.office.workers import FORWARDED, REFUSAL
from ranker.quota import Quota
from tests.office.support import ask, served
from tests.waiting import PATIENCE, wait_until

GREEDY, OTHER = "dns:greedy.shop.test", "dns:other.shop.test"
FOREVER = 1000.0
AT_ONCE = int(REFUSALS_AT_ONCE)


class Office:
    """An application behind a check of callers; lists are refused as a worker would, or not.

    A request's path says whose it is, `/greedy` or `/other`; `/drain` has the office drain.

    Attributes:
        over: whether the greedy one is over its quota.
        seconds: how long its requests may take.
        read, refused: how many of its lists were read, and refused.
    """

    def __init__(self) -> None:
        policy = CallerPolicy((GREEDY, OTHER), {GREEDY: Quota(requests_per_second=1.0)})
        self.check = CallerCheck(self._answer, self, (), policy)
        self.over, self.seconds = True, math.inf
        self.read = self.refused = 0

    async def __call__(self, scope, receive, send) -> None:
        is_greedy = scope["path"].startswith("/greedy")
        scope["ranker.certified_names"] = (GREEDY if is_greedy else OTHER,)
        await self.check(scope, receive, send)

    async def _answer(self, scope, receive, send) -> None:
        app = PlainTextResponse("ranked")
        if scope["path"] == "/drain":
            self.check.paced.drain()
        if scope["path"] == "/greedy" and scope["method"] == "POST":
            await Request(scope, receive).body()
            self.read += 1
            if self.over:
                self.refused += 1
                refusal = REFUSAL.get()
                refusal.has_come = True
                refusal.deadline = asyncio.get_running_loop().time() + self.seconds
                app = problem(scope["path"], OverloadedError("over its quota", 0.5))
        await app(scope, receive, send)

    async def rank(self, *_: object) -> bytes:
        """Refuses what has waited, as a worker."""
        assert FORWARDED.get().has_waited
        raise OverloadedError("it has waited", 0.25)

    @property
    def held(self) -> int:
        return len(self.check.paced.holds)


@pytest.fixture
def office() -> Office:
    return Office()


@pytest.fixture
def port(office) -> Iterator[int]:
    with served(office) as port:
        yield port


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held back is held for good, unless something else ends it."""
    monkeypatch.setattr(refusal_pace, "LONGEST_HELD", FOREVER)
    monkeypatch.setattr(paced_callers, "LONGEST_HELD", FOREVER)
    monkeypatch.setattr(paced_callers, "REFUSALS_PER_SECOND", 1 / FOREVER)


def sent(port: int, path: str = "/greedy") -> socket.socket:
    """A connection on which a list has been sent."""
    client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    return client


def status(client: socket.socket) -> int:
    """The status of the answer that comes on it; 0: it is closed without one."""
    return int(client.recv(65536)[9:12] or 0)


def use_up(port: int) -> None:
    """Has the greedy caller refused so often that its next refusal is held back."""
    for _ in range(AT_ONCE):
        assert ask(port, "/greedy", {}).status == 429


@pytest.mark.usefixtures("endless")
def test_nothing_is_read_of_a_caller_while_a_refusal_of_it_is_held(office, port):
    use_up(port)
    with ExitStack() as clients:
        clients.enter_context(sent(port))
        wait_until(lambda: office.held == 1)
        for _ in range(20):
            clients.enter_context(sent(port))
        wait_until(lambda: office.held == 21)
        for _ in range(50):
            assert ask(port, "/other", {}).status == 200
        assert ask(port, "/greedy").status == 200, "what is no list does not wait"
        assert (office.read, office.held) == (AT_ONCE + 1, 21)


@pytest.mark.usefixtures("endless")
def test_whoever_leaves_is_forgotten(office, port):
    use_up(port)
    with sent(port):
        wait_until(lambda: office.held == 1)
        with ExitStack() as clients:
            for _ in range(10):
                clients.enter_context(sent(port))
            wait_until(lambda: office.held == 11)
        wait_until(lambda: office.held == 1)
    wait_until(lambda: office.held == 0)
    with sent(port):
        wait_until(lambda: office.held == 1)
        assert office.read == AT_ONCE + 1, "to leave does not let the next one be read"


@pytest.mark.usefixtures("endless")
def test_a_drain_answers_all_that_is_held(office, port):
    use_up(port)
    with ExitStack() as clients:
        first = clients.enter_context(sent(port))
        wait_until(lambda: office.held == 1)
        others = [clients.enter_context(sent(port)) for _ in range(10)]
        wait_until(lambda: office.held == 11)
        assert ask(port, "/drain").status == 200
        assert status(first) == 429
        assert [status(client) for client in others] == [503] * 10
        assert office.held == 0
        assert ask(port, "/greedy", {}).status in (429, 503), "and nothing is held from then on"


@pytest.mark.usefixtures("endless")
def test_what_has_waited_for_too_long_is_refused_unread(office, port, monkeypatch):
    use_up(port)
    with sent(port):
        wait_until(lambda: office.held == 1)
        monkeypatch.setattr(paced_callers, "LONGEST_HELD", 0.1)
        answer = ask(port, "/greedy", {})
        assert (answer.status, answer.json["detail"]) == (429, "it has waited")
        assert answer.json["retry_after_seconds"] == 0.25
        assert (office.read, office.held) == (AT_ONCE + 1, 1)


@pytest.mark.usefixtures("endless")
def test_a_refusal_is_answered_in_time_for_its_deadline(office, port):
    use_up(port)
    office.seconds = 0.1
    assert ask(port, "/greedy", {}).status == 429


@pytest.mark.usefixtures("endless")
def test_connections_that_are_held_make_room_for_others(office, port):
    use_up(port)
    with ExitStack() as clients:
        clients.enter_context(sent(port))
        wait_until(lambda: office.held == 1)
        for _ in range(limited_connection.MOST_CONNECTIONS - 1):
            clients.enter_context(sent(port))
        wait_until(lambda: office.held == limited_connection.MOST_CONNECTIONS)
        for _ in range(20):
            assert ask(port, "/other", {}).status == 200


def test_what_waited_is_read_once_the_caller_is_below_its_quota(office, port, monkeypatch):
    monkeypatch.setattr(paced_callers, "LONGEST_HELD", FOREVER)
    monkeypatch.setattr(paced_callers, "LONGEST_READING", FOREVER)  # each lets the next one go
    monkeypatch.setattr(paced_callers, "REFUSALS_PER_SECOND", 1.0)
    use_up(port)
    with ExitStack() as clients:
        first = clients.enter_context(sent(port))
        wait_until(lambda: office.refused == AT_ONCE + 1)
        office.over = False
        for _ in range(10):
            sent(port).close()  # whoever leaves does not stop the others
        waiting = [clients.enter_context(sent(port)) for _ in range(30)]
        assert status(first) == 429
        assert [status(client) for client in waiting] == [200] * 30
    assert ask(port, "/greedy", {}).status == 200


def test_of_a_caller_that_is_let_in_many_times_more_are_read_at_a_time():
    async def read_at_a_time() -> list[int]:
        caller = PacedCaller()
        holds = [asyncio.get_running_loop().create_future() for _ in range(100)]
        for hold in holds:
            caller.wait(hold)
        found = []
        for ended in range(3 * IN_A_ROW):
            caller.on_let_in()
            caller.on_end()
            found.append(sum(hold.done() for hold in holds) - ended)
        return found

    found = asyncio.run(read_at_a_time())
    assert found == [*[1] * 9, *[2] * 10, *[3] * 10, 4]


def test_one_that_takes_its_time_does_not_hold_the_others_up(office, port, monkeypatch):
    monkeypatch.setattr(paced_callers, "LONGEST_HELD", FOREVER)
    monkeypatch.setattr(paced_callers, "LONGEST_READING", 0.05)
    use_up(port)
    with ExitStack() as clients:
        first = clients.enter_context(sent(port))
        wait_until(lambda: office.refused == AT_ONCE + 1)
        office.over = False
        slow = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        clients.enter_context(slow)
        slow.sendall(b"POST /greedy HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{")
        last = clients.enter_context(sent(port))
        assert status(first) == 429
        assert status(last) == 200


def test_a_flood_on_many_connections_is_refused_at_the_pace(office, port, monkeypatch):
    rate, clients, enough = 20.0, 8, 30
    monkeypatch.setattr(paced_callers, "REFUSALS_PER_SECOND", rate)
    began = time.monotonic()

    def flood() -> None:
        while office.refused < enough:
            assert ask(port, "/greedy", {}).status == 429

    threads = [threading.Thread(target=flood) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - began
    assert enough <= office.refused <= AT_ONCE + clients + rate * seconds


def test_where_nobody_is_named_each_connection_is_a_caller(office, port, monkeypatch):
    monkeypatch.setattr(paced_callers, "REFUSALS_AT_ONCE", 0.0)
    monkeypatch.setattr(refusal_pace, "LONGEST_HELD", FOREVER)
    monkeypatch.setattr(paced_callers, "REFUSALS_PER_SECOND", 1 / FOREVER)
    office.check.policy = CallerPolicy(per_connection=Quota(requests_per_second=1.0))
    with sent(port):
        wait_until(lambda: office.held == 1)
        with sent(port):
            wait_until(lambda: office.held == 2)
            assert office.read == 2
            office.over = False
            assert ask(port, "/greedy", {}).status == 200
