"""Ranks many lists over one call, which costs the server less than a call for each.

`python examples/python/rank_stream.py [HOST:PORT]`
"""

import sys

import numpy as np

from ranker.client import RankerClient
from ranker.errors import RankerError

FEATURES = ["genre_affinity", "recency_days", "completion_rate"]
LISTS = 100

random = np.random.default_rng(1)
lists = [
    np.column_stack([random.random(50), random.integers(1, 2000, 50), random.random(50)])
    for _ in range(LISTS)
]

target = sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"
with RankerClient(target) as client, client.stream() as stream:
    # `submit` returns at once, until 64 requests wait for their answers.
    futures = [
        stream.submit(books, feature_names=FEATURES, top_k=1, timeout=5.0) for books in lists
    ]
    for number, future in enumerate(futures):
        try:
            best = future.result()
        except RankerError as error:  # this request's; the others are not affected
            print(f"list {number}: {error}", file=sys.stderr)
        else:
            print(f"list {number}: {best.indices[0]} is best, {best.scores[0]:.4f}")
