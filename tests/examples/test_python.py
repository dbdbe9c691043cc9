from __future__ import annotations

import re
import subprocess
import sys

import numpy as np

from tests.examples.conftest import BOOKS, EXAMPLES, printed, run_python

PYTHON = EXAMPLES / "python"


def test_rank(server, best_three):
    assert printed(run_python(PYTHON / "rank.py", server.address)) == best_three


def test_rank_shows_the_order_of_retrieval_where_there_is_no_server():
    command = [sys.executable, PYTHON / "rank.py", "127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines() == list(BOOKS)
    assert done.stderr.startswith("not ranked: ")


def test_rank_asyncio(server, score):
    text = run_python(PYTHON / "rank_asyncio.py", server.address)
    new, old = text.removeprefix("new reader\n").split("old reader\n")
    books = [dict(book) for book in BOOKS.values()]
    books[2]["genre_affinity"] = 0.01
    unknown = [{k: v for k, v in book.items() if k != "genre_affinity"} for book in books]
    for answer, of_reader in ((new, unknown), (old, books)):
        scores = score(*of_reader)
        best = np.argsort(-scores, kind="stable")[:3]
        expected = [(f"{scores[index]:.4f}", list(BOOKS)[index]) for index in best]
        assert printed(answer) == expected


def test_rank_stream(server, score):
    text = run_python(PYTHON / "rank_stream.py", server.address)
    random = np.random.default_rng(1)
    expected = []
    for number in range(100):
        affinity = random.random(50)
        age, rate = random.integers(1, 2000, 50), random.random(50)
        scores = score(
            *(
                {"genre_affinity": a, "recency_days": d, "completion_rate": r}
                for a, d, r in zip(affinity, age, rate, strict=True)
            )
        )
        best = int(np.argmax(scores))
        expected.append((str(number), str(best), f"{scores[best]:.4f}"))
    assert re.findall(r"list (\d+): (\d+) is best, (.*)", text) == expected
