"""Both clients' streams, while the client asks the server what a model is."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from ranker.client import AsyncRankerClient, RankerClient
from ranker.v1 import ranking_pb2 as pb
from tests.client.fake_server import FakeServer, a_list
from tests.waiting import PATIENCE, wait_until


def model(version: str) -> pb.Model:
    categories = [pb.FeatureCategories(feature=0, texts=("crime", "drama"))]
    return pb.Model(
        name="fake", version=version, feature_names=("genre", "price"), categories=categories
    )


FRAME = pd.DataFrame({"genre": ["drama", "crime"], "price": [1.0, 2.0]})


class Descriptions:
    """The server's answers to GetModel, held back for one version until `go` is set."""

    def __init__(self, fake: FakeServer) -> None:
        self.go = threading.Event()
        self.version = ""
        self._fake = fake
        fake.models = [model("7")]
        fake.before_describing = lambda version: version != self.version or self.go.wait(PATIENCE)

    def wait_until_asked(self) -> None:
        wait_until(lambda: [version for _, version in self._fake.asked if version == self.version])


@pytest.fixture
def descriptions(fake):
    held = Descriptions(fake)
    yield held
    held.go.set()


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition, as `wait_until` does, while other tasks go on."""
    await asyncio.get_running_loop().run_in_executor(None, wait_until, condition)


def test_an_id_that_is_made_up_is_free_when_its_request_is_sent(fake, descriptions, kind):
    """Another request may take it as long as the client asks for the model."""
    received = []

    def when_both_have_come(requests, _context):
        for request in requests:
            received.append(request)
            if len(received) == 2:
                yield from map(fake.answer, received)

    def threads():
        with (
            RankerClient(fake.target, timeout=PATIENCE) as client,
            client.stream() as lane,
            ThreadPoolExecutor(1) as others,
        ):
            framed = others.submit(lambda: lane.submit(FRAME).result())
            descriptions.wait_until_asked()
            taken = lane.submit(a_list(3), request_id="1")
            descriptions.go.set()
            return framed.result(), taken.result()

    async def aio():
        async with (
            AsyncRankerClient(fake.target, timeout=PATIENCE) as client,
            client.stream() as lane,
        ):
            framed = asyncio.create_task(lane.submit(FRAME))
            await until(lambda: fake.asked)
            taken = asyncio.create_task(lane.submit(a_list(3), request_id="1"))
            await until(lambda: received)
            descriptions.go.set()
            return await framed, await taken

    fake.stream = when_both_have_come
    framed, taken = threads() if kind == "threads" else asyncio.run(aio())
    assert (taken.request_id, taken.indices[0]) == ("1", 3)
    assert framed.request_id not in ("", "1")
    assert framed.indices.tolist() == [0, 1]
