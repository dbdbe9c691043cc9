"""Both clients on data frames: names travel, values are coded for the version that answers."""

from __future__ import annotations

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from ranker.errors import InvalidRequestError, NotFoundError, UnavailableError
from ranker.v1 import ranking_pb2 as pb
from tests.client.fake_server import silent
from tests.frames.makers import MAKERS

NAN = float("nan")
FEATURES = ("genre", "price", "store")
GENRES = ("essay", "crime", "drama")
OTHER_GENRES = ("crime", "drama", "essay")


def model(version="7", genres=GENRES, features=FEATURES) -> pb.Model:
    categories = [
        pb.FeatureCategories(feature=0, texts=genres),
        pb.FeatureCategories(feature=2, integers=[40, 10]),
    ]
    return pb.Model(name="fake", version=version, feature_names=features, categories=categories)


@pytest.fixture(autouse=True)
def described(fake):
    fake.models = [model()]


def sent(request: pb.RankRequest) -> dict[str, list[float]]:
    """The candidates' columns by name, in order."""
    matrix = request.candidates
    rows = np.frombuffer(matrix.data, "<f4").reshape(matrix.rows, matrix.columns)
    return dict(zip(request.feature_names, rows.T.tolist(), strict=True))


def ranks(features, **options):
    return lambda client: client.rank(features, **options)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_names_travel_and_values_are_coded(fake, run, make):
    run(fake.target, ranks(make({"price": [0.5, 2.0], "genre": ["drama", "essay"]})))
    assert sent(fake.attempts[0].request) == {"price": [0.5, 2], "genre": [2, 0]}


@pytest.mark.parametrize(
    ("frame", "columns"),
    [
        pytest.param(
            pd.DataFrame({"genre": pd.Categorical(["crime", None], ["crime", "zebra"])}),
            {"genre": [1, NAN]},
            id="pandas",
        ),
        pytest.param(
            pd.DataFrame({"store": pd.Categorical([10, 40])}), {"store": [1, 0]}, id="integers"
        ),
        pytest.param(pl.DataFrame({"store": ["40", "10"]}), {"store": [0, 1]}, id="as-text"),
        pytest.param(
            pl.DataFrame({"genre": pl.Series(["crime", None], dtype=pl.Categorical)}),
            {"genre": [1, NAN]},
            id="polars",
        ),
        pytest.param(
            pa.table({"store": pa.array([10, 40]).dictionary_encode()}),
            {"store": [1, 0]},
            id="pyarrow",
        ),
        pytest.param(pd.DataFrame({"genre": [1.0, 99.0]}), {"genre": [1, 99]}, id="codes"),
    ],
)
def test_categories(fake, run, frame, columns):
    run(fake.target, ranks(frame))
    np.testing.assert_equal(sent(fake.attempts[0].request), columns)


def test_text_in_the_context_is_a_category(fake, run):
    context = {"genre": "drama", "store": "10", "price": 2.5}
    run(fake.target, ranks([[1.0]], context=context))
    request = fake.attempts[0].request
    assert dict(zip(request.context.feature_names, request.context.values, strict=True)) == {
        "genre": 2,
        "store": 1,
        "price": 2.5,
    }


def test_a_matrix_needs_no_description(fake, run_all):
    run_all(fake.target, [ranks(np.eye(3)), ranks([[1.0]], context={"price": 1})])
    assert fake.asked == []
    assert [list(attempt.request.feature_names) for attempt in fake.attempts] == [[], []]


@pytest.mark.parametrize(
    ("features", "names"),
    [
        pytest.param(["1", "0", "7"], ["0", "1"], id="numbers-for-names"),
        pytest.param(["price", "genre", "store"], [], id="names"),
        pytest.param([], [], id="none"),
    ],
)
def test_a_numbered_frame_has_names_where_the_model_has_such(fake, run, features, names):
    fake.models = [model(features=features)]
    run(fake.target, ranks(pd.DataFrame(np.eye(2))))
    assert list(fake.attempts[0].request.feature_names) == names


def test_masked_values_are_refused(fake, run):
    masked = np.ma.array([[1, 2], [3, 4]], mask=[[False, True], [False, False]])
    with pytest.raises(InvalidRequestError, match="some values are masked"):
        run(fake.target, ranks(masked))
    assert fake.attempts == []


