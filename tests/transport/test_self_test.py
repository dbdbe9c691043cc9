"""A core that does something else than ours is found out."""

from __future__ import annotations

import sys

import pytest

from ranker.transport import self_test


def test_the_installed_release_passes():
    assert self_test.failure() is None


CHANGES = [
    pytest.param(
        "core_call.SendMessage = lambda message, flags: real.SendMessage(message[:1], flags)",
        "an answer is not the one that was sent",
        id="messages-are-cut",
    ),
    pytest.param("core_call._NEVER = 0.0", "a deadline is not the caller's", id="no-deadlines"),
    pytest.param(
        "core_call.SendStatus = lambda _, *others: real.SendStatus(None, *others)",
        "a refusal has no details",
        id="no-trailers",
    ),
    pytest.param(
        "core_call.ReceiveClose = type('C', (real.ReceiveClose,), {'cancelled': lambda _: False})",
        "an abandoned call ends with another code",
        id="nobody-is-said-to-have-gone",
    ),
    pytest.param(
        "core_call.StreamCall._written = lambda *_: None",
        "a call ended with DEADLINE_EXCEEDED: ",
        id="what-is-sent-is-not-reported",
    ),
    pytest.param(
        "core_call.SendMessage = lambda message: real.SendMessage(message, 0)",
        "a call ended with DEADLINE_EXCEEDED: ",
        id="another-signature",
    ),
    pytest.param(
        "core_call.UnaryCall._over = lambda *_: None",
        "an abandoned call does not end",
        id="no-end-is-reported",
    ),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_a_core_that_does_something_else_fails(monkeypatch, change, said):
    program = (
        "from ranker.transport import core_api as real, core_call, self_test\n"
        f"self_test._CALL_SECONDS = 3.0\n{change}\nself_test.main()"
    )
    monkeypatch.setattr(self_test, "COMMAND", [sys.executable, "-c", program])
    failure = self_test.failure()
    assert failure is not None
    assert failure.startswith(said)
