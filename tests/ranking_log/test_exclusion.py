from __future__ import annotations

import math

import numpy as np
import pytest

from ranker.ranking_log.exclusion import (
    Exclusion,
    NamelessError,
    UnknownFeatureError,
    without_explanations,
)
from ranker.v1 import ranking_pb2 as pb
from tests.ranking_log.support import request


def applied(exclusion: Exclusion, asked: pb.RankRequest, names):
    data, excluded = exclusion.applied(asked.SerializeToString(), names)
    changed = pb.RankRequest.FromString(data)
    matrix = changed.candidates
    rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
    return changed, rows, excluded


def test_columns_of_the_request_are_blanked():
    asked = request([[1, 2, 3], [4, 5, 6]], feature_names=["a", "b", "c"], candidate_ids=["x", "y"])
    changed, rows, excluded = applied(Exclusion(["b", "z"]), asked, "abcz")
    np.testing.assert_array_equal(rows, [[1, np.nan, 3], [4, np.nan, 6]])
    assert excluded == ("b",)
    changed.candidates.data = asked.candidates.data
    assert changed == asked  # nothing else has changed


def test_columns_are_the_models_own_without_those_of_the_context():
    context = pb.Context(feature_names=["b"], values=[7.0])
    asked = request([[1, 3]], context=context)
    changed, rows, excluded = applied(Exclusion(["b", "c"]), asked, "abc")
    np.testing.assert_array_equal(rows, [[1, np.nan]])
    assert math.isnan(changed.context.values[0])
    assert excluded == ("c", "b")


def test_a_request_without_them_stays_as_it_is_byte_for_byte():
    unknown = b"\xc2\x3e\x03new"  # a field that a later contract may have
    data = request([[1.0]], feature_names=["a"]).SerializeToString() + unknown
    assert Exclusion(["b"]).applied(data, "ab") == (data, ())


def test_without_names_nobody_knows_the_columns():
    with pytest.raises(NamelessError):
        Exclusion(["a"]).applied(request([[1.0]]).SerializeToString(), ())


def test_explanations_tell_of_features_and_are_left_out():
    plain = pb.RankResponse(indices=[0], scores=[1.0]).SerializeToString()
    assert without_explanations(plain) == plain
    explained = pb.RankResponse(
        indices=[0],
        scores=[1.0],
        explanations=[pb.Explanation(contributions=[0.5])],
        explained_feature_names=["age"],
    )
    assert without_explanations(explained.SerializeToString()) == plain


def test_of_a_model_that_lacks_one_no_feature_is_left():
    """It may have it under another name."""
    context = pb.Context(feature_names=["years"], values=[7.0])
    asked = request([[1, 3]], context=context, request_id="r", candidate_ids=["x"])
    changed, rows, excluded = applied(Exclusion(["age", "a"]), asked, ["a", "b", "years"])
    assert np.isnan(rows).all()
    assert math.isnan(changed.context.values[0])
    assert excluded == ("a", "b", "years")
    assert (changed.request_id, list(changed.candidate_ids)) == ("r", ["x"])


def test_a_name_that_no_model_has_is_an_error_with_the_nearest_one():
    models = {"books@7": ("age", "price"), "films@1": ("year",)}
    Exclusion(["age", "year"]).check(models)
    with pytest.raises(UnknownFeatureError) as caught:
        Exclusion(["year", "pirce"]).check(models)
    assert str(caught.value) == (
        "--log-exclude-feature: no feature 'pirce' (did you mean 'price'?) in books@7, films@1, "
        "which has age, price, year"
    )


def test_a_model_that_lacks_one_is_told(caplog):
    Exclusion(["age"]).warn("books@7", ["age", "price"])
    assert not caplog.records
    Exclusion(["age"]).warn("books@8", ["reader_age", "price"])
    assert "books@8 has no feature 'age'" in caplog.text
