"""Both clients, closed: each call ends with an error of ours, that in flight and the next."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ranker.client import AsyncRankerClient, RankerClient
from ranker.errors import CancelledError, RankerError, UnavailableError
from tests.client.fake_server import a_list
from tests.waiting import PATIENCE, wait_until

CALLS = {
    "rank": lambda client: client.rank(a_list(0)),
    "get_model": lambda client: client.get_model(),
    "list_models": lambda client: client.list_models(),
    "wait_ready": lambda client: client.wait_ready(),
    "stream": lambda client: client.stream(),
}


@pytest.fixture
def held(fake):
    """Rank, held back until the test is over."""
    go = threading.Event()
    fake.steps.append(lambda _context: go.wait(PATIENCE))
    yield
    go.set()


@pytest.fixture
def held_streams(fake):
    """Likewise what comes on streams."""
    go = fake.hold_streams()
    yield
    go.set()


async def with_rank_in_flight(fake, then) -> tuple[asyncio.Task, BaseException | None]:
    """What becomes of a task that ranks while `then` is called with the client and it."""
    client = AsyncRankerClient(fake.target, timeout=PATIENCE)
    task = asyncio.create_task(client.rank(a_list(0)))
    await asyncio.get_running_loop().run_in_executor(None, wait_until, lambda: fake.attempts)
    await then(client, task)
    [error] = await asyncio.gather(task, return_exceptions=True)
    await client.close()
    return task, error


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_on_a_closed_client(fake, kind, call):
    def threads() -> None:
        client = RankerClient(fake.target)
        client.close()
        call(client)

    async def aio() -> None:
        client = AsyncRankerClient(fake.target)
        await client.close()
        await call(client)

    with pytest.raises(UnavailableError, match="the client is closed"):
        threads() if kind == "threads" else asyncio.run(aio())


@pytest.mark.usefixtures("held")
def test_a_call_in_flight(fake, kind):
    def threads() -> BaseException | None:
        client = RankerClient(fake.target, timeout=PATIENCE)
        with ThreadPoolExecutor(1) as others:
            call = others.submit(client.rank, a_list(0))
            wait_until(lambda: fake.attempts)
            client.close()
            return call.exception(PATIENCE)

    async def aio() -> BaseException | None:
        task, error = await with_rank_in_flight(fake, lambda client, _task: client.close())
        assert not task.cancelled()
        return error

    error = threads() if kind == "threads" else asyncio.run(aio())
    assert type(error) is CancelledError


@pytest.mark.usefixtures("held_streams")
@pytest.mark.parametrize("is_closing", [False, True], ids=["open", "closing"])
def test_a_request_in_flight_on_a_stream(fake, kind, is_closing):
    """And what is submitted later. Or the stream is being closed, and waits for the answer."""

    def threads() -> list[BaseException | None]:
        client = RankerClient(fake.target, timeout=PATIENCE)
        lane = client.stream()
        future = lane.submit(a_list(0))
        wait_until(lambda: fake.streamed)
        with ThreadPoolExecutor(1) as others:
            if is_closing:
                others.submit(lane.close)
                wait_until(lambda: lane._closing)
            client.close()
            errors = [future.exception(PATIENCE)]
        if not is_closing:
            with pytest.raises(RankerError) as later:
                lane.submit(a_list(1))
            errors.append(later.value)
        lane.close()
        return errors

    async def aio() -> list[BaseException | None]:
        client = AsyncRankerClient(fake.target, timeout=PATIENCE)
        lane = client.stream()
        tasks = [asyncio.create_task(lane.submit(a_list(0)))]
        await asyncio.get_running_loop().run_in_executor(None, wait_until, lambda: fake.streamed)
        closing = asyncio.create_task(lane.close()) if is_closing else None
        await asyncio.sleep(0)
        await client.close()
        await asyncio.wait(tasks)
        if not is_closing:
            tasks.append(asyncio.create_task(lane.submit(a_list(1))))
        errors = await asyncio.gather(*tasks, return_exceptions=True)
        await (closing or lane.close())
        return errors

    errors = threads() if kind == "threads" else asyncio.run(aio())
    assert {type(error) for error in errors} == {CancelledError}


def test_a_call_that_is_to_be_made_again(fake, kind):
    """The client is closed in the pause before that."""
    fake.fail(UnavailableError("draining"), times=1000)

    def threads() -> BaseException | None:
        client = RankerClient(fake.target, timeout=PATIENCE)
        with ThreadPoolExecutor(1) as others:
            call = others.submit(client.rank, a_list(0))
            wait_until(lambda: len(fake.attempts) > 3)
            client.close()
            return call.exception(PATIENCE)

    async def aio() -> BaseException | None:
        async def close_later(client, _task):
            while len(fake.attempts) <= 3:
                await asyncio.sleep(0.01)
            await client.close()

        return (await with_rank_in_flight(fake, close_later))[1]

    error = threads() if kind == "threads" else asyncio.run(aio())
    assert isinstance(error, RankerError)


@pytest.mark.usefixtures("held")
def test_a_task_that_is_cancelled_is_cancelled(fake):
    """Also if the client is closed then."""

    async def cancel_and_close(client, task):
        task.cancel()
        await client.close()

    task, error = asyncio.run(with_rank_in_flight(fake, cancel_and_close))
    assert task.cancelled()
    assert isinstance(error, asyncio.CancelledError)


@pytest.mark.usefixtures("held")
def test_a_time_limit_of_asyncio_stays_one(fake):
    async def main() -> None:
        async with AsyncRankerClient(fake.target, timeout=PATIENCE) as client, asyncio.timeout(0.2):
            await client.rank(a_list(0))

    with pytest.raises(TimeoutError):
        asyncio.run(main())