def test_names_of_a_numbered_frame_may_be_given(fake, run):
    run(fake.target, ranks(pd.DataFrame([[1.0, 2.0]]), feature_names=["price", "genre"]))
    assert sent(fake.attempts[0].request) == {"price": [1], "genre": [2]}
    assert fake.asked == []


def test_names_that_are_given_must_be_the_frames(fake, run_all):
    frame = pd.DataFrame({"price": [1.0], "genre": ["crime"]})
    run_all(fake.target, [ranks(frame, feature_names=["price", "genre"])])
    with pytest.raises(InvalidRequestError, match="the data frame has other names") as raised:
        run_all(fake.target, [ranks(frame, feature_names=["genre", "price"])])
    assert raised.value.field == "feature_names"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        pytest.param(
            pd.DataFrame({"prize": [1.0], "title": ["x"]}),
            r"no feature 'prize' \(did you mean 'price'\?\), 'title'",
            id="unknown-columns",
        ),
        pytest.param(
            pd.DataFrame({"genre": ["western"]}), "no category 'western'", id="unknown-category"
        ),
        pytest.param(pd.DataFrame({"price": ["1"]}), "expected numbers, got text", id="text"),
        pytest.param(pd.DataFrame({"store": [10]}), "categories or their codes", id="or-codes"),
        pytest.param({"price": [1.0]}, "dict has names for its columns", id="dict"),
        pytest.param(pl.LazyFrame({"price": [1.0]}), "LazyFrame has names", id="lazy"),
    ],
)
def test_what_cannot_be_taken_safely_is_not_sent(fake, run, frame, words):
    with pytest.raises(InvalidRequestError, match=words):
        run(fake.target, ranks(frame))
    assert fake.attempts == []


@pytest.mark.parametrize(
    ("context", "words"),
    [
        pytest.param({"price": "cheap"}, "price: expected a real number, got 'cheap'", id="number"),
        pytest.param({"genre": "western"}, "genre: the model has no category 'western'", id="none"),
    ],
)
def test_text_that_is_no_category_is_not_sent(fake, run, context, words):
    with pytest.raises(InvalidRequestError, match=words):
        run(fake.target, ranks([[1.0]], context=context))


def test_a_model_without_names_takes_a_matrix_only(fake, run):
    fake.models = [pb.Model(name="fake", version="7")]
    with pytest.raises(InvalidRequestError, match="features have no names"):
        run(fake.target, ranks(pd.DataFrame({"price": [1.0]})))


def test_no_such_model(fake, run):
    with pytest.raises(NotFoundError):
        run(fake.target, ranks(pd.DataFrame({"price": [1.0]}), model="films"))


FRAME = pd.DataFrame({"genre": ["drama", "crime"]})


def test_the_server_is_asked_once_per_version(fake, run_all):
    old = {"model": "fake", "model_version": "6"}
    fake.models.append(model("6", OTHER_GENRES))
    run_all(fake.target, [ranks(FRAME)] * 3 + [ranks(FRAME, **old)] * 3)
    assert fake.asked == [("", ""), ("fake", "6")]
    codes = [sent(attempt.request)["genre"] for attempt in fake.attempts]
    assert codes == [[2, 1]] * 3 + [[1, 0]] * 3
    assert [attempt.request.model_version for attempt in fake.attempts] == [""] * 3 + ["6"] * 3


def serve(fake, *models):
    """An action: the server's models are others from now on."""

    def action(_client):
        fake.models = list(models)
        return _nothing()

    return action


class _nothing:  # noqa: N801
    """What may be awaited and need not be."""

    def __await__(self):
        yield from ()


def test_a_version_with_other_categories_answers_for_its_own(fake, run_all):
    """Coded for the old version and answered by the new one: that answer does not count."""
    actions = [ranks(FRAME), serve(fake, model("8", OTHER_GENRES)), ranks(FRAME), ranks(FRAME)]
    rankings = run_all(fake.target, actions)
    assert [rankings[i].version for i in (0, 2, 3)] == ["7", "8", "8"]
    assert [sent(attempt.request)["genre"] for attempt in fake.attempts] == [
        [2, 1],
        [2, 1],
        [1, 0],
        [1, 0],
    ]
    assert [attempt.request.model_version for attempt in fake.attempts] == ["", "", "8", ""]
    assert [rankings[i].indices.tolist() for i in (2, 3)] == [[0, 1]] * 2
    assert fake.asked == [("", ""), ("fake", "8")]


