"""Unary calls: a list ranked, or the error that says why not; and what a model is."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from google.rpc import error_details_pb2

from ranker.errors import (
    DeadlineError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
)
from ranker.serving.services import SERVICE
from ranker.status import to_status
from ranker.v1 import ranking_pb2 as pb
from tests.fakes import BrokenEngine, FakeCall, SumEngine
from tests.serving.support import THREE, request


class TestRank:
    def test_best_first(self, serving):
        response = serving().rank(request(THREE, request_id="q"))
        assert list(response.indices) == [1, 2, 0]
        assert list(response.scores) == [5.0, 4.0, 3.0]
        assert (response.request_id, response.model, response.model_version) == ("q", "books", "7")
        assert response.timing.total_us >= response.timing.scoring_us

    def test_top_k_with_ids(self, serving):
        response = serving().rank(request(THREE, top_k=2, candidate_ids=["x", "y", "z"]))
        assert list(response.candidate_ids) == ["y", "z"]

    def test_a_model_by_name(self, serving):
        engines = SumEngine(), SumEngine()
        s = serving(*engines)
        assert s.rank(request(THREE, model="films")).model == "films"
        assert engines[0].batches == []
        assert engines[1].batches == [[3]]

    @pytest.mark.parametrize(
        ("fields", "words"),
        [
            pytest.param({"model": "songs"}, "no model songs", id="name"),
            pytest.param({"model": "books", "model_version": "8"}, "books@8", id="version"),
            pytest.param({"model_version": "9"}, r"\(default\)@9", id="version-of-default"),
        ],
    )
    def test_an_unknown_model_is_not_found(self, serving, fields, words):
        with pytest.raises(NotFoundError, match=words):
            serving().rank(request(THREE, **fields))

    def test_garbage_is_invalid(self, serving):
        with pytest.raises(InvalidRequestError, match=r"ranker\.v1\.RankRequest"):
            serving().rank(b"\xff\xff")

    def test_more_rows_than_allowed(self, serving):
        with pytest.raises(InvalidRequestError, match="at most 500"):
            serving().rank(request(np.zeros((501, 3))))

    def test_an_overloaded_server_says_when_to_retry(self, serving):
        s = serving(max_queue_rows=4)
        s.send("Rank", FakeCall(), request(THREE))
        call = FakeCall()
        s.send("Rank", call, request(THREE))
        assert isinstance(call.error, OverloadedError)
        detail = error_details_pb2.RetryInfo()
        assert to_status(call.error).details[0].Unpack(detail)

    def test_a_list_counts_with_all_that_came_with_it(self, serving):
        s = serving(max_queue_bytes=1000)
        s.send("Rank", FakeCall(), request(THREE, candidate_ids=["a" * 300] * 3))
        call = FakeCall()
        s.send("Rank", call, request(THREE, candidate_ids=["a" * 30] * 3))
        assert isinstance(call.error, OverloadedError)
        assert "full of bytes" in call.error.message

    def test_a_passed_deadline(self, serving):
        with pytest.raises(DeadlineError):
            serving().rank(request(THREE), deadline=time.monotonic() - 1)

    def test_a_closed_call_is_not_scored(self, serving):
        engine = SumEngine()
        s = serving(engine)
        call = FakeCall()
        s.send("Rank", call, request(THREE))
        s.methods[f"/{SERVICE}/Rank"].handler.closed(call)
        s.turn_until_idle()
        assert engine.batches == []

    def test_a_bug_in_the_engine_is_internal(self, serving):
        with pytest.raises(InternalError):
            serving(BrokenEngine()).rank(request(THREE))


def test_no_deadline_is_never(serving):
    assert list(serving().rank(request(THREE), deadline=math.inf).indices) == [1, 2, 0]


class TestModels:
    def test_the_default_and_a_named_one(self, serving):
        s = serving(SumEngine(), SumEngine())
        for name, found, default in (("", "books", True), ("films", "films", False)):
            call = FakeCall()
            s.send("GetModel", call, pb.GetModelRequest(model=name))
            model = pb.GetModelResponse.FromString(call.sent[0]).model
            assert (model.name, model.is_default) == (found, default)

    def test_what_a_caller_needs_to_know(self, serving):
        call = FakeCall()
        serving().send("ListModels", call, pb.ListModelsRequest())
        (model,) = pb.ListModelsResponse.FromString(call.sent[0]).models
        assert list(model.feature_names) == ["a", "b", "c"]
        assert (model.num_features, model.num_trees, model.max_depth) == (3, 5, 2)
        assert (model.engine, model.engine_reason) == ("sum", "made up")
        assert model.output == "margin"

    def test_an_unknown_one_is_not_found(self, serving):
        with pytest.raises(NotFoundError):
            serving().send("GetModel", FakeCall(), pb.GetModelRequest(model="songs"))
