"""Whatever the bytes, `take_lists` and protobuf together read what protobuf alone does."""

import struct

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, ModelProto, helper, numpy_helper

from ranker.forest.onnx import lists
from ranker.forest.onnx.lists import take_lists

INTEGERS = [0, 1, 127, 128, 255, 256, 2**31 - 1, 2**31, 2**63 - 1, -1, -(2**63)]
# Of a list hypothesis draws its bytes at once, which takes a tenth of the time of one draw for each
# number.
INTEGER_LISTS = st.binary(max_size=20).map(lambda drawn: [INTEGERS[b % 11] for b in drawn])
FLOAT_LISTS = st.binary(max_size=60).map(
    lambda drawn: [
        np.nan if np.isnan(value) else value
        for value in np.frombuffer(drawn[: len(drawn) // 4 * 4], "<f4").tolist()
    ]
)


def varint(number: int, padding: int = 0) -> bytes:
    """A number, negative ones in two's complement; `padding` makes it longer than it need be."""
    number &= 2**64 - 1
    digits = []
    while number or not digits:
        digits.append(number & 0x7F)
        number >>= 7
    digits += [0] * padding
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def sized(field: int, content: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(content)) + content


def unpacked_ints(values):
    return b"".join(b"\x40" + varint(value) for value in values)


def packed_ints(values):
    return sized(8, b"".join(map(varint, values)))


def unpacked_floats(values):
    return b"".join(b"\x3d" + struct.pack("<f", value) for value in values)


def packed_floats(values):
    return sized(7, np.array(values, "<f4").tobytes())


TENSOR = numpy_helper.from_array(np.arange(5, dtype=np.float32)).SerializeToString()
ATTRIBUTE_FIELDS = st.one_of(
    INTEGER_LISTS.map(unpacked_ints),
    INTEGER_LISTS.map(packed_ints),
    FLOAT_LISTS.map(unpacked_floats),
    FLOAT_LISTS.map(packed_floats),
    st.sampled_from(
        [
            sized(1, b"name"),
            b"\xa0\x01" + varint(AttributeProto.INTS),  # type
            sized(9, b"BRANCH_LT"),  # strings
            sized(5, TENSOR),  # t, which merges if it occurs again
            b"\xc0\x00\x05",  # an integer whose tag has a byte too many
            b"\x40" + varint(3, padding=3),  # a number with some too many
            b"\x40" + varint(-1)[:-1] + b"\x02",  # more than 64 bits
            sized(8, b"\x80"),  # a number that never ends
            sized(7, b"123"),  # not whole floats
            b"\xf8\x07\x01",  # unknown field
            b"\x39" + bytes(8),  # ints' number, but 8 bytes
            b"\x3b\x3c",  # a group
        ]
    ),
)


def joined(fields):
    return st.lists(fields, max_size=8).map(b"".join)


ATTRIBUTES = joined(ATTRIBUTE_FIELDS).map(lambda content: sized(5, content))
NODES = joined(st.one_of(ATTRIBUTES, st.just(sized(4, b"op")))).map(lambda c: sized(1, c))
GRAPHS = joined(st.one_of(NODES, st.just(sized(2, b"graph")))).map(lambda c: sized(7, c))
MODELS = joined(st.one_of(GRAPHS, st.sampled_from([b"\x08\x09", sized(14, b"")])))


@st.composite
def damaged(draw):
    """A model with some of its bytes changed, or its end cut off."""
    content = bytearray(draw(MODELS))
    for _ in range(draw(st.integers(0, 3))):
        if content:
            content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    return bytes(content[: draw(st.integers(0, len(content)))])


def parse(content: bytes) -> ModelProto | None:
    try:
        return ModelProto.FromString(content)
    except DecodeError:
        return None


def assert_reads_alike(content: bytes) -> int:
    """Returns how many attributes had their lists taken."""
    rest, taken = take_lists(content)
    want, got = parse(content), parse(rest)
    if want is None or got is None:
        assert want is got
        return 0
    for node, of_node in taken.items():
        for place, values in of_node.items():
            attribute = want.graph.node[node].attribute[place]
            assert values.ints.tolist() == list(attribute.ints)
            floats = np.array(attribute.floats, np.float32)
            assert values.floats.dtype == np.float32
            assert values.floats.tobytes() == floats.tobytes()
            attribute.ClearField("ints")
            attribute.ClearField("floats")
    assert got.SerializeToString(deterministic=True) == want.SerializeToString(deterministic=True)
    return sum(map(len, taken.values()))


def assert_reads_alike_in_pieces(content: bytes) -> None:
    """Takes lists of any length, in pieces of several sizes that cut through numbers."""
    for size in (1, 7, 64):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(lists, "MIN_BYTES", 0)
            patch.setattr(lists, "_PIECE", size + 11)  # at least one tag and number
            assert_reads_alike(content)


@settings(max_examples=150)
@given(MODELS)
def test_any_encoding(content):
    assert_reads_alike_in_pieces(content)


@settings(max_examples=150)
@given(damaged())
def test_damaged(content):
    assert_reads_alike_in_pieces(content)


def test_long_lists_are_taken_and_short_ones_left():
    rng = np.random.default_rng(0)
    many = {
        "ints": rng.integers(-3, 2**40, 100_000).tolist(),
        "bytes": rng.integers(0, 256, 100_000).tolist(),
        "floats": rng.normal(size=100_000).tolist(),
        "few": [1, 2, 3],
    }
    nodes = [helper.make_node("Idle", ["a"], ["b"]), helper.make_node("Busy", ["b"], ["c"], **many)]
    model = helper.make_model(helper.make_graph(nodes, "graph", [], []))
    content = model.SerializeToString()
    rest, taken = take_lists(content)
    assert len(rest) < 1000
    assert {name for name, of_node in taken.items() if of_node} == {1}
    assert assert_reads_alike(content) == 3
    names = [attribute.name for attribute in parse(rest).graph.node[1].attribute]
    assert taken[1][names.index("bytes")].ints.dtype == np.uint8
    assert taken[1][names.index("ints")].ints.dtype == np.int64


RUNS = (unpacked_ints([1]) + unpacked_floats([2.0])) * 10


@pytest.mark.parametrize(
    ("limit", "nodes"),
    [
        pytest.param("_MAX_RUNS", sized(1, sized(5, RUNS)), id="runs"),
        pytest.param("_MAX_FIELDS", sized(1, sized(5, RUNS) + sized(3, b"x") * 20), id="fields"),
        pytest.param(
            "_MAX_FIELDS", sized(1, sized(5, RUNS)) + sized(1, sized(3, b"x")) * 7, id="nodes"
        ),
    ],
)
def test_what_is_slow_to_walk_is_left_to_protobuf(monkeypatch, limit, nodes):
    monkeypatch.setattr(lists, "MIN_BYTES", 0)
    content = sized(7, nodes)
    assert assert_reads_alike(content) == 1
    monkeypatch.setattr(lists, limit, 10)
    rest, taken = take_lists(content)
    assert rest == content
    assert not any(taken.values())
