"""Both clients' streams, while the client asks the server what a model is."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from ranker.client import AsyncRankerClient, RankerClient
from ranker.errors import CancelledError, DeadlineError, UnavailableError
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


def test_answers_are_handed_out_while_the_client_asks_for_a_model(fake, descriptions, kind):
    """Another version answers a data frame; what came after that answer does not wait for it."""
    descriptions.version = "8"

    def threads():
        with RankerClient(fake.target, timeout=PATIENCE) as client, client.stream() as lane:
            lane.submit(FRAME).result()
            fake.models = [model("8"), model("7")]
            framed = lane.submit(FRAME)
            descriptions.wait_until_asked()
            plain = [lane.submit(a_list(i)).result(PATIENCE / 2) for i in range(3)]
            assert not framed.done()
            descriptions.go.set()
            return plain, framed.result()

    async def aio():
        async with (
            AsyncRankerClient(fake.target, timeout=PATIENCE) as client,
            client.stream() as lane,
        ):
            await lane.submit(FRAME)
            fake.models = [model("8"), model("7")]
            framed = asyncio.create_task(lane.submit(FRAME))
            await until(lambda: ("fake", "8") in fake.asked)
            plain = await asyncio.gather(*(lane.submit(a_list(i)) for i in range(3)))
            assert not framed.done()
            descriptions.go.set()
            return plain, await framed

    plain, framed = threads() if kind == "threads" else asyncio.run(aio())
    assert [ranking.indices[0] for ranking in plain] == [0, 1, 2]
    assert framed.version == "8"


def test_a_deadline_ends_while_the_client_asks_for_a_model(fake, descriptions):
    """Its own, and not that of the request whose turn it is."""
    descriptions.version = "8"
    with RankerClient(fake.target, timeout=PATIENCE) as client, client.stream() as lane:
        lane.submit(FRAME).result()
        fake.models = [model("8"), model("7")]
        patient = lane.submit(FRAME)
        descriptions.wait_until_asked()
        late = lane.submit(FRAME, timeout=0.3)
        assert isinstance(late.exception(PATIENCE / 2), DeadlineError)
        assert not patient.done()
        descriptions.go.set()
        assert patient.result().version == "8"


def test_close_waits_for_a_model_that_the_client_asks_for(fake, descriptions):
    """Also if the server has ended the stream; such an answer came, and counts."""
    descriptions.version = "8"

    def ends_after_two(requests, _context):
        yield from map(fake.answer, itertools.islice(requests, 2))

    fake.stream = ends_after_two
    with RankerClient(fake.target, timeout=PATIENCE) as client:
        with client.stream() as lane:
            lane.submit(FRAME).result()
            fake.models = [model("8"), model("7")]
            framed = lane.submit(FRAME)
            descriptions.wait_until_asked()
            wait_until(lambda: is_closed(lane))
            threading.Timer(0.2, descriptions.go.set).start()
        assert framed.done()
        assert framed.result().version == "8"


def is_closed(lane) -> bool:
    try:
        lane.submit(a_list(0), timeout=0.1)
    except UnavailableError:
        return True
    return False


def test_a_client_that_is_closed_while_it_asks_for_a_model(fake, descriptions):
    descriptions.version = "8"
    client = RankerClient(fake.target, timeout=PATIENCE)
    with client.stream() as lane:
        lane.submit(FRAME).result()
        fake.models = [model("8"), model("7")]
        framed = lane.submit(FRAME)
        descriptions.wait_until_asked()
        client.close()
    assert isinstance(framed.exception(PATIENCE), CancelledError)
