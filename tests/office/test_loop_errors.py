from __future__ import annotations

import asyncio
import errno
import os

import pytest

from ranker.office.loop_errors import LOG_SECONDS, LoopErrors


@pytest.fixture
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def full() -> dict[str, object]:
    return {"message": "accept", "exception": OSError(errno.EMFILE, os.strerror(errno.EMFILE))}


def test_an_error_is_logged_once_in_a_while_and_others_beside_it(loop, caplog):
    now = 100.0
    loop.set_exception_handler(LoopErrors(lambda: now))
    for _ in range(1000):
        loop.call_exception_handler(full())
    assert len(caplog.records) == 1
    assert "accept" in caplog.text
    assert "Too many open files" in caplog.text
    loop.call_exception_handler({"message": "a bug", "exception": ValueError("of ours")})
    assert len(caplog.records) == 2
    now += LOG_SECONDS
    loop.call_exception_handler(full())
    assert len(caplog.records) == 3


def test_it_keeps_no_more_errors_than_a_few(loop, caplog):
    errors = LoopErrors(lambda: 100.0)
    loop.set_exception_handler(errors)
    for number in range(1000):
        loop.call_exception_handler({"message": str(number)})
    assert len(caplog.records) == 1000
    assert len(errors._last) <= 100
