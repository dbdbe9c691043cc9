"""Both clients, driven alike, and the server that they talk to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from ranker.client import AsyncRankerClient, RankerClient
from ranker.errors import RankerError
from tests.client.fake_server import FakeServer
from tests.waiting import PATIENCE

Action = Callable[[Any], Any]


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    server = FakeServer()
    yield server
    server.stop()


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which of the two clients a test drives."""
    return str(request.param)


@pytest.fixture
def run_all(kind: str) -> Callable[..., list[Any]]:
    """Runs a series of actions on one client, and returns what they gave.

    An action takes the client and calls a method of it, for example
    `lambda client: client.rank(features)`; the names are the same on both.
    Where the deadline is not the test's subject, a busy machine has a minute.
    """

    def threads(target: str, actions: Iterable[Action], **options: Any) -> list[Any]:
        with RankerClient(target, **{"timeout": PATIENCE, **options}) as client:
            return [action(client) for action in actions]

    def aio(target: str, actions: Iterable[Action], **options: Any) -> list[Any]:
        async def main() -> list[Any]:
            async with AsyncRankerClient(target, **{"timeout": PATIENCE, **options}) as client:
                return [await action(client) for action in actions]

        return asyncio.run(main())

    return threads if kind == "threads" else aio


@pytest.fixture
def run(run_all: Callable[..., list[Any]]) -> Callable[..., Any]:
    """Runs one action, as `run_all` does."""
    return lambda target, action, **options: run_all(target, [action], **options)[0]


@pytest.fixture
def submit_all(kind: str) -> Callable[..., list[Any]]:
    """Submits requests to one stream at once; returns their rankings or errors.

    A request is its features, or (features, options). The stream's next uses,
    by `then`, are submitted after all of those are answered.
    """

    def split(request: Any) -> tuple[Any, dict[str, Any]]:
        return request if isinstance(request, tuple) else (request, {})

    def threads(
        target: str, requests: Iterable[Any], then: Iterable[Any] = (), **options: Any
    ) -> list[Any]:
        outcomes: list[Any] = []
        with RankerClient(target, timeout=PATIENCE) as client, client.stream(**options) as lane:
            for batch in (requests, then):
                futures: list[Any] = []
                for features, rank_options in map(split, batch):
                    try:
                        futures.append(lane.submit(features, **rank_options))
                    except RankerError as error:
                        futures.append(error)
                outcomes += [
                    future
                    if isinstance(future, RankerError)
                    else future.exception(PATIENCE) or future.result()
                    for future in futures
                ]
        return outcomes

    def aio(
        target: str, requests: Iterable[Any], then: Iterable[Any] = (), **options: Any
    ) -> list[Any]:
        async def main() -> list[Any]:
            async with (
                AsyncRankerClient(target, timeout=PATIENCE) as client,
                client.stream(**options) as lane,
            ):
                outcomes: list[Any] = []
                for batch in (requests, then):
                    outcomes += await asyncio.gather(
                        *(lane.submit(features, **more) for features, more in map(split, batch)),
                        return_exceptions=True,
                    )
                return outcomes

        return asyncio.run(main())

    return threads if kind == "threads" else aio
