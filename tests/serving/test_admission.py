from __future__ import annotations

import pytest

from ranker.serving.admission import (
    HEADROOM,
    HEADROOM_STEP,
    LATE_SHARE,
    LEAST_MEMORY,
    Admission,
    TooLateError,
)


def allows(
    admission: Admission,
    deadline: float,
    ahead: float = 1.0,
    unread: float = 0.0,
    own: float | None = None,
) -> bool:
    """Whether a list with that deadline would be let in at time 0; unread unless `own` is known."""
    try:
        own = admission.least if own is None else own
        admission.check(deadline, 0.0, ahead, unread, own, 1)
    except TooLateError:
        return False
    return True


def test_a_list_has_to_finish_before_its_deadline():
    admission = Admission()
    assert admission.check(HEADROOM[0] * 2.0 + 0.5, 0.0, 2.0, 0.0, 0.4, 1) == 2.0
    with pytest.raises(TooLateError) as caught:
        admission.check(HEADROOM[0] * 2.0 + 0.3, 0.0, 2.0, 0.0, 0.4, 1)
    assert caught.value.retry_after == 2.0
    assert caught.value.in_time


def test_a_retry_is_no_use_after_the_deadline():
    with pytest.raises(TooLateError) as caught:
        Admission().check(1.9, 0.0, 2.0, 0.0, 0.0, 1)
    assert not caught.value.in_time


def test_with_nothing_ahead_all_are_let_in():
    assert allows(Admission(), 0.01, ahead=0.0, own=10.0)


def test_a_list_that_may_have_waited_unread_has_so_much_less_time():
    assert allows(Admission(), HEADROOM[0] + 0.3, unread=0.2)
    assert not allows(Admission(), HEADROOM[0] + 0.1, unread=0.2)


def test_a_list_is_refused_unread_if_none_lately_was_so_short_as_to_be_in_time():
    admission = Admission()
    assert allows(admission, HEADROOM[0] + 0.001)
    for _ in range(LEAST_MEMORY):
        admission.check(1e9, 0.0, 0.0, 0.0, 0.1, 1)
    assert allows(admission, HEADROOM[0] + 0.11)
    assert not allows(admission, HEADROOM[0] + 0.09)
    admission.check(1e9, 0.0, 0.0, 0.0, 0.01, 1)
    assert allows(admission, HEADROOM[0] + 0.02)


def test_headroom_grows_with_every_late_answer_up_to_its_bound():
    admission = Admission()
    assert allows(admission, HEADROOM[0] + 0.01)
    admission.on_end(in_time=False)
    assert not allows(admission, HEADROOM[0] + 0.01)
    assert allows(admission, HEADROOM[0] + HEADROOM_STEP + 0.01)
    for _ in range(1000):
        admission.on_end(in_time=False)
    assert not allows(admission, HEADROOM[1] - 0.01)
    assert allows(admission, HEADROOM[1] + 0.01)


def test_headroom_stays_where_the_allowed_share_is_late():
    admission = Admission()
    admission.on_end(in_time=False)
    for _ in range(round(1.0 / LATE_SHARE)):
        admission.on_end(in_time=True)
    assert allows(admission, HEADROOM[0] + 0.001)
    admission.on_end(in_time=True)
    assert not allows(admission, HEADROOM[0] - 0.001)


def test_pace_follows_the_time_between_batches_while_lists_wait():
    admission = Admission()
    now = 0.0
    for _ in range(100):
        admission.on_more_waiting(now, cost=0.1)
        now += 0.2
        admission.on_batch_start(now)
    assert admission.check(100.0, 0.0, 1.0, 0.0, 0.0, 1) == pytest.approx(2.0, abs=0.001)


def test_pace_is_never_faster_than_predicted():
    admission = Admission()
    for now in range(100):
        admission.on_more_waiting(now, cost=10.0)
        admission.on_batch_start(now + 1.0)
    assert admission.check(100.0, 0.0, 1.0, 0.0, 0.0, 1) == 1.0


def test_one_batch_moves_the_pace_only_so_far():
    admission = Admission()
    admission.on_more_waiting(0.0, cost=0.001)
    admission.on_batch_start(10.0)
    assert admission.check(100.0, 0.0, 1.0, 0.0, 0.0, 1) < 1.5


def test_pace_fades_where_nothing_waits():
    admission = Admission()
    admission.on_more_waiting(0.0, cost=0.001)
    for now in range(100):
        admission.on_batch_start(now)
    assert admission.check(100.0, 0.0, 1.0, 0.0, 0.0, 1) == pytest.approx(1.0, abs=0.001)
