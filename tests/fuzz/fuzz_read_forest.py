"""Fuzzes `read_forest` with atheris (libFuzzer for Python).

    pip install atheris
    PYTHONPATH=. python tests/fuzz/fuzz_read_forest.py -max_total_time=600 FOLDER tests/fuzz/corpus

libFuzzer keeps what it finds in FOLDER, or writes `crash-*` and stops. Half of
the mutations are to bytes; the other half change, drop or repeat entries of the
operators' attributes, so that the result is still an ONNX file and gets past the
parser. Small findings that reach new code go into `corpus`, and from there
into the normal tests. After the two findings there were mended, 901 seconds and
1.43 million inputs found nothing more; nor did 1300 seconds and 3.8 million after
lists were taken out of the bytes before protobuf reads them, half of it after the
walks over trees had changed, too (atheris 3.0.0, which itself grows by 2 KB an
input: `-rss_limit_mb=0`).
"""

from __future__ import annotations

import random
import sys

import atheris

with atheris.instrument_imports(include=["ranker.forest.forest", "ranker.forest.onnx"]):
    from invariants import read_or_refuse

from onnx import AttributeProto, ModelProto, TensorProto

from ranker.forest.onnx import lists

lists.MIN_BYTES = 0  # so that small inputs go the way of large ones

INTEGERS = (-(2**63), -(2**31), -1, 0, 1, 2, 3, 4, 7, 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1)
FLOATS = (0.0, -0.0, 1e-45, 0.5, 3.4e38, float("inf"), -float("inf"), float("nan"))
STRINGS = (b"LEAF", b"BRANCH_LT", b"BRANCH_LEQ", b"BRANCH_GT", b"BRANCH_EQ", b"BRANCH_NEQ", b"\xff")


def test_one_input(content: bytes) -> None:
    """What libFuzzer calls."""
    read_or_refuse(content)


def mutate(content: bytes, max_size: int, seed: int) -> bytes:
    """What libFuzzer calls for a new input."""
    rng = random.Random(seed)
    if rng.random() < 0.5:
        return atheris.Mutate(content, max_size)
    try:
        model = ModelProto.FromString(content)
    except Exception:  # protobuf's own error; bytes that it can't parse are only good as bytes
        return atheris.Mutate(content, max_size)
    attributes = [a for node in model.graph.node for a in node.attribute]
    if not attributes:
        return atheris.Mutate(content, max_size)
    for _ in range(rng.randint(1, 4)):
        mutate_attribute(rng.choice(attributes), rng)
    changed = model.SerializeToString()
    return changed if len(changed) <= max_size else content


def mutate_attribute(attribute: AttributeProto, rng: random.Random) -> None:
    """Changes one entry of an attribute, or its length, or its type."""
    roll = rng.random()
    if roll < 0.03:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif attribute.type == AttributeProto.INT:
        attribute.i = rng.choice(INTEGERS)
    elif attribute.type == AttributeProto.STRING:
        attribute.s = rng.choice((b"SUM", b"NONE", b"LOGISTIC", b"\xff"))
    elif attribute.type == AttributeProto.TENSOR:
        mutate_tensor(attribute.t, rng)
    else:
        for entries, choices in (
            (attribute.ints, INTEGERS),
            (attribute.floats, FLOATS),
            (attribute.strings, STRINGS),
        ):
            mutate_entries(entries, choices, rng)


def mutate_tensor(tensor: TensorProto, rng: random.Random) -> None:
    """Changes one entry of a tensor, or what it declares of itself."""
    roll = rng.random()
    if roll < 0.1:
        tensor.dims[:] = [rng.choice(INTEGERS) for _ in range(rng.randint(0, 2))]
    elif roll < 0.15:
        tensor.data_type = rng.randint(0, 25)
    elif tensor.raw_data:
        at = rng.randrange(len(tensor.raw_data))
        tensor.raw_data = (
            tensor.raw_data[:at] + bytes([rng.randrange(256)]) + tensor.raw_data[at + 1 :]
        )
    else:
        mutate_entries(tensor.float_data, FLOATS, rng)
        mutate_entries(tensor.int32_data, range(9), rng)
        tensor.dims[:] = [max(len(tensor.float_data), len(tensor.int32_data))]


def mutate_entries(entries: list, choices: tuple, rng: random.Random) -> None:
    """Replaces, copies, swaps, drops or repeats entries of a repeated field."""
    if not entries:
        return
    a, b = rng.randrange(len(entries)), rng.randrange(len(entries))
    roll = rng.random()
    if roll < 0.3:
        entries[a] = rng.choice(choices)
    elif roll < 0.5:
        entries[a] = entries[b]
    elif roll < 0.8:
        entries[a], entries[b] = entries[b], entries[a]
    elif roll < 0.9:
        del entries[a]
    else:
        entries.append(entries[a])


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input, custom_mutator=mutate)
    atheris.Fuzz()
