"""The attributes of one ONNX operator as arrays, with types and lengths checked."""

from __future__ import annotations

from collections.abc import Sized

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto

from ranker.errors import ModelError, UnsupportedModelError
from ranker.forest.onnx.covers import read_floats
from ranker.forest.onnx.graph import read_tensor
from ranker.forest.onnx.lists import Integers, Lists
from ranker.forest.onnx.node_table import Bools, Float32s, Int32s, Int64s, Mode, Number, refuse

UNKNOWN_MODE = 255
"""What `modes` makes of a name that it does not know."""

_MODE_NAMES = {f"BRANCH_{mode.name}".encode(): mode for mode in Mode if mode < Mode.MEMBER}
_MODE_NAMES[b"LEAF"] = Mode.LEAF


class Attributes:
    """An operator's attributes, each taken once, with its type and length checked.

    Args:
        node: the operator.
        lists: what `ranker.forest.onnx.lists` took out of its attributes; is
            emptied, so that each list is freed as it is taken.
    """

    def __init__(self, node: NodeProto, lists: dict[int, Lists]) -> None:
        self._left: dict[str, AttributeProto] = {}
        self._lists: dict[str, Lists] = {}
        for place, attribute in enumerate(node.attribute):
            if attribute.name in self._left:
                raise ModelError(f"{attribute.name!r}: given twice")
            self._left[attribute.name] = attribute
            if place in lists:
                self._lists[attribute.name] = lists.pop(place)

    def finish(self) -> None:
        """Refuses attributes that nobody took: their meaning is not known here."""
        if self._left:
            # A name that is no UTF-8 comes as bytes, hence !r.
            raise ModelError(f"{next(iter(self._left))!r}: unknown attribute")

    def ignore(self, *names: str) -> None:
        """Drops attributes that do not change a score."""
        for name in names:
            self._left.pop(name, None)
            self._lists.pop(name, None)

    def integer(self, name: str, default: int) -> int:
        """One integer."""
        attribute = self._take(name, AttributeProto.INT)
        return default if attribute is None else attribute.i

    def text(self, name: str, default: str) -> str:
        """One string."""
        attribute = self._take(name, AttributeProto.STRING)
        return default if attribute is None else attribute.s.decode(errors="replace")

    def integers(self, name: str, length: int | None = None, required: bool = True) -> Int64s:
        """A list of integers."""
        return self._integers(name, length, required).astype(np.int64)

    def ids(self, name: str, length: int) -> Int32s:
        """Integers as int32; what does not fit becomes -1 or the largest, both out of range."""
        values = self._integers(name, length, True)
        if values.dtype.itemsize < 4:
            return values.astype(np.int32)
        return np.clip(values, -1, 2**31 - 1).astype(np.int32)

    def flags(self, name: str, length: int) -> Bools:
        """A list of integers that are 0 or 1."""
        values = self._integers(name, length, True)
        refuse((values != 0) & (values != 1), lambda i: f"{name} entry {i}", "neither 0 nor 1")
        return values.astype(np.bool_)

    def missing_true(self, length: int) -> Bools:
        """Where NaN goes to the true child; by default nowhere."""
        name = "nodes_missing_value_tracks_true"
        if name not in self._left or not len(self._ints(name)):
            self.ignore(name)
            return np.zeros(length, np.bool_)
        return self.flags(name, length)

    def modes(self, name: str) -> NDArray[np.uint8]:
        """A list of `TreeEnsembleRegressor`'s names of modes."""
        attribute = self._take(name, AttributeProto.STRINGS)
        names = () if attribute is None else attribute.strings
        modes = (_MODE_NAMES.get(mode, UNKNOWN_MODE) for mode in names)
        return _checked(name, np.fromiter(modes, np.uint8, len(names)), None, True)

    def floats(self, name: str, length: int | None = None, required: bool = True) -> Float32s:
        """Floats from `name`, or from the tensor `name_as_tensor`."""
        if f"{name}_as_tensor" in self._left:
            values = self.tensor(f"{name}_as_tensor", np.float32, required=False)
            if len(values):
                if name in self._left and len(self._floats(name)):
                    raise ModelError(f"{name}: also given as {name}_as_tensor")
                self.ignore(name)
                return _checked(f"{name}_as_tensor", values, length, required)
        self._check_type(name, AttributeProto.FLOATS)
        values = self._floats(name)
        self.ignore(name)
        return _checked(name, values, length, required)

    def hitrates(self, length: int) -> Float32s | None:
        """`nodes_hitrates`, which no score depends on: None where it is absent or odd."""
        name = "nodes_hitrates"
        for tensor in (name, f"{name}_as_tensor"):
            if tensor in self._left and self._left[tensor].type == AttributeProto.TENSOR:
                values = read_floats(self._left[tensor].t)
                break
        else:
            values = self._floats(name)
        self.ignore(name, f"{name}_as_tensor")
        return values if values.shape == (length,) else None

    def tensor(
        self,
        name: str,
        dtype: type[Number],
        length: int | None = None,
        required: bool = True,
    ) -> NDArray[Number]:
        """The values of a tensor of one dimension."""
        attribute = self._take(name, AttributeProto.TENSOR)
        if attribute is None:
            return _checked(name, np.zeros(0, dtype), length, required)
        if attribute.t.data_type == TensorProto.DOUBLE:
            raise UnsupportedModelError(f"{name} is float64: scores are summed in float64")
        if len(attribute.t.dims) != 1:
            raise ModelError(f"{name}: {len(attribute.t.dims)} dimensions; expected one")
        return _checked(name, read_tensor(name, attribute.t, dtype), length, required)

    def _integers(self, name: str, length: int | None, required: bool) -> Integers:
        self._check_type(name, AttributeProto.INTS)
        values = self._ints(name)
        self.ignore(name)
        _check_length(name, values, length, required)
        return values

    def _ints(self, name: str) -> Integers:
        if name in self._lists:
            return self._lists[name].ints
        return np.array(self._left[name].ints if name in self._left else (), np.int64)

    def _floats(self, name: str) -> Float32s:
        if name in self._lists:
            return self._lists[name].floats
        return np.array(self._left[name].floats if name in self._left else (), np.float32)

    def _take(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        self._check_type(name, kind)
        attribute = self._left.get(name)
        self.ignore(name)
        return attribute

    def _check_type(self, name: str, kind: AttributeProto.AttributeType) -> None:
        if name in self._left and self._left[name].type != kind:
            raise ModelError(f"{name}: expected {AttributeProto.AttributeType.Name(kind)}")


def _checked(
    name: str, values: NDArray[Number], length: int | None, required: bool
) -> NDArray[Number]:
    _check_length(name, values, length, required)
    return values


def _check_length(name: str, values: Sized, length: int | None, required: bool) -> None:
    if required and not len(values) and length != 0:
        raise ModelError(f"{name}: missing or empty")
    if length is not None and len(values) != length:
        raise ModelError(f"{name}: {len(values)} values; expected {length}")
