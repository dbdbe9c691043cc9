"""A model to break, a way to break it, and what the reader says to it."""

import pytest
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from ranker.errors import ModelError
from ranker.forest.onnx import read_forest
from tests.forest.onnx.onnx_models import Split, tensor

TREE = Split(0, "LT", 0.5, Split(1, "LEQ", 0.25, 1.0, 2.0), Split(2, "GT", 0.75, 3.0, 4.0))


def attribute(node: NodeProto, name: str) -> AttributeProto:
    return next(a for a in node.attribute if a.name == name)


def change(node: NodeProto, **values: object) -> NodeProto:
    """Replaces attributes; a dict replaces single entries, None removes the attribute."""
    for name, value in values.items():
        kept = [a for a in node.attribute if a.name != name]
        if isinstance(value, dict):
            old = helper.get_attribute_value(attribute(node, name))
            is_tensor = isinstance(old, TensorProto)
            entries = numpy_helper.to_array(old).tolist() if is_tensor else list(old)
            for i, entry in value.items():
                entries[i] = entry
            value = tensor(old.data_type, entries) if is_tensor else entries
        kind = AttributeProto.INTS if value == [] else None
        new = [] if value is None else [helper.make_attribute(name, value, attr_type=kind)]
        del node.attribute[:]
        node.attribute.extend(kept + new)
    return node


def refused(content: bytes, kind: type[ModelError] = ModelError) -> str:
    with pytest.raises(ModelError) as caught:
        read_forest(content)
    assert type(caught.value) is kind
    return caught.value.message
