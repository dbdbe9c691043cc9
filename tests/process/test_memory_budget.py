"""A worker's memory, shared out; and the limit that it comes from."""

from __future__ import annotations

from ranker.process import memory_budget
from ranker.process.memory_budget import CALL, CONNECTION, LEAST, MOST, OTHERS, MemoryBudget

MIB = 2**20


def test_one_worker_has_what_the_others_leave():
    budget = MemoryBudget.of_worker(512 * MIB, 1, 80 * MIB)
    assert budget.callers == int(0.9 * 512 * MIB) - OTHERS - 80 * MIB


def test_workers_share():
    one = MemoryBudget.of_worker(4096 * MIB, 1, 0)
    four = MemoryBudget.of_worker(4096 * MIB, 4, 0)
    assert four.callers == one.callers // 4


def test_all_that_is_bounded_fits_below_the_second_mark():
    budget = MemoryBudget.of_worker(1024 * MIB, 1, 80 * MIB)
    limits = budget.limits(30.0)
    bounded = (
        budget.waiting + limits.connections * CONNECTION + limits.calls * CALL + limits.unsent_bytes
    )
    assert budget.at_rest + bounded <= budget.overfull
    assert budget.at_rest < budget.full < budget.overfull < budget.at_rest + budget.callers
    assert limits.message_seconds == 30.0


def test_callers_get_some_even_where_there_is_no_room():
    assert MemoryBudget.of_worker(100 * MIB, 1, 90 * MIB).callers == LEAST


def test_models_that_hold_more_move_the_marks_and_leave_callers_less():
    budget = MemoryBudget.of_worker(1024 * MIB, 1, 80 * MIB)
    larger = budget.with_models(200 * MIB)
    assert larger.at_rest == 280 * MIB
    assert larger.callers == budget.callers - 200 * MIB
    assert larger.full == 280 * MIB + larger.callers // 2
    assert budget.with_models(2000 * MIB).callers == LEAST
    assert larger.with_models(-200 * MIB) == budget


def test_a_large_machine_is_not_filled_unasked(monkeypatch):
    monkeypatch.setattr(memory_budget, "memory_limit", lambda: 2**40)
    assert MemoryBudget.of_worker(0, 1, 0).callers == MOST
    assert MemoryBudget.of_worker(2**40, 1, 0).callers > MOST
