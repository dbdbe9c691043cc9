"""The categories that an exported file holds: the model's own, else those that the caller gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from ranker.categories import Categories
from ranker.errors import ModelError

if TYPE_CHECKING:
    from ranker.export.xgboost_model import XGBoostModel

Given = Mapping[str, Sequence[str | int]]
"""Categories in the order of their codes, by the name of their feature."""


@dataclass(frozen=True)
class Texts:
    """Texts beyond ASCII as XGBoost keeps them: not to be trusted, but to check others by.

    XGBoost 3.1 and 3.2 count the characters of a pandas frame's categories where
    they mean bytes (https://github.com/dmlc/xgboost/pull/12371), so what they keep
    is cut in wrong places and lacks its end. Where the cuts happen to fall between
    characters it can't be told from what is right.

    Attributes:
        content: the texts one after the other, in UTF-8.
        ends: where each ends, 0 first: in bytes, or in characters.
    """

    content: bytes
    ends: tuple[int, ...]

    def could_be(self, values: Sequence[str | int]) -> bool:
        """Whether these are the texts that XGBoost was given, counted either way."""
        if not all(isinstance(value, str) for value in values):
            return False
        texts = list(map(str, values))
        content = "".join(texts).encode()
        in_bytes = tuple(accumulate((len(text.encode()) for text in texts), initial=0))
        in_characters = tuple(accumulate(map(len, texts), initial=0))
        return (self.ends, self.content) == (in_bytes, content) or (
            (self.ends, self.content) == (in_characters, content[: in_characters[-1]])
        )


def read_categories(
    encodings: Sequence[Mapping[str, Any]],
) -> tuple[dict[int, Categories], dict[int, Texts]]:
    """Reads the categories that XGBoost, since 3.1, keeps of the data frame it was trained on.

    Args:
        encodings: `cats.enc` of the model as JSON: an entry for each feature, of
            texts their bytes and where each begins, of integers the values.

    Returns:
        By feature, of those that have any: the categories; and what is kept of
        texts that are not all ASCII.
    """
    found: dict[int, Categories] = {}
    doubtful: dict[int, Texts] = {}
    for feature, encoding in enumerate(encodings):
        if not encoding["values"]:
            continue
        values: list[str] | list[int] = encoding["values"]
        if "offsets" in encoding:
            content = bytes(value & 0xFF for value in encoding["values"])
            ends = encoding["offsets"]
            if not content.isascii():
                doubtful[feature] = Texts(content, tuple(ends))
                continue
            values = [content[begin:end].decode() for begin, end in pairwise(ends)]
        try:
            found[feature] = Categories(values)
        except ModelError as error:
            raise ModelError(f"the categories of feature {feature}: {error.message}") from error
    return found, doubtful


def with_given(model: XGBoostModel, given: Given) -> dict[int, Categories]:
    """The model's own categories and the caller's.

    Raises:
        ModelError: the caller's are of a feature that has no codes, contradict
            the model's own, or are too few for the codes in its trees.
    """
    categories = dict(model.categories)
    positions = {name: position for position, name in enumerate(model.feature_names)}
    categorical = set(model.categorical())
    for name, values in given.items():
        place = f"categories: {name}"
        if name not in positions:
            raise ModelError(f"{place}: the model has no feature of that name")
        feature = positions[name]
        if feature not in categorical:
            raise ModelError(f"{place}: the model reads that feature as a number")
        if isinstance(values, str):
            raise ModelError(f"{place}: expected a list of categories, got a text")
        if hasattr(values, "tolist"):  # NumPy's array, or pandas' index
            values = values.tolist()
        try:
            found = Categories(values)
        except ModelError as error:
            raise ModelError(f"{place}: {error.message}") from error
        kept = model.doubtful_categories.get(feature)
        if categories.setdefault(feature, found) != found or not (
            kept is None or kept.could_be(values)
        ):
            raise ModelError(f"{place}: the model was trained with others, or in another order")
        highest = _highest_code(model, feature)
        if highest >= len(found):
            raise ModelError(
                f"{place}: {len(found)} categories, and the trees know the code {highest}"
            )
    return categories


def notes(model: XGBoostModel, categories: Mapping[int, Categories]) -> list[str]:
    """What a user should know of how categorical features travel."""

    def name(feature: int) -> str:
        return model.feature_names[feature] if model.feature_names else f"feature {feature}"

    told = []
    if categories:
        counts = ", ".join(f"{name(i)} {len(found)}" for i, found in sorted(categories.items()))
        told.append(
            "categorical features take codes on the wire; the file holds the categories that they "
            f"stand for ({counts}), so that Model, the Python client and ranker rank take these"
        )
    if doubtful := [name(i) for i in model.doubtful_categories if i not in categories]:
        told.append(
            f"the categories of {', '.join(doubtful)} are not all ASCII, which XGBoost 3.1 and 3.2 "
            "may keep in the wrong pieces, so they are not taken from the model: give them with "
            "categories= or --categories, or only codes can be sent"
        )
    without = set(model.categorical()) - categories.keys() - model.doubtful_categories.keys()
    if bare := [name(i) for i in sorted(without)]:
        told.append(
            f"categorical features take codes, and of {', '.join(bare)} the model holds no "
            "categories (XGBoost keeps them since 3.1, of a data frame): give them with "
            "categories= or --categories, or only codes can be sent"
        )
    return told


def _highest_code(model: XGBoostModel, feature: int) -> int:
    return max(
        (
            int(members.max())
            for tree in model.trees
            for node, members in tree.members.items()
            if tree.feature[node] == feature
        ),
        default=-1,
    )