def test_a_version_with_the_same_categories_answers_at_once(fake, run_all):
    run_all(fake.target, [ranks(FRAME), serve(fake, model("8")), ranks(FRAME), ranks(FRAME)])
    assert len(fake.attempts) == 3
    assert fake.asked == [("", ""), ("fake", "8")]


NUMBERS = pd.DataFrame({"store": [10, 40]})
"""The store is a number to a version that knows no categories of it."""


def plain(version="6") -> pb.Model:
    return pb.Model(name="fake", version=version, feature_names=FEATURES)


def test_numbers_are_refused_where_a_later_version_may_take_them_for_codes(fake, run_all):
    fake.models = [plain()]
    assert run_all(fake.target, [ranks(NUMBERS)])[0].version == "6"
    with pytest.raises(InvalidRequestError, match="categories or their codes"):
        run_all(fake.target, [ranks(NUMBERS), serve(fake, model("7"), plain()), ranks(NUMBERS)])


def test_numbered_columns_are_named_where_a_later_version_has_numbers_for_names(fake, run_all):
    """The version of before takes them by their place, which is another one in the later one."""
    fake.models = [plain()]
    frame = pd.DataFrame([[10.0, 20.0], [5.0, 30.0]])
    later = model("8", features=["1", "0"])
    rankings = run_all(fake.target, [ranks(frame), serve(fake, later), ranks(frame), ranks(frame)])
    assert [rankings[i].version for i in (0, 2, 3)] == ["6", "8", "8"]
    asked = [(each.request.model_version, each.request.feature_names) for each in fake.attempts]
    assert asked == [("", []), ("", []), ("8", ["0", "1"]), ("", ["0", "1"])]


def test_a_feature_that_a_later_version_has_is_sent_to_it(fake, run_all):
    frame = pd.DataFrame({"clicks": [1.0, 2.0]})
    later = model("8", features=(*FEATURES, "clicks"))
    run_all(fake.target, [ranks(FRAME), serve(fake, later), ranks(frame), ranks(frame)])
    assert [sent(attempt.request) for attempt in fake.attempts[1:]] == [{"clicks": [1, 2]}] * 2
    assert fake.asked == [("", ""), ("", "")]


@pytest.fixture
def split(fake):
    """Two versions that code the genre differently, and a unit for each."""
    old, new = model("7"), model("8", OTHER_GENRES)
    old.labels.append("stable")
    new.labels.append("canary")
    fake.models = [old, new]
    fake.arms = {"old": "stable", "new": "canary"}


@pytest.mark.usefixtures("split")
def test_a_label_is_asked_for_once_and_followed_when_it_moves(fake, run_all):
    def move(_client):
        fake.models[0].labels[:], fake.models[1].labels[:] = ["canary"], ["stable"]
        return _nothing()

    canary = ranks(FRAME, model="fake", model_version="@canary")
    rankings = run_all(fake.target, [canary, canary, move, canary, canary])
    found = [(rankings[i].version, rankings[i].arm) for i in (0, 1, 3, 4)]
    assert found == [("8", "canary")] * 2 + [("7", "canary")] * 2
    assert fake.asked == [("fake", "@canary"), ("fake", "7")]
    codes = [sent(attempt.request)["genre"] for attempt in fake.attempts]
    assert codes == [[1, 0]] * 3 + [[2, 1]] * 2, "the third was coded for version 8"


@pytest.mark.usefixtures("split")
def test_each_unit_of_a_split_is_answered_by_its_version_in_its_codes(fake, run_all):
    units = ["old", "new", "new", "old"]
    rankings = run_all(fake.target, [ranks(FRAME, unit=unit) for unit in units])
    arms = [("7", "stable"), ("8", "canary"), ("8", "canary"), ("7", "stable")]
    assert [(ranking.version, ranking.arm) for ranking in rankings] == arms
    assert [ranking.indices.tolist() for ranking in rankings] == [[0, 1]] * 4
    codes = {"7": [2, 1], "8": [1, 0]}
    for attempt in fake.attempts:
        if attempt.request.model_version:
            assert sent(attempt.request)["genre"] == codes[attempt.request.model_version]
    assert len(fake.attempts) == 4 + 2, "what was coded for the other version was sent again"


