"""grpc.aio loses memory with each call that its caller gives up; ours loses no more than that."""

from __future__ import annotations

import random
import threading
import time

import pytest

from tests.transport.conftest import ToyServer

CALLS = 3000
"""A round of them, by each of four threads."""


def abandon(server: ToyServer, seed: int) -> int:
    """Gives calls up at any moment; returns how many had no answer by then."""
    dice, abandoned = random.Random(seed), 0
    with server.connect() as channel:
        ask = channel.unary_unary("/toy/Busy")
        for _ in range(CALLS):
            call = ask.future(b"0.001")
            time.sleep(dice.random() * 0.008)
            call.cancel()
            abandoned += call.cancelled()
    return abandoned


def lost_per_call(server: ToyServer) -> float:
    """Bytes that a server has allocated for good with each call that is given up."""

    def round_of_calls() -> int:
        abandoned: list[int] = []
        threads = [
            threading.Thread(target=lambda seed=seed: abandoned.append(abandon(server, seed)))
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        time.sleep(2.0)
        return sum(abandoned)

    round_of_calls()  # what is allocated once, and kept
    before = int(server.unary("Allocated"))
    abandoned = round_of_calls() + round_of_calls()
    assert abandoned > CALLS
    lost = (int(server.unary("Allocated")) - before) / abandoned
    print(f"{lost:.1f} bytes with each of {abandoned} calls")
    return lost


@pytest.mark.slow
def test_no_more_is_lost_than_by_a_bare_server():
    lost = []
    for program in (["bare_aio_server.py"], ["toy_server.py", "aio"], ["toy_server.py", "core"]):
        server = ToyServer(program[1:], program[0])
        try:
            if not int(server.unary("Allocated")):
                pytest.skip("the C library does not tell what is allocated")
            lost.append(lost_per_call(server))
        finally:
            server.close()
    bare, aio, core = lost
    assert aio < 1.5 * bare + 10.0
    assert core < 10.0
