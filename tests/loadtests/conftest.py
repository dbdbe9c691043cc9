from tests.benchmarks.conftest import booster, model, server

__all__ = ["booster", "model", "server"]
