from __future__ import annotations

import psutil
import pytest

from ranker.process.preparation import NICENESS, Preparation
from ranker.process.settings import Settings
from ranker.repository.wanted import Wanted


@pytest.mark.parametrize(
    ("known", "more"), [((), 0), (("books@1@00",), NICENESS)], ids=["none-serves", "others-do"]
)
def test_it_is_nice_to_workers_that_serve(known, more):
    preparation = Preparation(Wanted(()), known, Settings(models=()))
    try:
        process = psutil.Process(preparation._child.pid)
        assert process.nice() == psutil.Process().nice() + more
        while not preparation.done:
            preparation.look()
        assert preparation.failure is None
    finally:
        preparation.close()
