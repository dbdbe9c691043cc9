"""The attributes of one ONNX operator as arrays, with types and lengths checked."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, NodeProto, TensorProto

from ranker.errors import ModelError, UnsupportedModelError
from ranker.onnx_reader.graph import read_tensor
from ranker.onnx_reader.table import Bools, Float32s, Int32s, Int64s, Mode, Number, refuse

UNKNOWN_MODE = 255
"""What `modes` makes of a name that it does not know."""

_MODE_NAMES = {f"BRANCH_{mode.name}".encode(): mode for mode in Mode if mode < Mode.MEMBER}
_MODE_NAMES[b"LEAF"] = Mode.LEAF


class Attributes:
    """An operator's attributes, each taken once, with its type and length checked."""

    def __init__(self, node: NodeProto) -> None:
        self._left: dict[str, AttributeProto] = {}
        for attribute in node.attribute:
            if attribute.name in self._left:
                raise ModelError(f"{attribute.name!r}: given twice")
            self._left[attribute.name] = attribute

    def finish(self) -> None:
        """Refuses attributes that nobody took: their meaning is not known here."""
        if self._left:
            # A name that is no UTF-8 comes as bytes, hence !r.
            raise ModelError(f"{next(iter(self._left))!r}: unknown attribute")

    def ignore(self, *names: str) -> None:
        """Drops attributes that do not change a score."""
        for name in names:
            self._left.pop(name, None)

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
        attribute = self._take(name, AttributeProto.INTS)
        values = () if attribute is None else attribute.ints
        return _checked(name, np.array(values, np.int64), length, required)

    def ids(self, name: str, length: int) -> Int32s:
        """Integers as int32; what does not fit becomes -1 or the largest, both out of range."""
        return np.clip(self.integers(name, length), -1, 2**31 - 1).astype(np.int32)

    def flags(self, name: str, length: int) -> Bools:
        """A list of integers that are 0 or 1."""
        values = self.integers(name, length)
        refuse((values != 0) & (values != 1), lambda i: f"{name} entry {i}", "neither 0 nor 1")
        return values.astype(np.bool_)

    def missing_true(self, length: int) -> Bools:
        """Where NaN goes to the true child; by default nowhere."""
        name = "nodes_missing_value_tracks_true"
        if name not in self._left or not self._left[name].ints:
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
                if name in self._left and self._left[name].floats:
                    raise ModelError(f"{name}: also given as {name}_as_tensor")
                self.ignore(name)
                return _checked(f"{name}_as_tensor", values, length, required)
        attribute = self._take(name, AttributeProto.FLOATS)
        plain = () if attribute is None else attribute.floats
        return _checked(name, np.array(plain, np.float32), length, required)

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

    def _take(self, name: str, kind: AttributeProto.AttributeType) -> AttributeProto | None:
        attribute = self._left.pop(name, None)
        if attribute is not None and attribute.type != kind:
            raise ModelError(f"{name}: expected {AttributeProto.AttributeType.Name(kind)}")
        return attribute


def _checked(
    name: str, values: NDArray[Number], length: int | None, required: bool
) -> NDArray[Number]:
    if required and not len(values) and length != 0:
        raise ModelError(f"{name}: missing or empty")
    if length is not None and len(values) != length:
        raise ModelError(f"{name}: {len(values)} values; expected {length}")
    return values
