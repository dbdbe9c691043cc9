"""Clients of the ranking server, for threads and for asyncio: NumPy in, a ranking out.

    with RankerClient("localhost:50051") as client:
        ranking = client.rank(features, top_k=10)  # float32 [candidates, features]
        best = features[ranking.indices]

Every call has a deadline. Every error is a `ranker.errors.RankerError`.
"""

from ranker.client.aio import AsyncRankerClient
from ranker.client.aio_stream import AsyncRankStream
from ranker.client.ranking import Explanation, Ranking, Timing
from ranker.client.stream import RankStream
from ranker.client.sync import RankerClient
from ranker.client.tls import Tls

__all__ = [
    "AsyncRankStream",
    "AsyncRankerClient",
    "Explanation",
    "RankStream",
    "RankerClient",
    "Ranking",
    "Timing",
    "Tls",
]
