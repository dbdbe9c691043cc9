"""For all tests: onnxruntime's telemetry is off, also where one imports it by itself.

Hypothesis times no example: what else runs on the machine is no fault of the code's. And XGBoost
uses one thread: pytest's processes share the cores, and its threads spin while they wait.
What the tests' modules leave in memory stays to the end: the garbage collector does not look at it.
"""

import gc

import pytest
from hypothesis import settings

import ranker.engine.runtime  # noqa: F401

settings.register_profile("untimed", settings.default, deadline=None)
settings.load_profile("untimed")
gc.disable()  # until all tests are collected


def pytest_collection_finish():
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def one_thread_for_xgboost():
    import xgboost  # here, as the process that only hands out tests need not wait for it

    xgboost.set_config(nthread=1)
