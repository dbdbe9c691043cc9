"""Replays the fuzzer's corpus: the seeds, and every input that once went wrong."""

from pathlib import Path

import pytest

from tests.fuzz.invariants import read_or_refuse

CORPUS = sorted((Path(__file__).parent / "corpus").iterdir())


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_corpus(path):
    forest = read_or_refuse(path.read_bytes())
    assert (forest is not None) == path.name.startswith("sound_")
