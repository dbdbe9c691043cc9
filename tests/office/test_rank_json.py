"""Candidate lists in JSON: what is read, and what is refused, under which name."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError
from ranker.office import rank_json
from ranker.office.json_text import read_json
from ranker.office.rank_json import Asked, read_rank_json, write_rank_json
from ranker.v1 import ranking_pb2 as pb


def read(text: str | bytes, most_rows: int = 100) -> Asked:
    body = text if isinstance(text, bytes) else text.encode()
    return read_rank_json(read_json(body, most_rows), most_rows)


def table(message: pb.RankRequest) -> np.ndarray:
    matrix = message.candidates
    return np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)


def test_lists():
    asked = read(
        '{"candidates": [[1, 2.5, null], [-3, 0, 1e-3]], "top_k": 1, "ids": ["a", "b"],'
        ' "unit": "reader-7"}'
    )
    expected = np.array([[1, 2.5, math.nan], [-3, 0, 1e-3]], np.float32)
    np.testing.assert_array_equal(table(asked.message), expected)
    assert (asked.message.top_k, asked.message.unit) == (1, "reader-7")
    assert list(asked.message.candidate_ids) == ["a", "b"]
    assert list(asked.message.feature_names) == []
    assert asked.seconds == 10


def test_bytes_that_look_like_those_of_an_infinity():
    pair = np.frombuffer(b"\0\0\0\0\x80\x7f\0\0", "<f4").tolist()
    asked = read(json.dumps({"candidates": [pair, pair[::-1]]}))
    np.testing.assert_array_equal(table(asked.message), np.array([pair, pair[::-1]], np.float32))


def test_objects_in_any_order():
    asked = read(
        '{"candidates": [{"x": 1, "y": 2}, {"y": 4, "x": 3}], "context": {"z": null, "w": 5},'
        ' "deadline_ms": 50}'
    )
    assert list(asked.message.feature_names) == ["x", "y"]
    np.testing.assert_array_equal(table(asked.message), [[1, 2], [3, 4]])
    assert list(asked.message.context.feature_names) == ["z", "w"]
    np.testing.assert_array_equal(asked.message.context.values, [math.nan, 5])
    assert asked.lacking == {}
    assert asked.seconds == 0.05


def test_what_an_object_lacks_is_missing_and_told():
    asked = read('{"candidates": [{"x": 1}, {"y": 4}, {"x": 3, "y": 5}]}')
    assert list(asked.message.feature_names) == ["x", "y"]
    np.testing.assert_array_equal(table(asked.message), [[1, math.nan], [math.nan, 4], [3, 5]])
    assert asked.lacking == {"x": 1, "y": 0}


@given(
    st.integers(1, 5).flatmap(
        lambda columns: st.lists(
            st.lists(
                st.one_of(st.floats(width=32, allow_nan=False, allow_infinity=False), st.none()),
                min_size=columns,
                max_size=columns,
            ),
            min_size=1,
            max_size=8,
        )
    )
)
def test_values_arrive_to_the_last_bit(rows: list[list[float | None]]):
    asked = read(json.dumps({"candidates": rows}))
    expected = np.array([[math.nan if v is None else v for v in row] for row in rows], np.float32)
    assert table(asked.message).tobytes() == expected.tobytes()


@pytest.mark.parametrize("value", [0.1, 1 / 3, 16777217, 3.4028235e38, 1e-46, 2**80])
def test_values_are_rounded_as_numpy_does(value: float):
    asked = read(json.dumps({"candidates": [[value]]}))
    assert table(asked.message)[0, 0] == np.float32(value)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1))
@example([None, 2**60 + 2**36 + 1, 7])
@example([-(2**60) - 2**36 - 1])
@example([2**60 + 2**36])
def test_whole_numbers_are_rounded_once(values: list[int | None]):
    names = [f"x{number}" for number in range(len(values))]
    asked = read(
        json.dumps({"candidates": [values], "context": dict(zip(names, values, strict=True))})
    )
    # numpy rounds 64 bits to float32 in one step.
    expected = [math.nan if each is None else np.int64(each).astype(np.float32) for each in values]
    np.testing.assert_array_equal(table(asked.message), [expected])
    np.testing.assert_array_equal(asked.message.context.values, expected)


def test_the_largest_whole_number():
    largest = 2**128 - 2**103 - 1  # the next one is nearer to what float32 has not
    asked = read(json.dumps({"candidates": [[largest, -largest]]}))
    np.testing.assert_array_equal(table(asked.message), np.float32([[3.4028235e38, -3.4028235e38]]))
    with pytest.raises(InvalidRequestError, match="beyond 32 bits"):
        read(json.dumps({"candidates": [[largest + 1]]}))


REFUSED: dict[str, tuple[str | bytes, str, str]] = {
    "nothing": ("", "request", "not JSON"),
    "half": ('{"candidates": [[1', "request", "not JSON"),
    "two": ('{"candidates": [[1]]} {}', "request", "not JSON"),
    "not utf-8": (b'{"candidates": "\xff"}', "request", "not UTF-8: byte 16"),
    "utf-16": ('{"candidates": [[1]]}'.encode("utf-16"), "request", "not UTF-8"),
    "nan": ('{"candidates": [[NaN]]}', "request", "NaN is not JSON; a missing value is null"),
    "infinity": ('{"candidates": [[-Infinity]]}', "request", "-Infinity is not JSON"),
    "deep": ("[" * 1100, "request", "not JSON|nested too deeply"),
    "very deep": ("[" * 100_000, "request", "more lists and objects"),
    "many empty lists": (
        '{"candidates": [' + "[]," * 5000 + "[]]}",
        "request",
        "more lists and objects than 100",
    ),
    "digits": ('{"candidates": [[' + "9" * 5000 + "]]}", "request", "not JSON"),
    "no object": ("[1]", "request", "expected an object, got a list of 1"),
    "null": ("null", "request", "expected an object, got null"),
    "field twice": ('{"top_k": 1, "top_k": 2}', "request", '"top_k" stands twice'),
    "feature twice": ('{"candidates": [{"x": 1, "x": 1}]}', "request", '"x" stands twice'),
    "strange field": ('{"candidates": [[1]], "topk": 1}', "topk", "no such field; there are"),
    "no candidates": ("{}", "candidates", "expected a list of candidates, got null"),
    "empty": ('{"candidates": []}', "candidates", "expected 1 to 100 candidates, got 0"),
    "too many": (json.dumps({"candidates": [[1]] * 101}), "candidates", "1 to 100"),
    "a number": ('{"candidates": [[1], 2]}', "candidates[1]", "expected a list of numbers"),
    "mixed": ('{"candidates": [{"x": 1}, [2]]}', "candidates[1]", "expected an object"),
    "mixed otherwise": ('{"candidates": [[1], {"x": 1}]}', "candidates[1]", "expected a list"),
    "ragged": ('{"candidates": [[1, 2], [3]]}', "candidates[1]", "expected 2 values"),
    "text": ('{"candidates": [[1, "x"]]}', "candidates[0][1]", 'got "x"'),
    "text in a later row": (
        '{"candidates": [[1, 2], [3, 4], ["x", 5]]}',
        "candidates[2][0]",
        'got "x"',
    ),
    "text in a named column": (
        '{"candidates": [[1, 2], [3, "x"]], "feature_names": ["a", "b"]}',
        "candidates[1].b",
        'got "x"',
    ),
    "text beyond the names": (
        '{"candidates": [[1, 2], [3, "x"]], "feature_names": ["a"]}',
        "candidates[1][1]",
        'got "x"',
    ),
    "long text": (json.dumps({"candidates": [["x" * 999]]}), "candidates[0][0]", 'got "x*...'),
    "names that most lack": (
        json.dumps({"candidates": [{f"f{i}": 1 for i in range(5300)}, *[{}] * 98]}),
        "candidates",
        "more than 524288 values",
    ),
    "boolean": ('{"candidates": [{"x": true}]}', "candidates[0].x", "got true"),
    "nested": ('{"candidates": [[[1]]]}', "candidates[0][0]", "got a list of 1"),
    "beyond float32": ('{"candidates": [{"x": 1e39}]}', "candidates[0].x", "beyond 32 bits"),
    "beyond float64": ('{"candidates": [[1e999]]}', "candidates[0][0]", "beyond 32 bits"),
    "integer beyond": ('{"candidates": [[1' + "0" * 400 + "]]}", "candidates[0][0]", "beyond"),
    "context": ('{"candidates": [[1]], "context": [1]}', "context", "expected an object"),
    "empty list as context": ('{"candidates": [[1]], "context": []}', "context", "got a list of 0"),
    "empty text as context": ('{"candidates": [[1]], "context": ""}', "context", 'got ""'),
    "nothing as context": ('{"candidates": [[1]], "context": 0}', "context", "got 0"),
    "false as context": ('{"candidates": [[1]], "context": false}', "context", "got false"),
    "context value": ('{"candidates": [[1]], "context": {"z": "a"}}', "context.z", 'got "a"'),
    "ids": (
        '{"candidates": [[1]], "ids": "a"}',
        "candidate_ids",
        "a list of at most 100 texts",
    ),
    "id": ('{"candidates": [[1]], "ids": [1]}', "candidate_ids[0]", "expected a text, got 1"),
    "surrogate": ('{"candidates": [[1]], "ids": ["\\ud800"]}', "candidate_ids[0]", "surrogate"),
    "surrogate name": ('{"candidates": [{"\\ud800": 1}]}', "candidates[0]", "surrogate"),
    "surrogate in context": (
        '{"candidates": [[1]], "context": {"\\ud800": 1}}',
        "context",
        "surrogate",
    ),
    "top_k": ('{"candidates": [[1]], "top_k": -1}', "top_k", "expected a whole number"),
    "top_k fraction": ('{"candidates": [[1]], "top_k": 1.0}', "top_k", "got 1.0"),
    "top_k boolean": ('{"candidates": [[1]], "top_k": true}', "top_k", "got true"),
    "deadline": ('{"candidates": [[1]], "deadline_ms": 1e6}', "deadline_ms", "60000"),
    "names twice": (
        '{"candidates": [{"x": 1}], "feature_names": ["x"]}',
        "feature_names",
        "not with candidates that are objects",
    ),
}


@pytest.mark.parametrize(("body", "field", "words"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused(body: str | bytes, field: str, words: str):
    with pytest.raises(InvalidRequestError, match=words) as caught:
        read(body)
    assert caught.value.field == field
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("own", "shared", "field"),
    [
        pytest.param({}, {"top_k": -1}, "parameters.top_k", id="shared"),
        pytest.param({}, {"context": {"z": "a"}}, "parameters.context.z", id="within"),
        pytest.param({}, {"feature_names": [5]}, "parameters.feature_names[0]", id="in-a-list"),
        pytest.param({"top_k": -1}, {"top_k": 1}, "instances[3].top_k", id="own-before-shared"),
        pytest.param({"top_k": -1}, {"explain": 1}, "instances[3].top_k", id="own"),
    ],
)
def test_an_error_names_whose_field_it_is(own: Any, shared: Any, field: str):
    with pytest.raises(InvalidRequestError) as caught:
        read_rank_json({"candidates": [[1]], **own}, 10, "instances[3]", shared)
    assert caught.value.field == field


@pytest.mark.parametrize("context", ["null", "{}"])
def test_a_context_of_nothing_is_none(context: str):
    asked = read(f'{{"candidates": [[1]], "context": {context}}}')
    assert not asked.message.context.feature_names


@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text()),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.dictionaries(
                st.one_of(st.text(), st.sampled_from(["candidates", "context", "ids", "top_k"])),
                inner,
                max_size=4,
            ),
        ),
        max_leaves=20,
    )
)
def test_anything_is_read_or_refused(value: Any):
    try:
        asked = read(json.dumps(value))
    except InvalidRequestError:
        return
    assert asked.message.candidates.rows > 0


def test_answers():
    response = pb.RankResponse(
        model="m",
        model_version="1",
        indices=[1, 0],
        scores=[math.inf, 0.1],
        candidate_ids=["b", "a"],
        request_id="r",
    )
    written = write_rank_json(response.SerializeToString())
    assert written["indices"] == [1, 0]
    assert written["scores"] == [None, float(np.float32(0.1))]
    assert written["ids"] == ["b", "a"]
    assert (written["model"], written["model_version"], written["request_id"]) == ("m", "1", "r")


def test_explanations_are_asked_for_and_told_by_name():
    assert read('{"candidates": [[1]], "explain": 3}').message.explain == 3
    for wrong in ("true", "101", "1.5"):
        with pytest.raises(InvalidRequestError, match=r"explain: expected a whole number .* 100"):
            read(f'{{"candidates": [[1]], "explain": {wrong}}}')
    explanation = pb.Explanation(bias=0.5, contributions=[1.5, math.inf])
    response = pb.RankResponse(explanations=[explanation], explained_feature_names=["x", "y"])
    named = write_rank_json(response.SerializeToString())["explanations"]
    assert named == [{"bias": 0.5, "contributions": {"x": 1.5, "y": None}}]
    del response.explained_feature_names[:]
    unnamed = write_rank_json(response.SerializeToString())["explanations"]
    assert unnamed == [{"bias": 0.5, "contributions": [1.5, None]}]
    assert "explanations" not in write_rank_json(pb.RankResponse().SerializeToString())


@pytest.mark.parametrize("letter", ["x", "\u00e4", '"', "\U0001f4da"])
@pytest.mark.parametrize("named", [True, False])
def test_explanations_have_a_size_limit(monkeypatch, letter: str, named: bool):
    monkeypatch.setattr(rank_json, "MOST_EXPLAINED_BYTES", 2**16)
    longest = float(np.float32(-1.1754943508222875e-38))
    explanation = pb.Explanation(bias=longest, contributions=[longest] * 100)
    names = [letter * 20 + str(number) for number in range(100)] if named else []

    def written(rows: int, share: float = 1.0) -> int:
        answer = pb.RankResponse(explanations=[explanation] * rows, explained_feature_names=names)
        return len(json.dumps(write_rank_json(answer.SerializeToString(), share)["explanations"]))

    with pytest.raises(InvalidRequestError, match=r"explain: .* at most \d+ .* got 100") as refused:
        written(100)
    most = int(refused.value.description.split()[3])
    assert 0.8 * 2**16 < written(most) < 1.02 * 2**16
    for rows, share in ((most + 1, 1.0), (most, 0.5)):
        with pytest.raises(InvalidRequestError, match=f"at most {int(most * share)} candidates"):
            written(rows, share)
