"""Both clients' streams: answers find their requests, however many, until they are closed."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time

import numpy as np
import pytest
from google.protobuf import any_pb2

from ranker.client import AsyncRankerClient, RankerClient, aio_stream, stream
from ranker.errors import DeadlineError, InvalidRequestError, OverloadedError, UnavailableError
from ranker.status import to_status
from ranker.v1 import ranking_pb2 as pb
from tests.client.fake_server import a_list
from tests.waiting import PATIENCE


def refused(request, error):
    """An answer that carries an error, as a stream's answers do."""
    status = to_status(error)
    details = [any_pb2.Any.FromString(detail.SerializeToString()) for detail in status.details]
    return pb.RankResponse(
        request_id=request.request_id,
        status=pb.Status(code=status.code, message=status.message, details=details),
    )


def test_answers_find_their_requests(fake, submit_all):
    def backwards(requests, _context):
        return map(fake.answer, reversed(list(itertools.islice(requests, 20))))

    fake.stream = backwards
    rankings = submit_all(fake.target, [a_list(i % 5) for i in range(20)])
    assert [ranking.indices[0] for ranking in rankings] == [i % 5 for i in range(20)]
    assert len({ranking.request_id for ranking in rankings}) == 20


def test_options_travel(fake, submit_all):
    seen = []

    def note(requests, _context):
        for request in requests:
            seen.append(request)
            yield fake.answer(request)

    fake.stream = note
    options = {"request_id": "mine", "top_k": 2, "context": {"age": 1.0}, "timeout": PATIENCE}
    options["explain"] = 1
    ranking = submit_all(fake.target, [(a_list(3), options)])[0]
    assert ranking.request_id == "mine"
    assert ranking.indices.tolist() == [3, 0]
    assert (seen[0].top_k, seen[0].explain, len(ranking.explanations)) == (2, 1, 1)
    assert list(seen[0].context.feature_names) == ["age"]
    assert 500 * PATIENCE < seen[0].deadline_ms <= 1000 * PATIENCE


def test_an_error_belongs_to_its_request(fake, submit_all):
    errors = {
        "bad": InvalidRequestError("top_k", "expected 0 (all) or more, got -1"),
        "busy": OverloadedError("queue is full", 0.5),
    }

    def some_refused(requests, _context):
        for request in requests:
            error = errors.get(request.request_id)
            yield refused(request, error) if error else fake.answer(request)

    fake.stream = some_refused
    ids = ["a", "bad", "b", "busy", "c"]
    outcomes = submit_all(fake.target, [(a_list(4), {"request_id": each}) for each in ids])
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "Ranking",
        "InvalidRequestError",
        "Ranking",
        "OverloadedError",
        "Ranking",
    ]
    assert outcomes[1].field == "top_k"
    assert outcomes[3].retry_after == 0.5


def test_in_flight_is_bounded(fake, submit_all):
    """The server answers when four wait, and looks whether a fifth comes."""
    most = 0

    def in_fours(requests, _context):
        nonlocal most
        waiting = []
        received = threading.Semaphore(0)

        def read():
            for request in requests:
                waiting.append(request)
                received.release()

        threading.Thread(target=read, daemon=True).start()
        for answered in range(20):
            while len(waiting) < min(answered + 4, 20):
                received.acquire(timeout=PATIENCE)
            time.sleep(0.02)
            most = max(most, len(waiting) - answered)
            yield fake.answer(waiting[answered])

    fake.stream = in_fours
    rankings = submit_all(
        fake.target, [(a_list(i % 5), {"timeout": PATIENCE}) for i in range(20)], max_in_flight=4
    )
    assert [ranking.indices[0] for ranking in rankings] == [i % 5 for i in range(20)]
    assert most == 4


def test_an_id_in_flight_twice(fake, submit_all):
    def when_another_has_come(requests, _context):
        yield from [fake.answer(request) for request in itertools.islice(requests, 2)]

    fake.stream = when_another_has_come
    ids = ["x", "x", "another"]
    first, second, another = submit_all(
        fake.target, [(a_list(i), {"request_id": each}) for i, each in enumerate(ids)]
    )
    assert (first.indices[0], another.indices[0]) == (0, 2)
    assert isinstance(second, InvalidRequestError)
    assert second.field == "request_id"


