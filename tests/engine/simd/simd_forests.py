"""Forests to test the simd engine with, and XGBoost boosters of exactly the same trees.

XGBoost's own prediction is the truth. `booster_of` writes a forest as the JSON
that XGBoost loads, so that any tree can be put before it: thresholds that no
training would choose, chains, lone leaves.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ranker.forest import Forest

if TYPE_CHECKING:  # takes a second to import, and not every test that has forests compares
    import xgboost

DELICATE = np.array(
    [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, np.inf, -np.inf, 1.0, -1.0, 3e38, -3e38],
    np.float32,
)
"""Values at which comparisons go wrong first: zeros, denormals, infinities."""


NODE_FIELDS = ("left", "right", "feature", "threshold", "missing_left", "members")
"""What a tree is here: a list for each, breadth-first; children within the tree."""


def random_tree(
    rng: np.random.Generator, leaves: int, num_features: int, thresholds: NDArray, chain: bool
) -> dict[str, list]:
    """A random binary tree, breadth-first; `chain` makes it as deep as it has splits."""
    children: list[tuple[int, int]] = [(-1, -1)]
    open_leaves = [0]
    for _ in range(leaves - 1):
        node = open_leaves.pop(-1 if chain else int(rng.integers(len(open_leaves))))
        children[node] = (len(children), len(children) + 1)
        below = [len(children), len(children) + 1]
        rng.shuffle(below)
        children += [(-1, -1), (-1, -1)]
        open_leaves += below
    order = [0]
    for node in order:
        if children[node][0] >= 0:
            order += children[node]
    place = {node: i for i, node in enumerate(order)}
    place[-1] = -1
    tree: dict[str, list] = {
        "left": [place[children[node][0]] for node in order],
        "right": [place[children[node][1]] for node in order],
        "feature": [],
        "threshold": [],
        "missing_left": [],
        "members": [[] for _ in order],
    }
    for node in order:
        leaf = children[node][0] < 0
        tree["feature"].append(-1 if leaf else int(rng.integers(num_features)))
        tree["threshold"].append(
            np.float32(rng.normal())
            if leaf
            else np.float32(thresholds[rng.integers(len(thresholds))])
        )
        tree["missing_left"].append(not leaf and bool(rng.integers(2)))
    return tree


def perfect_tree(
    rng: np.random.Generator, depth: int, num_features: int, thresholds: NDArray
) -> dict[str, list]:
    """A tree whose leaves are all at one depth, as `random_tree` makes its own."""
    splits = 2**depth - 1
    nodes = range(2 * splits + 1)
    return {
        "left": [2 * node + 1 if node < splits else -1 for node in nodes],
        "right": [2 * node + 2 if node < splits else -1 for node in nodes],
        "feature": [int(rng.integers(num_features)) if node < splits else -1 for node in nodes],
        "threshold": [
            np.float32(rng.choice(thresholds)) if node < splits else np.float32(rng.normal())
            for node in nodes
        ],
        "missing_left": [node < splits and bool(rng.integers(2)) for node in nodes],
        "members": [[] for _ in nodes],
    }


def forest_from(trees: list[dict[str, list]], num_features: int) -> Forest:
    """The trees of `random_tree` as one forest."""
    sizes = [len(tree["left"]) for tree in trees]
    roots = np.cumsum([0, *sizes[:-1]])

    def flat(name: str, dtype: type) -> NDArray:
        return np.concatenate([np.array(tree[name]) for tree in trees]).astype(dtype)

    def child(name: str) -> NDArray:
        local, shift = flat(name, np.int32), np.repeat(roots, sizes)
        return np.where(local < 0, -1, local + shift).astype(np.int32)

    sets = [np.array(members, np.float32) for tree in trees for members in tree["members"]]
    ends = np.cumsum([len(members) for members in sets]).astype(np.int32)
    return Forest(
        num_features=num_features,
        roots=roots.astype(np.int32),
        feature=flat("feature", np.int32),
        threshold=flat("threshold", np.float32),
        left=child("left"),
        missing_left=flat("missing_left", np.bool_),
        members_begin=ends - np.array([len(members) for members in sets], np.int32),
        members_end=ends,
        members=np.concatenate(sets),
        floored=np.isin(
            np.arange(num_features), flat("feature", np.int32)[[len(m) > 0 for m in sets]]
        ),
        base=np.float32(0),
        logistic=False,
    )


def categorical_stump(members: list[float], missing_left: bool = False) -> Forest:
    """1.0 for a member of the set, 2.0 for anything else."""

    def ints(*values: int) -> NDArray[np.int32]:
        return np.array(values, np.int32)

    return Forest(
        num_features=1,
        roots=ints(0),
        feature=ints(0, -1, -1),
        threshold=np.array([0, 1, 2], np.float32),
        left=ints(1, -1, -1),
        missing_left=np.array([missing_left, False, False]),
        members_begin=ints(0, 0, 0),
        members_end=ints(len(members), 0, 0),
        members=np.array(members, np.float32),
        floored=np.zeros(1, np.bool_),
        base=np.float32(0),
        logistic=False,
    )


def random_forest(
    rng: np.random.Generator,
    num_trees: int,
    num_features: int,
    max_leaves: int,
    chain: bool = False,
    num_thresholds: int = 1000,
) -> Forest:
    """Trees of 1 to `max_leaves` leaves; half of the splits at `DELICATE` values."""
    pool = rng.normal(size=num_thresholds).astype(np.float32)
    pool = np.concatenate([pool, np.repeat(DELICATE, max(1, num_thresholds // len(DELICATE)))])
    trees = [
        random_tree(rng, int(rng.integers(1, max_leaves + 1)), num_features, pool, chain)
        for _ in range(num_trees)
    ]
    return forest_from(trees, num_features)


def with_covers(rng: np.random.Generator, forest: Forest, empty: float = 0) -> Forest:
    """The forest with covers that add up; the share `empty` of the leaves has none."""
    leaf = forest.feature < 0
    cover = np.where(leaf, rng.exponential(100, len(leaf)) + 0.1, 0)
    cover[leaf & (rng.random(len(leaf)) < empty)] = 0
    for split in np.flatnonzero(~leaf)[::-1]:
        cover[split] = cover[forest.left[split]] + cover[forest.left[split] + 1]
    return dataclasses.replace(forest, cover=cover.astype(np.float32))


def random_rows(rng: np.random.Generator, rows: int, forest: Forest) -> NDArray[np.float32]:
    """Rows made to be delicate: thresholds, their neighbours, `DELICATE` and NaN."""
    thresholds = forest.threshold[forest.feature >= 0]
    shape = (rows, forest.num_features)
    values = rng.normal(size=shape).astype(np.float32)
    if len(thresholds):
        with np.errstate(over="ignore"):
            near = np.concatenate(
                [
                    thresholds,
                    np.nextafter(thresholds, np.float32(np.inf)),
                    np.nextafter(thresholds, np.float32(-np.inf)),
                ]
            )
        values = np.where(rng.random(shape) < 0.4, rng.choice(near, shape), values)
    values = np.where(rng.random(shape) < 0.1, rng.choice(DELICATE, shape), values)
    values[rng.random(shape) < 0.15] = np.nan
    return np.ascontiguousarray(values, np.float32)


def forest_of(booster: xgboost.Booster, num_features: int) -> Forest:
    """A booster's trees; the base margin goes into the first tree.

    XGBoost sends the members of a set right, a Forest sends them left.
    """
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    base = np.float32(learner["learner_model_param"]["base_score"].strip("[]"))
    trees = []
    for i, raw in enumerate(learner["gradient_booster"]["model"]["trees"]):
        sets = {
            node: sorted(raw["categories"][begin : begin + size])
            for node, begin, size in zip(
                raw["categories_nodes"],
                raw["categories_segments"],
                raw["categories_sizes"],
                strict=True,
            )
        }
        children = {
            node: (right, left) if node in sets else (left, right)
            for node, (left, right) in enumerate(
                zip(raw["left_children"], raw["right_children"], strict=True)
            )
        }
        order = [0]
        for node in order:
            if children[node][0] >= 0:
                order += children[node]
        place = {node: j for j, node in enumerate(order)}
        place[-1] = -1
        tree: dict[str, list] = {name: [] for name in NODE_FIELDS}
        for node in order:
            leaf = children[node][0] < 0
            value = np.float32(raw["split_conditions"][node])
            missing_left = bool(raw["default_left"][node]) != (node in sets)
            tree["left"].append(place[children[node][0]])
            tree["right"].append(place[children[node][1]])
            tree["feature"].append(-1 if leaf else raw["split_indices"][node])
            tree["threshold"].append(
                np.float32(0) if node in sets else base + value if leaf and i == 0 else value
            )
            tree["missing_left"].append(not leaf and missing_left)
            tree["members"].append(sets.get(node, []))
        trees.append(tree)
    return forest_from(trees, num_features)


def booster_of(forest: Forest) -> xgboost.Booster:
    """A booster of a forest's trees, with a base margin of 0."""
    ends = [*forest.roots[1:], len(forest.feature)]
    trees = []
    for i, (begin, end) in enumerate(zip(forest.roots, ends, strict=True)):
        begin = int(begin)
        leaf = forest.feature[begin:end] < 0
        left = forest.left[begin:end]
        right = np.where(leaf, -1, left + 1)
        parents = np.full(end - begin, 2**31 - 1)
        splits = np.flatnonzero(~leaf)
        parents[left[splits] - begin] = splits
        parents[right[splits] - begin] = splits
        zeros = np.zeros(end - begin).tolist()
        trees.append(
            {
                "base_weights": zeros,
                "categories": [],
                "categories_nodes": [],
                "categories_segments": [],
                "categories_sizes": [],
                "default_left": forest.missing_left[begin:end].astype(int).tolist(),
                "id": i,
                "left_children": np.where(leaf, -1, left - begin).tolist(),
                "loss_changes": zeros,
                "parents": parents.tolist(),
                "right_children": np.where(leaf, -1, right - begin).tolist(),
                "split_conditions": _json_floats(forest.threshold[begin:end]),
                "split_indices": np.where(leaf, 0, forest.feature[begin:end]).tolist(),
                "split_type": [0] * int(end - begin),
                "sum_hessian": zeros
                if forest.cover is None
                else _json_floats(forest.cover[begin:end]),
                "tree_param": {
                    "num_deleted": "0",
                    "num_feature": str(forest.num_features),
                    "num_nodes": str(end - begin),
                    "size_leaf_vector": "1",
                },
            }
        )
    model = {
        "version": [3, 2, 0],
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": {
                "name": "gbtree",
                "model": {
                    "cats": {"enc": [], "feature_segments": [], "sorted_idx": []},
                    "gbtree_model_param": {
                        "num_parallel_tree": "1",
                        "num_trees": str(len(trees)),
                    },
                    "iteration_indptr": list(range(len(trees) + 1)),
                    "tree_info": [0] * len(trees),
                    "trees": trees,
                },
            },
            "learner_model_param": {
                "base_score": "0",
                "boost_from_average": "0",
                "num_class": "0",
                "num_feature": str(forest.num_features),
                "num_target": "1",
            },
            "objective": {
                "name": "reg:squarederror",
                "reg_loss_param": {"scale_pos_weight": "1"},
            },
        },
    }
    import xgboost

    booster = xgboost.Booster()
    booster.set_param({"nthread": 1})
    booster.load_model(bytearray(json.dumps(model), "utf-8"))
    return booster


def _json_floats(values: NDArray[np.float32]) -> list[float]:
    return [float(value) for value in values]


def load_svmlight(path: Path, num_features: int = 0) -> tuple[NDArray, NDArray]:
    """Rows and labels of an svmlight file; absent values are 0."""
    labels, rows = [], []
    for line in path.read_text().splitlines():
        label, *pairs = line.split()
        labels.append(float(label))
        rows.append({int(key): float(value) for key, value in (p.split(":") for p in pairs)})
    dense = np.zeros((len(rows), max(num_features, 1 + max(map(max, rows)))), np.float32)
    for i, row in enumerate(rows):
        dense[i, list(row)] = list(row.values())
    return dense, np.array(labels)


def contributions(booster: xgboost.Booster, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """XGBoost's own `pred_contribs`."""
    import xgboost

    matrix = xgboost.DMatrix(
        rows,
        feature_names=booster.feature_names,
        feature_types=booster.feature_types,
        enable_categorical=True,
    )
    return booster.predict(matrix, pred_contribs=True)


def predict(booster: xgboost.Booster, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """XGBoost's raw margins."""
    return booster.inplace_predict(rows, predict_type="margin")
