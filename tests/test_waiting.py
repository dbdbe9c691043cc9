"""Waiting ends with what is waited for, or says what did not happen."""

from __future__ import annotations

import time

import pytest

from tests.waiting import wait_until


def test_what_the_condition_gives_is_returned():
    given = iter([[], None, 0, ["found"]])
    assert wait_until(lambda: next(given)) == ["found"]


def test_it_is_asked_once_more_after_the_time_has_passed():
    given = iter([False, "late"])

    def look() -> object:
        time.sleep(0.05)  # as where this process stands still
        return next(given)

    assert wait_until(look, seconds=0.02) == "late"


@pytest.mark.parametrize(
    ("what", "said"),
    [
        pytest.param("", r"^waited 0\.01 s in vain$", id="nothing"),
        pytest.param("rain", r"^waited 0\.01 s in vain for rain$", id="words"),
        pytest.param(lambda: [1, 2], r"in vain for \[1, 2\]$", id="function"),
    ],
)
def test_what_did_not_happen_is_said(what, said):
    with pytest.raises(AssertionError, match=said):
        wait_until(lambda: False, what, seconds=0.01)
