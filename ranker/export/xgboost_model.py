"""An XGBoost model as plain arrays, or the reason why it can't be exported.

XGBoost reads every source itself, in whatever version's format it is, and
writes it out again in the JSON schema that it documents under "Introduction to
Model IO". So old spellings (`base_score` as a number or as a vector, trees
without `iteration_indptr`) are never met here, and nothing goes through the
text dump, which rounds.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from ranker.categories import Categories
from ranker.errors import ModelError
from ranker.export.categories import Texts, read_categories
from ranker.export.schema import installed, refuse_newer_file, refuse_unknown
from ranker.model.formats import CATBOOST, LIGHTGBM, XGBOOST, recognise

LOGISTIC = frozenset({"binary:logistic", "binary:logitraw", "reg:logistic"})
"""The objectives whose margin is a log-odds."""

OTHER_LIBRARIES = {"lightgbm": LIGHTGBM, "catboost": CATBOOST}
"""By the package that a model object comes from."""

MAX_CATEGORY = 2**24
"""XGBoost calls a code from here on, or a negative one, no category; each below is a float32."""


@dataclass(frozen=True, eq=False)
class Tree:
    """One tree's nodes that a row can reach, breadth-first; the root is node 0.

    With N nodes:

    Attributes:
        feature: int32 [N]; 0 on a leaf.
        value: float32 [N]; on a numeric split the threshold: less goes left;
            on a leaf the score, times the tree's weight; on a categorical
            split of no meaning.
        left: int32 [N]; -1 on a leaf.
        right: int32 [N]; -1 on a leaf.
        missing_left: bool [N]; where NaN goes; False on a leaf.
        members: for each categorical split, by its node, the codes that go
            right: float32, sorted. All other codes go left.
        cover: float32 [N]; how much of the training data came to the node, as
            XGBoost measures it: the sum of the rows' second derivatives.
        depth: the number of splits on the longest path.
    """

    feature: NDArray[np.int32]
    value: NDArray[np.float32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    members: dict[int, NDArray[np.float32]]
    cover: NDArray[np.float32]
    depth: int


@dataclass(frozen=True)
class Rounds:
    """The boosting rounds to export.

    Attributes:
        begin: the first round.
        end: one past the last.
        total: how many the model has.
        reason: why these.
        note: what may be wrong with that; empty: nothing.
    """

    begin: int
    end: int
    total: int
    reason: str
    note: str = ""


@dataclass(frozen=True, eq=False)
class XGBoostModel:
    """What an export needs to know of a model.

    Attributes:
        booster: a copy that is nobody else's, all rounds in it.
        rounds: the rounds that `trees` holds.
        trees: in the order in which XGBoost adds them up.
        base_margin: what XGBoost starts that sum from.
        objective: XGBoost's name of it.
        dart: whether the booster is dart.
        num_features: the number of columns.
        feature_names: one per column, or none.
        feature_types: XGBoost's, one per column, or none.
        categories: by feature, those of the training data; XGBoost keeps them
            since 3.1, of data frames.
        doubtful_categories: by feature, what it keeps of those that aren't all ASCII.
    """

    booster: xgb.Booster
    rounds: Rounds
    trees: tuple[Tree, ...]
    base_margin: np.float32
    objective: str
    dart: bool
    num_features: int
    feature_names: tuple[str, ...]
    feature_types: tuple[str, ...]
    categories: dict[int, Categories]
    doubtful_categories: dict[int, Texts]

    def categorical(self) -> list[int]:
        """The features that are read as codes, by type or by a split."""
        by_type = {i for i, kind in enumerate(self.feature_types) if kind == "c"}
        return sorted(by_type.union(*(t.feature[list(t.members)].tolist() for t in self.trees)))


def read(
    source: xgb.Booster | xgb.XGBModel | str | Path, iteration_range: tuple[int, int] | None = None
) -> XGBoostModel:
    """Reads a model.

    Args:
        source: a booster, a fitted scikit-learn estimator of XGBoost's, or the
            path of a `.ubj` or `.json` file.
        iteration_range: the rounds to take, begin and end, as `predict` takes
            it; (0, 0) is all. None: up to the best one where early stopping
            noted it, else all.

    Raises:
        ModelError: it is no XGBoost model, or one that can't be exported; says why.
    """
    installed()
    booster, document = _load(source)
    try:
        learner = document["learner"]
        _refuse_unsupported(learner)
        refuse_unknown(document)
        rounds = _choose_rounds(booster, iteration_range)
        forest = learner["gradient_booster"]
        # dart's trees are a gbtree within it.
        model = forest.get("gbtree", forest)["model"]
        num_features = int(learner["learner_model_param"]["num_feature"])
        begin, end = (model["iteration_indptr"][i] for i in (rounds.begin, rounds.end))
        weights = forest.get("weight_drop") or [1.0] * len(model["trees"])
        trees = tuple(
            _read_tree(model["trees"][i], np.float32(weights[i]), num_features, i)
            for i in range(begin, end)
        )
        _refuse_mixed_features(trees)
        categories, doubtful = read_categories(model.get("cats", {}).get("enc", ()))
        return XGBoostModel(
            booster=booster,
            rounds=rounds,
            trees=trees,
            base_margin=_base_margin(booster, rounds.begin),
            objective=learner["objective"]["name"],
            dart=forest["name"] == "dart",
            num_features=num_features,
            feature_names=tuple(booster.feature_names or ()),
            feature_types=tuple(booster.feature_types or ()),
            categories=categories,
            doubtful_categories=doubtful,
        )
    except (KeyError, IndexError) as error:
        raise ModelError(
            f"XGBoost {xgb.__version__} wrote the model in a form this exporter does not know: "
            f"{error!r}"
        ) from error


def _load(source: xgb.Booster | xgb.XGBModel | str | Path) -> tuple[xgb.Booster, dict[str, Any]]:
    """The model in a booster of our own, and as JSON.

    A booster of our own, so that the caller's keeps its settings and device.
    """
    try:
        if isinstance(source, xgb.XGBModel):
            _refuse_custom_missing(source.missing)
            source = source.get_booster()
        if isinstance(source, xgb.Booster):
            raw = bytes(source.save_raw("ubj"))
        elif isinstance(source, (str, Path)):
            raw = Path(source).read_bytes()
            if not raw:  # XGBoost 3.2 would end the process
                raise ModelError(f"{source}: the file is empty")
            if (found := recognise(raw)) not in (None, XGBOOST):
                raise ModelError(f"{source}: {found.refusal(source)}")
            refuse_newer_file(raw, source)
        else:
            raise ModelError(_no_model(source))
        booster = xgb.Booster()
        booster.load_model(bytearray(raw))
        return booster, json.loads(booster.save_raw("json"))
    except OSError as error:
        raise ModelError(f"{source}: can't be read: {error.strerror}") from error
    except (xgb.core.XGBoostError, ValueError) as error:
        what = source if isinstance(source, (str, Path)) else type(source).__name__
        raise ModelError(f"{what}: no model that XGBoost can load: {_reason(error)}") from error


def _no_model(source: object) -> str:
    kind = type(source)
    text = (
        f"expected a Booster, a scikit-learn estimator of XGBoost's or a path, got {kind.__name__}"
    )
    library = OTHER_LIBRARIES.get(kind.__module__.partition(".")[0])
    return f"{text}, {library.what}: {library.advice}" if library else text


def _reason(error: Exception) -> str:
    """The first line without when and where: XGBoost adds these, and a C++ stack trace."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return re.sub(r"^\[[\d:]+\] \S+: ", "", lines[0])