def test_an_id_whose_answer_may_still_come(fake, submit_all):
    """An answer that comes late is not taken for another request's."""

    def late(requests, _context):
        yield from [fake.answer(request) for request in itertools.islice(requests, 2)]
        yield from map(fake.answer, requests)

    fake.stream = late
    outcomes = submit_all(
        fake.target,
        [(a_list(0), {"request_id": "x", "timeout": 2.0})],
        then=[(a_list(i), {"request_id": each}) for i, each in enumerate(["x", "y", "x"], 1)],
        max_in_flight=1,
    )
    assert isinstance(outcomes[0], DeadlineError)
    assert isinstance(outcomes[1], InvalidRequestError)
    assert outcomes[1].field == "request_id"
    assert [ranking.indices[0] for ranking in outcomes[2:]] == [2, 3]


def test_an_id_that_is_made_up_is_nobody_elses(fake, submit_all):
    def when_both_have_come(requests, _context):
        yield from [fake.answer(request) for request in itertools.islice(requests, 2)]

    fake.stream = when_both_have_come
    rankings = submit_all(fake.target, [(a_list(0), {"request_id": "1"}), a_list(1)])
    assert [ranking.indices[0] for ranking in rankings] == [0, 1]


def test_a_request_that_cannot_be_sent(fake, submit_all):
    outcomes = submit_all(fake.target, [np.zeros(3), a_list(2)])
    assert isinstance(outcomes[0], InvalidRequestError)
    assert outcomes[1].indices[0] == 2


@pytest.fixture
def no_grace(monkeypatch):
    """A closed stream's requests are answered because close() waits for them, and not by grace."""
    for module in (stream, aio_stream):
        monkeypatch.setattr(module, "CLOSE_GRACE", 0.0)


@pytest.mark.usefixtures("no_grace")
def test_close_waits_for_answers(fake):
    def slow(requests, _context):
        for request in requests:
            time.sleep(0.05)
            yield fake.answer(request)

    fake.stream = slow
    with RankerClient(fake.target) as client:
        with client.stream() as lane:
            futures = [lane.submit(a_list(i), timeout=PATIENCE) for i in range(4)]
        assert all(future.done() for future in futures)
        assert [future.result().indices[0] for future in futures] == [0, 1, 2, 3]
        with pytest.raises(UnavailableError, match="closed"):
            lane.submit(a_list(0))


@pytest.mark.usefixtures("no_grace")
def test_aio_close_waits_for_answers(fake):
    def slow(requests, _context):
        for request in requests:
            time.sleep(0.05)
            yield fake.answer(request)

    fake.stream = slow

    async def main():
        async with AsyncRankerClient(fake.target) as client:
            async with client.stream() as lane:
                tasks = [
                    asyncio.create_task(lane.submit(a_list(i), timeout=PATIENCE)) for i in range(4)
                ]
                await asyncio.sleep(0.02)
            assert [task.result().indices[0] for task in tasks] == [0, 1, 2, 3]
            with pytest.raises(UnavailableError, match="closed"):
                await lane.submit(a_list(0))

    asyncio.run(main())


def test_aio_cancelling_one_request_leaves_the_others(fake):
    go = fake.hold_streams()

    async def main():
        async with (
            AsyncRankerClient(fake.target, timeout=PATIENCE) as client,
            client.stream() as lane,
        ):
            first = asyncio.create_task(lane.submit(a_list(1)))
            second = asyncio.create_task(lane.submit(a_list(2)))
            await asyncio.sleep(0.05)
            first.cancel()
            go.set()
            assert (await second).indices[0] == 2
            assert first.cancelled()

    asyncio.run(main())


def test_no_thread_is_left_behind(fake):
    before = set(threading.enumerate())
    with RankerClient(fake.target, timeout=PATIENCE) as client, client.stream() as lane:
        lane.submit(a_list(0)).result(PATIENCE)
    left = {t.name for t in set(threading.enumerate()) - before if t.name.startswith("rank-stream")}
    assert not left


@pytest.mark.parametrize("most", [0, -1])
def test_a_stream_on_which_nothing_may_be_in_flight(fake, run, most):
    with pytest.raises(ValueError, match=f"max_in_flight: expected at least 1, got {most}"):
        run(fake.target, lambda client: client.stream(max_in_flight=most))
