from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.categories import Categories
from ranker.errors import ModelError
from ranker.model.metadata import MAX_COUNT, ModelMetadata

texts = st.text()
lists = st.lists(texts).map(tuple)
counts = st.integers(0, MAX_COUNT)
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
        categories=st.dictionaries(st.integers(0, 999_999_999), categories),
        required_features=lists,
        output=texts,
        objective=texts,
        xgboost_version=texts,
        trees=counts,
        depth=counts,
        iterations=texts,
        max_difference=st.floats(allow_nan=False),
        verified_rows=counts,
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
        pytest.param("categories", {"01": ["a"]}, "expected lists by", id="position-with-a-zero"),
        pytest.param("categories", {"1" * 5000: ["a"]}, "expected lists by", id="endless-position"),
        pytest.param("trees", -1, "expected 0 to 2147483647", id="trees-below-zero"),
        pytest.param("trees", 10**30, "expected 0 to 2147483647", id="trees-beyond-32-bits"),
        pytest.param("depth", 2**31, "expected 0 to 2147483647", id="depth-beyond-32-bits"),
        pytest.param("verified_rows", 2**31, "expected 0 to", id="rows-beyond-32-bits"),
        pytest.param("objective", "a\ud800", "can't be written in UTF-8", id="half-a-character"),
        pytest.param("feature_names", ["a", "\ud800"], "can't be written", id="half-in-a-list"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_key(key, value, message):
    text = value if message == "not JSON" else json.dumps(value)
    with pytest.raises(ModelError, match=rf"metadata ranker\.{key}: {message}"):
        ModelMetadata.from_props({f"ranker.{key}": text})


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        pytest.param("name", b'"\xff"', "not JSON: b'", id="no-utf-8"),
        pytest.param("name", b'"' + b"\xff" * 200 + b'"', "not JSON: b'", id="no-utf-8-and-long"),
        pytest.param("categories", "[" * 100_000, "too many lists", id="deep-categories"),
        pytest.param("feature_names", "[" * 100_000, "too many lists", id="deep-names"),
        pytest.param("reference", '{"rows":' * 100_000, "too many lists", id="deep-reference"),
        pytest.param("trees", "1" * 5000, "not JSON: '1", id="endless-number"),
    ],
)
def test_a_value_that_is_not_even_json_is_refused_by_key(key, text, message):
    with pytest.raises(ModelError, match=rf"metadata ranker\.{key}: {message}") as refused:
        ModelMetadata.from_props({f"ranker.{key}": text})
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("key", ["feature_names", "categories", "reference"])
def test_lists_within_lists_are_refused_at_any_depth(key):
    """Also where they can just be read, and an error that shows them could not be written."""
    for depth in range(700, 1100):
        with pytest.raises(ModelError, match=rf"metadata ranker\.{key}: "):
            ModelMetadata.from_props({f"ranker.{key}": "[" * depth + "]" * depth})