def _refuse_custom_missing(missing: float) -> None:
    if not math.isnan(missing):
        raise ModelError(
            f"missing={missing}: the estimator reads that value as missing, which the model file "
            "does not hold; only NaN is missing here. Train with NaN instead"
        )


def _refuse_unsupported(learner: dict[str, Any]) -> None:
    booster = learner["gradient_booster"]["name"]
    if booster not in ("gbtree", "dart"):
        raise ModelError(f"booster {booster}: only gbtree and dart can be exported, as trees")
    objective = learner["objective"]["name"]
    classes = int(learner["learner_model_param"]["num_class"])
    if classes > 1:
        raise ModelError(f"objective {objective} with {classes} classes: expected one score a row")
    targets = int(learner["learner_model_param"]["num_target"])
    if targets > 1:
        raise ModelError(f"{targets} targets: expected one score a row")


def _choose_rounds(booster: xgb.Booster, iteration_range: tuple[int, int] | None) -> Rounds:
    total = booster.num_boosted_rounds()
    if total == 0:
        raise ModelError("the model has no trees: it was trained for zero rounds")
    best = _best_round(booster) if iteration_range is None else None
    note = ""
    if iteration_range is not None:
        begin, end = iteration_range
        reason = "as asked"
        if (begin, end) == (0, 0):  # as XGBoost's `predict` has it
            end, reason = total, "all, as asked by 0:0"
    # XGBoost 1.7 notes the last round as the best one where nothing stopped early. And a slice
    # keeps the note of the whole, which may lie beyond it.
    elif best is not None and best + 1 < total:
        begin, end = 0, best + 1
        reason = f"early stopping found round {best} to be the best"
        note = (
            f"{total - end} rounds after the best one are left out. If the model was trained on "
            "since, that round is the earlier training's, and they belong to the model: "
            "--iteration-range 0:0 exports all"
        )
    else:
        begin, end = 0, total
        reason = "all"
    if not 0 <= begin < end <= total:
        raise ModelError(
            f"rounds {begin}:{end} ({reason}): expected begin < end within the model's {total}"
        )
    return Rounds(begin, end, total, reason, note)


def _best_round(booster: xgb.Booster) -> int | None:
    """The round that early stopping noted; None if there is no such note."""
    try:
        noted = booster.attr("best_iteration")
    except (AssertionError, UnicodeDecodeError):
        noted = ""  # XGBoost expects that no attribute is empty, and that all are UTF-8
    if noted is None:
        return None
    try:
        return int(noted)
    except ValueError as error:
        raise ModelError(
            f"the attribute best_iteration: expected the number of a round, got {noted[:64]!r}. "
            "Give the rounds to export by --iteration-range (0:0: all)"
        ) from error


