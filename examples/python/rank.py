"""Ranks books for one reader: `python examples/python/rank.py [HOST:PORT]`."""

import sys

from ranker.client import RankerClient
from ranker.errors import DeadlineError, OverloadedError, UnavailableError

FEATURES = ["genre_affinity", "recency_days", "completion_rate"]
MISSING = float("nan")
BOOKS = {  # as retrieval found them: title, and its features for this reader
    "The Salt Orchard": [0.48, 35, 0.71],
    "Letters from Pine Station": [0.32, 412, MISSING],
    "Moss Country": [MISSING, 3, 0.64],
    "The Copper Roads": [0.05, 1200, 0.52],
}
READER = {"reader_age_days": 812, "hour_of_day": 20}  # the same for all books

target = sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"
with RankerClient(target) as client:
    try:
        ranking = client.rank(
            list(BOOKS.values()),
            feature_names=FEATURES,
            context=READER,
            candidate_ids=list(BOOKS),
            top_k=3,
            timeout=1.0,  # seconds, retries included
        )
    except (DeadlineError, OverloadedError, UnavailableError) as error:
        # No ranking in time: the order of retrieval is better than an empty page.
        print(f"not ranked: {error}", file=sys.stderr)
        print(*BOOKS, sep="\n")
    else:
        for title, score in zip(ranking.ids, ranking.scores, strict=True):
            print(f"{score:8.4f}  {title}")
