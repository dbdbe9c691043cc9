"""The fields of a request are counted before it is parsed."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.errors import InvalidRequestError
from ranker.serving.field_limit import SMALL, check_fields, find_text
from ranker.serving.wire import NESTED
from ranker.v1 import ranking_pb2 as pb

ROWS = bytes(range(256)) * 1000
"""Among them are all tags that there are."""


def request(**fields) -> bytes:
    return pb.RankRequest(**fields).SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(feature_names=[""] * SMALL), id="empty-names"),
        pytest.param(request(candidate_ids=["x"] * SMALL), id="ids"),
        pytest.param(request(context=pb.Context(feature_names=[""] * SMALL)), id="in-the-context"),
        pytest.param(b"\x15\0\0\0\0" * SMALL, id="unknown-numbers"),
        pytest.param(b"\x78\x01" * SMALL, id="unknown-varints"),
        pytest.param(b"\x11" + bytes(8) + b"\x2a\0" * SMALL, id="after-another"),
        pytest.param(b"\xaa\0\0" * SMALL, id="tags-longer-than-they-need-be"),
        pytest.param(
            request(candidates=pb.Matrix(data=ROWS), feature_names=[""] * SMALL), id="after-rows"
        ),
    ],
)
def test_many_fields_are_refused(data):
    with pytest.raises(InvalidRequestError, match="at most 1000 fields") as caught:
        check_fields(data, 1000, NESTED)
    assert caught.value.field == "request"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(request(candidates=pb.Matrix(rows=1, columns=2, data=ROWS)), id="rows"),
        pytest.param(
            request(candidates=pb.Matrix(data=ROWS), candidate_ids=["x" * 100] * 990), id="ids"
        ),
        pytest.param(
            request(context=pb.Context(values=[1.0] * 50_000), request_id="r"), id="packed-values"
        ),
        pytest.param(request(model="x" * 10**6), id="a-long-name"),
    ],
)
def test_sound_requests_are_let_in(data):
    assert len(data) > SMALL
    check_fields(data, 1000, NESTED)


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(b"", id="a-tag"),
        pytest.param(b"\x0a", id="a-length"),
        pytest.param(b"\x08", id="a-value"),
    ],
)
def test_a_number_that_does_not_end_is_left_to_the_parser(begin):
    """Soon: to add up the bits of a megabyte takes minutes."""
    check_fields(begin + b"\xff" * 2**20, 1000, NESTED)


@given(st.binary(max_size=200))
def test_whatever_comes_is_counted_or_left_to_the_parser(data):
    with contextlib.suppress(InvalidRequestError):
        check_fields(data * (SMALL // max(len(data), 1) + 2), 10_000, NESTED)


ID = request(request_id="r")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        pytest.param(ID, "r", id="alone"),
        pytest.param(
            request(top_k=300, candidates=pb.Matrix(data=ROWS)) + ID, "r", id="after-rows"
        ),
        pytest.param(b"\x15\0\0\0\0\x11" + bytes(8) + ID, "r", id="after-unknown-numbers"),
        pytest.param(ID + request(request_id="s"), "s", id="the-last-counts"),
        pytest.param(ID + request(candidate_ids=[""] * 10**6), "r", id="before-many-fields"),
        pytest.param(request(candidate_ids=[""] * 10**6) + ID, "", id="after-many-fields"),
        pytest.param(ID + b"\xff", "r", id="before-a-broken-field"),
        pytest.param(ID[:-1], "", id="cut"),
        pytest.param(b"\x0a\x02\xc3\x28", "", id="not-utf-8"),
        pytest.param(b"\x0b" + ID, "", id="in-a-group"),
        pytest.param(b"", "", id="nothing"),
    ],
)
def test_an_id_is_found_among_the_first_fields(data, found):
    assert find_text(data, pb.RankRequest.REQUEST_ID_FIELD_NUMBER) == found


@given(st.binary(max_size=300))
def test_whatever_bytes_there_are_a_text_is_found_or_none(data):
    assert isinstance(find_text(data, 1), str)


@given(st.text(), st.lists(st.text(), max_size=20), st.binary(max_size=300))
def test_it_finds_the_id_that_protobuf_reads(request_id, names, rows):
    data = request(
        request_id=request_id, feature_names=names, candidates=pb.Matrix(data=rows), unit="u"
    )
    assert find_text(data, 1) == request_id
