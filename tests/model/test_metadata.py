from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.categories import Categories
from ranker.errors import ModelError
from ranker.model.metadata import ModelMetadata

texts = st.text()
lists = st.lists(texts).map(tuple)
numbers = st.integers(0)
categories = st.one_of(
    st.lists(values, min_size=1, unique=True).map(Categories)
    for values in (texts, st.integers(-(2**63), 2**63 - 1))
)


@given(
    st.builds(
        ModelMetadata,
        name=texts,
        version=texts,
        feature_names=lists,
        feature_types=lists,
        categories=st.dictionaries(numbers, categories),
        required_features=lists,
        output=texts,
        objective=texts,
        xgboost_version=texts,
        trees=numbers,
        depth=numbers,
        iterations=texts,
        max_difference=st.floats(allow_nan=False),
        verified_rows=numbers,
    )
)
def test_props_read_back_as_written(metadata):
    assert ModelMetadata.from_props(metadata.to_props()) == metadata


def test_a_file_of_another_converter_has_the_defaults():
    metadata = ModelMetadata.from_props({"author": "someone", "name": "not ours"})
    assert metadata.name == ""
    assert math.isnan(metadata.max_difference)


def test_unverified_reads_back_as_unverified():
    assert math.isnan(ModelMetadata.from_props(ModelMetadata().to_props()).max_difference)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        pytest.param("name", "books", "not JSON", id="not-json"),
        pytest.param("name", 7, "expected str", id="number-for-text"),
        pytest.param("feature_names", "price", "expected tuple", id="text-for-list"),
        pytest.param("feature_names", ["price", 7], "expected tuple", id="list-of-mixed"),
        pytest.param("trees", 7.5, "expected int", id="fraction-for-count"),
        pytest.param("trees", True, "expected int", id="truth-for-count"),
        pytest.param("max_difference", "0", "expected float", id="text-for-number"),
        pytest.param("categories", [], "expected an object", id="list-for-object"),
        pytest.param("categories", {"a": []}, "expected lists by", id="categories-by-name"),
        pytest.param("categories", {"1": "a"}, "expected lists by", id="categories-that-are-text"),
        pytest.param("categories", {"1": [1, "a"]}, "feature 1: expected", id="mixed-categories"),
        pytest.param("categories", {"1": ["a", "a"]}, "feature 1: a category", id="twice"),
        pytest.param("max_difference", True, "expected float", id="truth-for-number"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_key(key, value, message):
    text = value if message == "not JSON" else json.dumps(value)
    with pytest.raises(ModelError, match=rf"metadata ranker\.{key}: {message}"):
        ModelMetadata.from_props({f"ranker.{key}": text})
