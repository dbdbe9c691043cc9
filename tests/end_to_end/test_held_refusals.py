"""Refusals that are held back, of callers over their quotas: none is lost as a server ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from threading import Event

import grpc

from ranker.client.request import rank_request
from ranker.errors import Code
from ranker.v1.ranking_pb2 import RankResponse
from tests.end_to_end.conftest import RunningServer
from tests.waiting import wait_until

RANK = "/ranker.v1.RankingService/Rank"
RANK_STREAM = f"{RANK}Stream"
SECONDS = 60.0


def test_held_refusals_are_answered_before_the_server_ends(transport, tmp_path, truth):
    config = tmp_path / "ranker.yaml"
    models = {"books": {"source": str(truth.path)}}
    each = {"requests_per_second": 1, "queue_share": 1}
    config.write_text(json.dumps({"models": models, "quota_per_connection": each}))
    server = RunningServer(tmp_path / "log", "--config", str(config), "--transport", transport)
    try:
        with grpc.insecure_channel(server.address) as channel:
            ask = channel.unary_unary(RANK)
            calls = [ask.future(rank_request(truth.rows[:2]), timeout=SECONDS) for _ in range(99)]
            stream = channel.stream_stream(RANK_STREAM, None, RankResponse.FromString)
            waits = Event()
            answers = stream(_one_list(truth, waits), timeout=SECONDS)
            wait_until(lambda: sum(call.done() for call in calls) > 20)
            server.signal()
            codes = [call.code() for call in calls]
            refused = next(answers).status.code
            waits.set()
            assert server.process.wait(SECONDS) == 0
    finally:
        server.kill()
    assert codes.count(grpc.StatusCode.OK) == 1
    assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 98
    assert refused == Code.RESOURCE_EXHAUSTED


def _one_list(truth, waits: Event) -> Iterator[bytes]:
    """A stream's messages: one, and no end for now."""
    yield rank_request(truth.rows[:2], request_id="one")
    waits.wait(SECONDS)
