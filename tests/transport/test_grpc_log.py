from __future__ import annotations

import logging

import grpc.aio
import pytest
from grpc._cython import cygrpc

from ranker.transport import grpc_log


@pytest.fixture(autouse=True)
def quiet():
    """As often as servers are made in a process."""
    grpc_log.quieten()
    grpc_log.quieten()
    yield
    grpc_log.LOGGER.filters.clear()


def test_it_is_the_logger_of_grpc_aio():
    assert cygrpc._LOGGER is grpc_log.LOGGER
    assert len(grpc_log.LOGGER.filters) == 1
    assert issubclass(cygrpc.ExecuteBatchError, grpc.aio.InternalError)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        pytest.param(cygrpc.ExecuteBatchError("no caller"), False, id="the-answer-found-nobody"),
        pytest.param(
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text"), False, id="metadata-are-no-text"
        ),
        pytest.param(RuntimeError("a bug"), True, id="a-bug"),
        pytest.param(None, True, id="no-exception"),
    ],
)
def test_what_is_logged(caplog, error, logged):
    with caplog.at_level(logging.ERROR):
        grpc_log.LOGGER.error("raised in core", exc_info=error)
    assert bool(caplog.records) is logged
