"""What callers ask for: how many candidates, with which features, by when.

Candidate counts are log-normal around a median of 100 with a tail to 2000, as search and
recommendation lists are. Features are drawn for the model that the server describes: random
values take random ways through the trees, which is as hard on branch prediction as traffic can
be; what they do not have is the real distribution of missing values and of scores.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.requests import Request
from ranker.v1 import ranking_pb2 as pb

MEDIAN_ROWS = 100
SPREAD = 0.9
"""Standard deviation of the logarithm of a list's length: one list in twenty is above 440."""
MAX_ROWS = 2000
MISSING = 0.05
"""The fraction of values that are missing."""
TOP_K = 20
"""How many answers a caller asks for: a page."""
DEADLINES = ((0.05, 0.2), (0.1, 0.6), (0.5, 0.2))
"""Seconds that callers give, and the fraction of them that do: a tight budget within a
page's, the usual one, and a batch job's."""


def traffic(
    model: pb.Model, *, timeout: float | None = None, count: int = 256, seed: int = 0
) -> list[Request]:
    """Requests for a model that the server describes, the same for the same seed.

    Callers wait for so many seconds; None draws from `DEADLINES`. There should be many requests,
    or the server's caches and branch predictor learn them.
    """
    random = np.random.default_rng(seed)
    timeouts, shares = zip(*DEADLINES, strict=True)
    drawn = random.choice(timeouts, size=count, p=shares)
    requests = []
    for length, own in zip(list_lengths(random, count), drawn, strict=True):
        rows = random.standard_normal((int(length), model.num_features), dtype=np.float32)
        rows[random.random(rows.shape) < MISSING] = np.nan
        requests.append(Request(rows, float(own) if timeout is None else timeout, TOP_K))
    return requests


def list_lengths(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Candidate counts [count], from 1 to `MAX_ROWS`."""
    lengths = random.lognormal(np.log(MEDIAN_ROWS), SPREAD, count)
    return np.clip(np.rint(lengths), 1, MAX_ROWS).astype(np.int64)
