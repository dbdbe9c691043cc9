"""The bodies of requests: one is understood at a time, and there is room for so many."""

from __future__ import annotations

import asyncio

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from ranker.errors import OverloadedError
from ranker.office import bodies as module
from ranker.office.bodies import JSON, Bodies, media_type
from ranker.office.paced_callers import CONNECTION


def test_between_two_bodies_the_loop_does_what_else_there_is():
    order: list[str] = []

    async def understand(bodies: Bodies, name: str) -> None:
        async with bodies.turn():
            order.append(name)

    async def else_() -> None:
        for _ in range(4):
            order.append("else")
            await asyncio.sleep(0)

    async def main() -> None:
        bodies = Bodies()
        await asyncio.gather(*(understand(bodies, name) for name in "abc"), else_())

    asyncio.run(main())
    assert "else" in order[order.index("a") : order.index("b")]
    assert "else" in order[order.index("b") : order.index("c")]


class Client:
    """A connection whose body comes in pieces."""

    hold = None

    def __init__(self) -> None:
        self.is_cut_off = False
        self.pieces = asyncio.Queue[bytes]()

    def cut_off(self) -> None:
        self.is_cut_off = True

    def request(self) -> Request:
        async def receive() -> dict[str, object]:
            return {"type": "http.request", "body": await self.pieces.get(), "more_body": True}

        scope = {"type": "http", "method": "POST", "headers": [], CONNECTION: self}
        return Request(scope, receive)


@pytest.mark.parametrize("seconds", [0.0, 600.0], ids=["long-ago", "just-now"])
def test_a_body_that_does_not_end_makes_room_for_others(monkeypatch, seconds):
    """If it has begun long ago."""
    monkeypatch.setattr(module, "MOST_BYTES_IN_ALL", 1000)
    monkeypatch.setattr(module, "_ARRIVAL_SECONDS", seconds)

    async def main() -> tuple[bool, bool]:
        bodies, first, second = Bodies(), Client(), Client()

        async def read(client: Client) -> None:
            with bodies.room() as body:
                await body.read(client.request(), JSON)

        slow = asyncio.create_task(read(first))
        first.pieces.put_nowait(bytes(900))
        await asyncio.sleep(0.01)
        second.pieces.put_nowait(bytes(200))
        with pytest.raises(OverloadedError, match="no room"):
            await read(second)
        slow.cancel()
        return first.is_cut_off, second.is_cut_off

    assert asyncio.run(main()) == (seconds == 0.0, False)


def of_type(text: str) -> Request:
    headers = [(b"content-type", text.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers})


@pytest.mark.parametrize(
    "text",
    [
        "application/json",
        "Application/JSON;",
        "application/json; charset=UTF-8",
        'application/json;charset="utf-8"',
        "application/json; x=y",
        "application/json; x=y; charset=utf8; z",
    ],
)
def test_of_parameters_only_the_charset_counts(text: str):
    assert media_type(of_type(text), JSON) == JSON


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text/plain",
        "application/json; charset=latin-1",
        "application/json; x=y; charset=utf-16",
        "application/json; charset=utf-8; charset=latin-1",
    ],
)
def test_a_body_of_another_type_is_refused(text: str):
    with pytest.raises(HTTPException) as caught:
        media_type(of_type(text), JSON)
    assert caught.value.status_code == 415