def _read_tree(raw: dict[str, Any], weight: np.float32, num_features: int, index: int) -> Tree:
    if int(raw["tree_param"]["size_leaf_vector"]) > 1:
        raise ModelError(f"tree {index}: a leaf holds a vector; expected one score a row")
    left = np.asarray(raw["left_children"], np.int32)
    right = np.asarray(raw["right_children"], np.int32)
    levels = _levels(left, right, index)
    order = np.concatenate(levels)
    if np.unique(order).size != order.size:
        raise ModelError(f"tree {index}: a node has two parents")
    position = np.full(len(left), -1, np.int32)
    position[order] = np.arange(len(order), dtype=np.int32)
    left, right = left[order], right[order]
    leaf = left < 0
    feature = np.where(leaf, 0, np.asarray(raw["split_indices"], np.int32)[order])
    if feature.min() < 0 or feature.max() >= num_features:
        raise ModelError(f"tree {index}: a split on a feature beyond the model's {num_features}")
    value = np.asarray(raw["split_conditions"], np.float32)[order]
    value[leaf] *= weight
    kind = np.asarray(raw["split_type"])[order]
    by_set = (kind == 1) & ~leaf
    if not np.isin(kind, (0, 1)).all():
        raise ModelError(f"tree {index}: split types {set(kind.tolist())}: expected only 0 and 1")
    if not np.isfinite(value[leaf]).all():
        raise ModelError(f"tree {index}: a leaf is not finite: the training has diverged")
    if np.isnan(value[~leaf & ~by_set]).any():
        raise ModelError(f"tree {index}: a threshold is NaN")
    # Sets of pruned nodes may still be there.
    members = {
        int(position[node]): codes
        for node, codes in _category_sets(raw).items()
        if position[node] >= 0 and by_set[position[node]]
    }
    return Tree(
        feature=feature,
        value=value,
        left=np.where(leaf, -1, position[left]),
        right=np.where(leaf, -1, position[right]),
        missing_left=np.asarray(raw["default_left"], np.bool_)[order] & ~leaf,
        members=members,
        cover=np.asarray(raw["sum_hessian"], np.float32)[order],
        depth=len(levels) - 1,
    )


def _levels(
    left: NDArray[np.int32], right: NDArray[np.int32], index: int
) -> list[NDArray[np.int32]]:
    """The nodes that a row can reach, level by level; pruned ones stay in the file unreached."""
    levels = [np.zeros(1, np.int32)]
    reached = 1
    while (inner := levels[-1][left[levels[-1]] >= 0]).size:
        level = np.stack((left[inner], right[inner]), axis=1).ravel()
        reached += level.size
        if level.min() < 0 or level.max() >= len(left) or reached > len(left):
            raise ModelError(f"tree {index}: its nodes don't form a tree")
        levels.append(level)
    return levels


def _category_sets(raw: dict[str, Any]) -> dict[int, NDArray[np.float32]]:
    """Each categorical split's set; XGBoost makes these lists anew whenever it saves."""
    codes = np.asarray(raw["categories"], np.float32)
    return {
        node: np.unique(codes[begin : begin + size])
        for node, begin, size in zip(
            raw["categories_nodes"],
            raw["categories_segments"],
            raw["categories_sizes"],
            strict=True,
        )
    }


def _refuse_mixed_features(trees: tuple[Tree, ...]) -> None:
    """A code is rounded before all splits on its feature; a number must not be."""
    categorical: set[int] = set()
    numeric: set[int] = set()
    for tree in trees:
        by_code = np.zeros(len(tree.left), np.bool_)
        by_code[list(tree.members)] = True
        categorical.update(tree.feature[by_code].tolist())
        numeric.update(tree.feature[~by_code & (tree.left >= 0)].tolist())
    if mixed := categorical & numeric:
        raise ModelError(f"features {sorted(mixed)}: split both as numbers and as categories")


def _base_margin(booster: xgb.Booster, iteration: int) -> np.float32:
    """What XGBoost starts a row's sum from, to the bit.

    Which objectives store `base_score` as a probability or a mean, and how the
    link function is computed, is XGBoost's business and has changed between
    its versions. So it is asked: a round with all its leaves at zero
    predicts the base alone. (With no trees at all it skips the link function.)
    """
    document = json.loads(booster[iteration : iteration + 1].save_raw("json"))
    forest = document["learner"]["gradient_booster"]
    for tree in forest.get("gbtree", forest)["model"]["trees"]:
        tree["split_conditions"] = [
            0.0 if child < 0 else value
            for child, value in zip(tree["left_children"], tree["split_conditions"], strict=True)
        ]
    empty = xgb.Booster()
    empty.load_model(bytearray(json.dumps(document).encode()))
    row = np.zeros((1, booster.num_features()), np.float32)
    margin = empty.predict(xgb.DMatrix(row), output_margin=True, validate_features=False)
    return np.float32(margin[0])
