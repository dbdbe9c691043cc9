"""Callers who give no deadline, or a long one, do not keep out those who are in a hurry."""

from __future__ import annotations

import time

import grpc
import numpy as np
import pytest
import xgboost as xgb

from ranker.client.request import rank_request
from ranker.export import export_onnx
from ranker.v1 import ranking_pb2 as pb
from tests.end_to_end.conftest import RunningServer
from tests.waiting import wait_until

RANK = "/ranker.v1.RankingService/Rank"
FEATURES = 20


@pytest.fixture(scope="module")
def slow_model(tmp_path_factory):
    """A model of which 10,000 rows take tens of milliseconds on one core."""
    rng = np.random.default_rng(8)
    rows = rng.normal(size=(1200, FEATURES)).astype(np.float32)
    train = xgb.DMatrix(rows, rng.integers(0, 4, len(rows)))
    train.set_group([100] * 12)
    parameters = {"objective": "rank:ndcg", "max_depth": 6, "nthread": 1, "seed": 8}
    path = tmp_path_factory.mktemp("slow") / "slow.onnx"
    export_onnx(xgb.train(parameters, train, 300), path)
    return path


def test_long_lists_without_a_deadline_do_not_starve_short_ones_with_one(
    slow_model, transport, tmp_path
):
    rng = np.random.default_rng(9)
    long = rank_request(rng.normal(size=(10_000, FEATURES)).astype(np.float32))
    short = rank_request(rng.normal(size=(10, FEATURES)).astype(np.float32))
    server = RunningServer(tmp_path / "log", str(slow_model), "--transport", transport)
    own = [("grpc.use_local_subchannel_pool", 1)]
    try:
        with (
            grpc.insecure_channel(server.address, own) as greedy,
            grpc.insecure_channel(server.address, own) as other,
        ):
            ask, rank = greedy.unary_unary(RANK), other.unary_unary(RANK)
            rank(short, timeout=30.0)  # connected, and the engine is warm

            def wait_behind_long_ones() -> tuple[list[grpc.Future], int]:
                """The long lists' calls, and how many of fifty short lists were ranked."""
                ahead = [ask.future(long) for _ in range(10)]
                time.sleep(0.01)  # they are on their way; most of them wait, or are refused
                codes = [rank.future(short, timeout=0.5).code() for _ in range(50)]
                return ahead, codes.count(grpc.StatusCode.OK)

            for _ in range(5):  # half a second is short where the machine itself stands still
                ahead, ranked = wait_behind_long_ones()
                if ranked >= 45:
                    break
                for call in ahead:
                    call.exception()  # once it has ended
            assert ranked >= 45
            for call in ahead:
                if call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                    assert "share" in call.details()
            done = [call.result() for call in ahead if call.code() is grpc.StatusCode.OK]
            assert len(done) >= 5, "half of the queue is a connection's own"
            assert all(len(pb.RankResponse.FromString(each).indices) == 10_000 for each in done)
        assert server.stop() == 0
    finally:
        server.process.kill()
        server.process.wait()


def test_no_caller_waits_longer_than_the_server_lets_it(start, truth):
    server = start("--max-deadline", "0.2", "--max-batch-delay", "600", "--max-batch-rows", "64")
    with grpc.insecure_channel(server.address) as channel:
        rank = channel.unary_unary(RANK)
        waits = [rank.future(rank_request(truth.rows[:3]), timeout=t) for t in (None, 60.0)]
        wait_until(lambda: server.metric("ranker_queue_rows") == 6)
        time.sleep(0.3)
        full = rank_request(truth.rows[:64])  # a busy machine may take longer than that for one
        wait_until(lambda: rank.future(full, timeout=60.0).code() is grpc.StatusCode.OK)
        for call in waits:
            assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            assert "--max-deadline" in call.details()
