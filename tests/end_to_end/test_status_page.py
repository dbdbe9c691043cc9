"""What the status page is told."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from ranker.errors import RankerError
from ranker.office.status_page import MOST_VIEWERS
from tests.end_to_end.conftest import on_one_transport
from tests.office.support import ask
from tests.waiting import PATIENCE, wait_until

pytestmark = on_one_transport


class Events:
    """A stream of server-sent events."""

    def __init__(self, port: int, last: str = "") -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._connection.request("GET", "/events", headers={"Last-Event-ID": last} if last else {})
        self.answer = self._connection.getresponse()
        self._seen: list[tuple[str, object]] = []

    def __iter__(self) -> Iterator[tuple[str, str, object]]:
        """The id, kind and data of each."""
        fields: dict[str, str] = {}
        for line in self.answer:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name:
                fields[name] = value
            else:
                yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                fields = {}

    def until(self, kind: str, condition=lambda _: True):
        """The data of the first event of a kind that has something.

        It may have come while another was waited for: kinds of events come in any order.
        """
        for event, data in self._seen:
            if event == kind and condition(data):
                return data
        limit = time.monotonic() + PATIENCE
        for _, event, data in self:
            self._seen.append((event, data))
            if event == kind and condition(data):
                return data
            assert time.monotonic() < limit, data
        raise AssertionError("the stream has ended")

    def close(self) -> None:
        self.answer.close()
        self._connection.close()


def test_it_tells_what_is_served_and_what_was_ranked(server, client, truth):
    with closing(Events(server.http_port)) as events:
        [model] = events.until("models")["models"]
        assert (model["name"], model["version"], model["engine"]) == ("books", "7", "simd")
        client.rank(truth.rows[:10])
        with pytest.raises(RankerError):
            client.rank(truth.rows[:10], model="films", request_id="of-films")
        points = events.until("points", lambda points: points[-1]["requests"] > 0)
        assert points[-1]["models"]["books@7"]["p99"] > 0
        assert points[-1]["serving"] == 1
        assert len(points[-1]["utilization"]) == 1

        def of_films(errors):  # other tests have their own, as they share the server
            return [each for each in errors["requests"] if each.get("request_id") == "of-films"]

        [failed] = of_films(events.until("errors", of_films))
        assert (failed["code"], failed["model"]) == ("NOT_FOUND", "unknown")


def test_a_page_that_comes_back_is_told_what_is_new(server):
    with closing(Events(server.http_port)) as events:
        first = next(number for number, kind, _ in events if kind == "points")
    with closing(Events(server.http_port, first)) as events:
        points = events.until("points")
    assert all(point["id"] > int(first) for point in points)


def test_who_asks_for_the_head_alone_keeps_no_page_open(server):
    with ExitStack() as held:
        for _ in range(MOST_VIEWERS):
            address = ("127.0.0.1", server.http_port)
            client = held.enter_context(socket.create_connection(address, PATIENCE))
            client.sendall(b"HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n")
            found = client.recv(4096)
            assert found.startswith(b"HTTP/1.1 200 ")
            assert b"text/event-stream" in found
        with closing(Events(server.http_port)) as events:
            assert events.answer.status == 200


def test_too_many_pages_are_refused_and_none_keeps_a_server_from_ending(start):
    server = start()
    port = server.http_port
    events = [Events(port) for _ in range(MOST_VIEWERS)]
    try:
        for each in events:
            each.until("models")
        refused = ask(port, "/events")
        assert refused.status == 429
        assert "retry-after" in refused.headers
    finally:
        for each in events:
            each.close()

    def there_is_room() -> bool:
        with closing(Events(port)) as again:
            return again.answer.status == 200

    wait_until(there_is_room, "the server to notice who has gone")
    with closing(Events(port)) as viewer:
        viewer.until("models")
        assert server.stop() == 0


def test_the_page_may_do_nothing_but_ask_here(server):
    page = ask(server.http_port, "/")
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; connect-src 'self'")
    assert "unsafe" not in policy
    assert b"http://" not in page.body.replace(b"http://www.w3.org/2000/svg", b"")
    assert b"https://" not in page.body
