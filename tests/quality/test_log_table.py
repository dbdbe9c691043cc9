from __future__ import annotations

import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from pyarrow import parquet

from ranker.quality.log_table import write_parquet
from ranker.ranking_log.reader import RankingLogError, open_log
from ranker.v1 import ranking_pb2 as pb
from tests.ranking_log.support import BOOKS, START, Workers, entry, request


def converted(tmp_path) -> list[dict[str, object]]:
    out = tmp_path / "out.parquet"
    with open_log(str(tmp_path / "log")) as log:
        rows = write_parquet(log, out)
    table = parquet.read_table(out)
    assert len(table) == rows
    return table.to_pylist()


def test_a_row_for_each_candidate_with_its_features_by_name(tmp_path):
    asked = request(
        [[1.5], [float("nan")], [3.5]],
        request_id="r1",
        unit="reader 5",
        feature_names=["price"],
        context=pb.Context(feature_names=["score"], values=[40.0]),
        candidate_ids=["a", "b", "c"],
        top_k=2,
    )
    answered = pb.RankResponse(indices=[2, 0], scores=[2.5, 1.5], candidate_ids=["c", "a"])
    other = replace(BOOKS, version="8", digest="cd" * 32, arm="")
    own_order = entry(at=1, origin=other, asked=request([[1, 2]]), answered=pb.RankResponse())
    Workers(tmp_path / "log").write(entry(asked=asked, answered=answered), own_order)

    first, second, third, last = converted(tmp_path)
    common = {
        "request_id": "r1",
        "unit": "reader 5",
        "model": "books",
        "version": "7",
        "model_sha256": "ab" * 32,
        "arm": "stable",
        "trace_id": "0af7651916cd43dd8448eb211c80319c",
        "sample_rate": 0.5,
        "feature_score": 40.0,  # a feature that is called like a column of the table
        "age": None,
    }
    for row in (first, second, third):
        assert row.pop("time").timestamp() == START / 1e9
        assert row | common == row
    per_candidate = ("index", "candidate_id", "position", "score", "price")
    assert [tuple(row[name] for name in per_candidate) for row in (first, second, third)] == [
        (0, "a", 2, 1.5, 1.5),
        (1, "b", None, None, None),
        (2, "c", 1, 2.5, 3.5),
    ]
    assert (last["version"], last["arm"], last["request_id"]) == ("8", None, None)
    assert (last["age"], last["price"], last["feature_score"]) == (1.0, 2.0, None)


@pytest.mark.parametrize("names", [("score", "feature_score"), ("feature_score", "score")])
def test_features_that_are_called_as_others_would_be_have_columns_of_their_own(tmp_path, names):
    asked = request([[1, 2]], feature_names=names)
    Workers(tmp_path / "log").write(entry(asked=asked, answered=pb.RankResponse()))
    [row] = converted(tmp_path)
    values = dict(zip(names, (1.0, 2.0), strict=True))
    assert row["feature_score"] == values["feature_score"]
    assert row["feature_feature_score"] == values["score"]


def test_a_model_without_names_has_numbered_columns(tmp_path):
    nameless = replace(BOOKS, feature_names=())
    Workers(tmp_path / "log").write(entry(origin=nameless))
    first, second = converted(tmp_path)
    assert (first["f0"], first["f1"], second["f0"], second["f1"]) == (1.0, 2.0, 3.0, 4.0)


def test_the_documented_table_of_bigquery_has_the_columns(tmp_path):
    Workers(tmp_path / "log").write(entry(origin=replace(BOOKS, feature_names=())))
    converted(tmp_path)
    *own, _, _ = parquet.read_schema(tmp_path / "out.parquet")  # without the features
    kinds = {"string": "STRING", "int32": "INT64", "float": "FLOAT64", "double": "FLOAT64"}
    kinds["timestamp[us, tz=UTC]"] = "TIMESTAMP"
    page = (Path(__file__).parents[2] / "docs" / "quality.md").read_text()
    [table] = re.findall(r"CREATE TABLE \S+ \((.*?)--", page, re.DOTALL)
    documented = [tuple(column.split()) for column in table.split(",")]
    assert documented == [(each.name, kinds[str(each.type)]) for each in own]


def test_a_file_that_is_removed_between_the_two_readings_is_left_out(tmp_path):
    workers = Workers(tmp_path / "log")
    for at, name in enumerate("abc"):
        workers.write(entry(name, at=at))
    oldest = min((tmp_path / "log").iterdir())
    out = tmp_path / "out.parquet"

    def remove(share: float) -> None:
        if share >= 0.5:  # the first reading is done
            oldest.unlink(missing_ok=True)

    with open_log(str(tmp_path / "log")) as log:
        assert write_parquet(log, out, remove) == 4
    assert {row["request_id"] for row in parquet.read_table(out).to_pylist()} == {"b", "c"}


def test_a_log_that_can_not_be_read_leaves_the_table_that_was_there(tmp_path):
    Workers(tmp_path / "log").write(entry("a"), entry("b"))
    [path] = (tmp_path / "log").iterdir()
    out = tmp_path / "out.parquet"
    out.write_bytes(b"as it was")

    damaged = bytearray(path.read_bytes())
    damaged[-10] ^= 1

    def damage(share: float) -> None:
        if share >= 0.5:
            path.write_bytes(damaged)

    with open_log(str(path)) as log, pytest.raises(RankingLogError, match="is corrupt"):
        write_parquet(log, out, damage)
    assert out.read_bytes() == b"as it was"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", "out.parquet"]


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    Workers(tmp_path / "log").write(entry("a"))
    out = tmp_path / "out.parquet"
    out.symlink_to(os.devnull)
    with open_log(str(tmp_path / "log")) as log:
        assert write_parquet(log, out) == 2
    assert out.is_char_device()


def test_a_link_goes_on_to_point_to_the_table(tmp_path):
    Workers(tmp_path / "log").write(entry("a"))
    (tmp_path / "out.parquet").symlink_to(tmp_path / "data.parquet")
    assert len(converted(tmp_path)) == 2
    assert (tmp_path / "out.parquet").is_symlink()
