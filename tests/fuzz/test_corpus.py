"""Replays the fuzzer's corpus: the seeds, and every input that once went wrong."""

from pathlib import Path

import pytest

from ranker.forest.onnx import lists
from tests.fuzz.invariants import read_or_refuse

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("min_bytes", [0, lists.MIN_BYTES], ids="lists-from-{}-bytes".format)
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path, min_bytes, monkeypatch):
    monkeypatch.setattr(lists, "MIN_BYTES", min_bytes)
    forest = read_or_refuse(path.read_bytes())
    assert (forest is not None) == path.name.startswith("sound_")
