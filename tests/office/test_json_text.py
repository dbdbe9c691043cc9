"""JSON as the office reads it: what the standard library reads, or a reason why not."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError
from ranker.office.json_text import read_json

TEXTS = st.text(st.sampled_from('a":: \t\n\\\u20ac\U0001f600'), max_size=6)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " : "), (",", "\t:\r\n")])


@given(VALUES, SEPARATORS, st.booleans())
def test_any_value_is_read_as_the_standard_library_reads_it(
    value: Any, separators: tuple[str, str], ascii_only: bool
):
    body = json.dumps(value, separators=separators, ensure_ascii=ascii_only).encode()
    assert repr(read_json(body, 1000)) == repr(json.loads(body))


@given(VALUES, SEPARATORS, TEXTS, VALUES, st.integers(0, 3))
def test_a_name_that_stands_twice_is_found_wherever_it_is(
    value: Any, separators: tuple[str, str], name: str, other: Any, depth: int
):
    quoted = json.dumps(name)
    between, colon = separators
    text = f"{{{quoted}{colon}{json.dumps(value)}{between}{quoted}{colon}{json.dumps(other)}}}"
    for _ in range(depth):
        text = f'[{{"candidates"{colon}{text}}}]'
    with pytest.raises(InvalidRequestError) as caught:
        read_json(text.encode(), 1000)
    assert "stands twice in one object" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "a": 2}',
        b'{"a" :1, "a":2}',
        b'{"a":":", "a"\n:2}',
        b'{"a":1,"b":[1,{"c":1,"c":2}]}',
        b'{"a":1,"b":[null,{"c":1,"\\u0063":2}]}',
    ],
)
def test_names_that_stand_twice(body: bytes):
    with pytest.raises(InvalidRequestError, match="stands twice"):
        read_json(body, 1000)


@given(
    st.binary(max_size=40) | st.text('{}[]":,.eE+-0123456789 tfnu\\', max_size=30).map(str.encode)
)
def test_any_bytes_are_read_as_by_the_standard_library_or_refused(body: bytes):
    try:
        read = read_json(body, 1000)
    except InvalidRequestError:
        return
    assert repr(read) == repr(json.loads(body))


@pytest.mark.parametrize(
    ("body", "value"),
    [
        pytest.param(b"1e999", "inf", id="beyond 64 bits"),
        pytest.param(b"-1e999", "-inf", id="beyond 64 bits, negative"),
        pytest.param(b"18446744073709551617", "18446744073709551617", id="a long whole number"),
        pytest.param(b"-0", "0", id="minus nothing"),
        pytest.param(b"-0.0", "-0.0", id="minus nothing, as a fraction"),
        pytest.param(b"2.2250738585072011e-308", "2.225073858507201e-308", id="nearly subnormal"),
        pytest.param(b'"\\ud83d\\ude00"', "'\U0001f600'", id="a pair of surrogates"),
        pytest.param(b'"\\ud83d"', "'\\ud83d'", id="half of one"),
        pytest.param(b"[" * 500 + b"]" * 500, "[" * 500 + "]" * 500, id="nested deeply"),
    ],
)
def test_corners(body: bytes, value: str):
    assert repr(read_json(body, 1000)) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("[{" * 2000, id="brackets"),
        pytest.param('\\"[' * 2000, id="quotes and brackets"),
        pytest.param("\\\\[" * 2000, id="backslashes and brackets"),
    ],
)
def test_brackets_in_texts_are_no_lists(text: str):
    body = f'["a", "{text}", {{"b": "{text}"}}]'.encode()
    assert repr(read_json(body, 10)) == repr(json.loads(body))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'"",' + b"[" * 2000, id="after a text"),
        pytest.param(b'"\\\\"' + b"[" * 2000, id="after a text that ends with a backslash"),
        pytest.param(b'["x",' * 2000, id="between texts"),
    ],
)
def test_more_lists_than_there_may_be(body: bytes):
    with pytest.raises(InvalidRequestError, match="more lists and objects"):
        read_json(body, 10)


def test_nan_where_it_may_be():
    assert repr(read_json(b'{"data": [1, NaN]}', 10, nan=True)) == "{'data': [1, nan]}"
    for body, nan in ((b"NaN", False), (b"[Infinity]", True), (b"[-Infinity]", True)):
        with pytest.raises(InvalidRequestError, match="is not JSON"):
            read_json(body, 10, nan=nan)