@pytest.mark.usefixtures("split")
def test_a_column_that_only_a_units_version_has_is_taken(fake, run_all):
    fake.models[1].feature_names.append("clicks")
    frame = pd.DataFrame({"clicks": [1.0, 2.0]})
    with pytest.raises(InvalidRequestError, match="no feature 'clicks'"):
        run_all(fake.target, [ranks(FRAME, unit="old"), ranks(frame, unit="old")])
    rankings = run_all(fake.target, [ranks(FRAME, unit="old"), ranks(frame, unit="new")])
    assert [ranking.version for ranking in rankings] == ["7", "8"]


@pytest.mark.usefixtures("split")
def test_a_stream_refuses_an_answer_by_another_arm_and_says_how_to_ask_again(fake, submit_all):
    again = {"unit": "new", "model_version": "8"}
    first, other, third = submit_all(
        fake.target, [(FRAME, {"unit": "old"})], then=[(FRAME, {"unit": "new"}), (FRAME, again)]
    )
    assert (first.version, first.arm) == ("7", "stable")
    assert isinstance(other, UnavailableError)
    assert "submit it again with model_version='8'" in str(other)
    assert third.version == "8"


def test_streams_take_frames_and_values(fake, submit_all):
    context = {"context": {"store": "10"}}
    rankings = submit_all(fake.target, [FRAME, (FRAME, context)], then=[FRAME])
    assert [ranking.indices.tolist() for ranking in rankings] == [[0, 1]] * 3
    assert fake.asked[0] == ("", "")


def test_a_stream_does_not_count_an_answer_by_other_categories(fake, submit_all):
    def changing(requests, _context):
        for position, request in enumerate(requests):
            if position == 1:
                fake.models = [model("8", OTHER_GENRES)]
            yield fake.answer(request)

    fake.stream = changing
    first, second, third = submit_all(fake.target, [FRAME], then=[FRAME]) + submit_all(
        fake.target, [FRAME]
    )
    assert first.version == "7"
    assert isinstance(second, UnavailableError)
    assert "fake@8 answered" in str(second)
    assert "fake@7" in str(second)
    assert third.version == "8"


@pytest.mark.parametrize(
    ("frame", "later", "error", "words"),
    [
        pytest.param(
            NUMBERS, model("8"), InvalidRequestError, "categories or their codes", id="codes"
        ),
        pytest.param(
            pd.DataFrame([[10.0, 20.0]]),
            model("8", features=["1", "0", "2"]),
            UnavailableError,
            "fake@8 answered, but the request was written for fake@6",
            id="numbered-columns",
        ),
    ],
)
def test_a_stream_does_not_count_an_answer_to_another_request(
    fake, submit_all, frame, later, error, words
):
    def changing(requests, _context):
        for request in requests:
            yield fake.answer(request)
            fake.models = [later]

    fake.models = [plain()]
    fake.stream = changing
    first, second = submit_all(fake.target, [frame], then=[frame])
    assert first.version == "6"
    assert isinstance(second, error)
    assert words in str(second)


def test_a_stream_takes_an_answer_by_the_same_categories(fake, submit_all):
    def changing(requests, _context):
        for request in requests:
            yield fake.answer(request)
            fake.models = [model("8")]

    fake.stream = changing
    rankings = submit_all(fake.target, [FRAME], then=[FRAME, FRAME])
    assert [ranking.version for ranking in rankings] == ["7", "8", "8"]
    assert fake.asked == [("", ""), ("fake", "8")]


def test_a_stream_refuses_what_cannot_be_taken_safely(fake, submit_all):
    fake.stream = silent
    (error,) = submit_all(fake.target, [pd.DataFrame({"prize": [1.0]})])
    assert isinstance(error, InvalidRequestError)
    assert "no feature 'prize'" in str(error)
