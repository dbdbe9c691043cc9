"""`ranker models` against a server that lists what it is told to."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from ranker.cli.models import models
from ranker.errors import UnavailableError
from ranker.v1 import ranking_pb2 as pb


@pytest.fixture
def listed(fake):
    fake.generation = 4
    fake.models = [
        pb.Model(
            name="books",
            version="7",
            labels=["stable", "previous"],
            traffic_percent=95,
            state=pb.MODEL_STATE_AVAILABLE,
            engine="simd",
            num_trees=500,
            sha256="0123456789abcdef" * 4,
            shadow_percent=10,
        ),
        pb.Model(
            name="books",
            version="8",
            state=pb.MODEL_STATE_FAILED,
            state_reason="8/model.onnx: not an ONNX file",
        ),
    ]
    return fake


def run(*arguments: str) -> str:
    result = CliRunner().invoke(models, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_table(listed):
    assert run(listed.target).splitlines() == [
        "model  version  labels            traffic  shadow  state      engine  trees  sha256",
        "books  7        stable, previous     95 %    10 %  available  simd      500  0123456789ab",
        "books  8                                           failed",
        "books@8: 8/model.onnx: not an ONNX file",
        "generation 4",
    ]


def test_what_is_wrong_with_the_configuration_is_said_once(listed):
    listed.failure = "books@8: has 1000 features"
    listed.models[1].state_reason = listed.failure
    assert run(listed.target).splitlines()[2:] == [
        "books  8                                           failed",
        "what the configuration wants can't be served: books@8: has 1000 features",
        "generation 4",
    ]


def test_json(listed):
    listed.failure = "ranker.yaml:1:9: expected a mapping"
    told = json.loads(run(listed.target, "--json"))
    assert told["failure"] == "ranker.yaml:1:9: expected a mapping"
    assert told["generation"] == 4
    first, second = told["models"]
    assert first["labels"] == ["stable", "previous"]
    assert first["sha256"] == "0123456789abcdef" * 4
    assert (second["state"], second["state_reason"]) == ("failed", "8/model.onnx: not an ONNX file")


def test_no_server():
    with pytest.raises(UnavailableError, match=r"can't reach a server at 127\.0\.0\.1:1"):
        run("127.0.0.1:1", "--timeout", "2")
