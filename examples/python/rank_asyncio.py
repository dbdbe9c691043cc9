"""Ranks books for two readers at once: `python examples/python/rank_asyncio.py [HOST:PORT]`."""

import asyncio
import sys

from ranker.client import AsyncRankerClient

FEATURES = ["genre_affinity", "recency_days", "completion_rate"]
MISSING = float("nan")
TITLES = ["The Salt Orchard", "Letters from Pine Station", "Moss Country", "The Copper Roads"]
READERS = {  # the books' features for each reader, in the order of the titles
    "new reader": [
        [MISSING, 35, 0.71],
        [MISSING, 412, MISSING],
        [MISSING, 3, 0.64],
        [MISSING, 1200, 0.52],
    ],
    "old reader": [[0.48, 35, 0.71], [0.32, 412, MISSING], [0.01, 3, 0.64], [0.05, 1200, 0.52]],
}


async def main(target: str) -> None:
    """Asks for all readers at once, and prints each one's books, best first."""
    async with AsyncRankerClient(target, timeout=1.0) as client:
        rankings = await asyncio.gather(
            *(
                client.rank(books, feature_names=FEATURES, candidate_ids=TITLES, top_k=3)
                for books in READERS.values()
            )
        )
    for reader, ranking in zip(READERS, rankings, strict=True):
        print(reader)
        for title, score in zip(ranking.ids, ranking.scores, strict=True):
            print(f"{score:8.4f}  {title}")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "localhost:50051"))
