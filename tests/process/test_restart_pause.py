from __future__ import annotations

from ranker.process.restart_pause import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    STEADY_SECONDS,
    RestartPause,
)


def test_pauses_double_up_to_the_longest():
    pause = RestartPause()
    assert [pause.next() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]
    assert (FIRST_PAUSE, LONGEST_PAUSE) == (0.5, 4.0)


def test_only_a_process_that_lived_long_makes_the_next_pause_short():
    pause = RestartPause()
    for _ in range(3):
        pause.on_end(STEADY_SECONDS - 0.1)
        pause.next()
    assert pause.next() == LONGEST_PAUSE
    pause.on_end(STEADY_SECONDS)
    assert pause.next() == FIRST_PAUSE
