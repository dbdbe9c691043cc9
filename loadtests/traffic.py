"""What callers ask for: how many candidates, with which features, by when.

Candidate counts are log-normal around a median of 100 with a tail to 2000, as
search and recommendation lists are: most fit one page or a few, some are all
that a retriever found. Features are drawn for the model that the server
describes, or replayed from a file. Random values take random ways through the
trees, which is as hard on branch prediction as traffic can be; what they do
not have is the real distribution of missing values and of scores: replay for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranker.client.request import rank_request
from ranker.v1 import ranking_pb2 as pb

Rows = NDArray[np.float32]

MEDIAN_ROWS = 100
SPREAD = 0.9
"""Standard deviation of the logarithm of a list's length: one list in twenty is above 440."""
MAX_ROWS = 2000
MISSING = 0.05
"""The fraction of drawn values that are missing."""
TOP_K = 20
"""How many answers a caller asks for: a page."""

DEADLINES = ((0.05, 0.2), (0.1, 0.6), (0.5, 0.2))
"""Seconds that callers give, and the fraction of them that do: a tight budget within a
page's, the usual one, and a batch job's."""


@dataclass(frozen=True, eq=False)
class Request:
    """One request to come, made once and sent many times.

    Attributes:
        features: float32 [candidates, features], in the model's order.
        top_k: how many answers it asks for.
        timeout: the seconds that its caller waits.
    """

    features: Rows
    timeout: float
    top_k: int = TOP_K

    @cached_property
    def message(self) -> bytes:
        """A serialised `ranker.v1.RankRequest`, without id and deadline."""
        return rank_request(self.features, top_k=self.top_k)

    def on_stream(self, request_id: str) -> bytes:
        """The message as a stream takes it, with its id and its deadline.

        Serialised messages may be appended to each other: fields of the later one count.
        """
        suffix = pb.RankRequest(request_id=request_id, deadline_ms=round(1e3 * self.timeout))
        return self.message + suffix.SerializeToString()


class Traffic:
    """An endless sequence of requests for one model, the same for the same seed."""

    def __init__(
        self,
        model: pb.Model,
        *,
        rows: Rows | None = None,
        timeout: float | None = None,
        requests: int = 256,
        seed: int = 0,
    ) -> None:
        """Makes the requests, so that a load generator has only to send them.

        Args:
            model: what the server says of its default model, which requests are for.
            rows: float32 [rows, features] in the model's order, to replay: each
                list is a run of neighbours, since a file's lists lie together.
                None draws values.
            timeout: the seconds that every caller waits; None draws from `DEADLINES`.
            requests: how many different ones to rotate through. Many, or the
                server's caches and branch predictor learn them.
            seed: of the random numbers.

        Raises:
            ValueError: `rows` does not have the model's features.
        """
        if rows is not None and (rows.ndim != 2 or rows.shape[1] != model.num_features):
            raise ValueError(
                f"expected rows of {model.num_features} features for {model.name!r}, "
                f"got shape {rows.shape}"
            )
        random = np.random.default_rng(seed)
        lengths = list_lengths(random, requests)
        timeouts, shares = zip(*DEADLINES, strict=True)
        deadlines = random.choice(timeouts, size=requests, p=shares)
        self._requests = [
            Request(
                draw(random, int(length), model.num_features)
                if rows is None
                else replay(random, int(length), rows),
                float(deadline) if timeout is None else timeout,
            )
            for length, deadline in zip(lengths, deadlines, strict=True)
        ]
        self._next = 0

    def __iter__(self) -> Traffic:
        """Itself."""
        return self

    def __next__(self) -> Request:
        """The next request; never ends."""
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        return request


def list_lengths(random: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Candidate counts [count], from 1 to `MAX_ROWS`."""
    lengths = random.lognormal(np.log(MEDIAN_ROWS), SPREAD, count)
    return np.clip(np.rint(lengths), 1, MAX_ROWS).astype(np.int64)


def draw(random: np.random.Generator, length: int, num_features: int) -> Rows:
    """Feature rows [length, num_features]: standard normal, some missing."""
    rows = random.standard_normal((length, num_features), dtype=np.float32)
    rows[random.random(rows.shape) < MISSING] = np.nan
    return rows


def replay(random: np.random.Generator, length: int, rows: Rows) -> Rows:
    """Neighbouring rows [length, features] from a random place, wrapping around at the end."""
    begin = int(random.integers(len(rows)))
    return rows.take(range(begin, begin + length), axis=0, mode="wrap")


def load_rows(path: Path) -> Rows:
    """Rows to replay: a `.npy` file, real numbers [rows, features] in the model's order.

    Raises:
        ValueError: it is not such a file.
    """
    array = np.load(path, allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub" or array.ndim != 2:
        raise ValueError(f"{path}: expected one array of numbers [rows, features]")
    if len(array) == 0:
        raise ValueError(f"{path}: no rows")
    return array.astype(np.float32)
