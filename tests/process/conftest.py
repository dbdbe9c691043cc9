from __future__ import annotations

import pytest

from ranker.process import model_supply
from tests.process.support import FakeReader, Setup


@pytest.fixture
def s(monkeypatch) -> Setup:
    """What supplies one worker with models, which nobody reads."""
    monkeypatch.setattr(model_supply, "ModelReader", FakeReader)
    return Setup()
