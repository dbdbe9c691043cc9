"""Which of XGBoost's model schemas are known here; any other is refused by name.

XGBoost writes every model in the schema of its own version, whatever version
trained it, so what counts is the version that is installed. New versions add
keys (3.1 added `cats`: the categories by which a data frame is coded), and a
reader that passes over a key may misread the model. So each key that bears on
scores has to be known. `Booster.save_raw("json")` of XGBoost 2.1.4, 3.0.5,
3.1.3 and 3.2.0 is where the lists come from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import xgboost as xgb

from ranker.errors import ModelError

OLDEST = (2, 1)
"""The oldest XGBoost that may be installed. It reads what older ones wrote."""

NEWEST = (3, 2)
"""The newest that the tests have run with."""

FEATURE_TYPES = frozenset({"q", "float", "int", "i", "c"})
"""XGBoost's: quantity, float, integer, indicator, category."""

_LEARNER = {
    "": "learner version",
    "learner": "attributes feature_names feature_types gradient_booster learner_model_param "
    "objective",
    "learner.learner_model_param": "base_score boost_from_average num_class num_feature num_target",
    "learner.gradient_booster": "gbtree model name weight_drop",
    "learner.gradient_booster.gbtree": "model name",
}
_FOREST = {
    "": "cats gbtree_model_param iteration_indptr tree_info trees",
    "cats": "enc feature_segments sorted_idx",
    "gbtree_model_param": "num_parallel_tree num_trees",
}
_TREE = {
    "": "base_weights categories categories_nodes categories_segments categories_sizes "
    "default_left id left_children loss_changes parents right_children split_conditions "
    "split_indices split_type sum_hessian tree_param",
    "tree_param": "num_deleted num_feature num_nodes size_leaf_vector",
}

# The last key of a file in UBJ: an array of three int8.
_UBJ_VERSION = re.compile(rb"version\[#L\x00{7}\x03((?:i.){3})\}\Z", re.DOTALL)


def installed() -> tuple[int, int]:
    """The major and minor version of the XGBoost that is installed.

    Raises:
        ModelError: it is older than `OLDEST`, or of a major version that is not known.
    """
    major, minor = (int(part) for part in xgb.__version__.split(".")[:2])
    if (major, minor) < OLDEST:
        raise ModelError(
            f"XGBoost {xgb.__version__} is installed; exporting needs {_dotted(OLDEST)} or later, "
            "which reads the models that older versions saved"
        )
    _refuse_unknown_major(xgb.__version__)
    return major, minor


def refuse_newer_file(raw: bytes, path: object) -> None:
    """Refuses a file of a later XGBoost than the installed one.

    XGBoost 2.1 and 3.0 read a base score of 3.1 as zero, and say nothing.

    Args:
        raw: the file's content, in JSON or UBJ.
        path: what to call it.

    Raises:
        ModelError: it is of a later version, or of none.
    """
    if ubj := _UBJ_VERSION.search(raw[-64:]):
        version = list(ubj[1][1::2])
    else:
        try:
            version = json.loads(raw)["version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path}: no model of XGBoost's in JSON or UBJ") from error
    if tuple(version[:2]) <= installed():
        return
    written = f"{path}: written by XGBoost {'.'.join(map(str, version))}, which"
    if version[0] > NEWEST[0]:
        raise ModelError(
            f"{written} this exporter does not know; train it with XGBoost {NEWEST[0]}, or "
            "install a newer ranker"
        )
    raise ModelError(
        f"{written} the installed {xgb.__version__} may misread; install that version or a "
        "later one"
    )


def refuse_unknown(document: Mapping[str, Any]) -> None:
    """Refuses a model, as JSON that the installed XGBoost wrote, whose schema is not known.

    Raises:
        ModelError: names XGBoost's version and what is unknown.
    """
    _refuse_unknown_major(".".join(map(str, document.get("version", ()))) or xgb.__version__)
    _refuse_unknown_keys("", document, _LEARNER)
    learner = document.get("learner", {})
    if strange := set(learner.get("feature_types", ())) - FEATURE_TYPES:
        raise _unknown(f"the feature types {sorted(strange)}")
    booster = learner.get("gradient_booster", {})
    forest = booster.get("gbtree", booster).get("model", {})
    _refuse_unknown_keys("learner.gradient_booster.model", forest, _FOREST)
    for tree in forest.get("trees", ()):
        _refuse_unknown_keys("learner.gradient_booster.model.trees", tree, _TREE)


def notes() -> tuple[str, ...]:
    """What a user should know of the installed XGBoost: that the tests have not run with it."""
    if installed() <= NEWEST:
        return ()
    return (
        f"XGBoost {xgb.__version__} is newer than those that the tests have run with (up to "
        f"{_dotted(NEWEST)}); its model has the known form, and the scores were verified",
    )


def _refuse_unknown_keys(where: str, part: Mapping[str, Any], known: Mapping[str, str]) -> None:
    for path, keys in known.items():
        found = part
        for key in path.split(".") if path else ():
            found = found.get(key, {})
        if strange := found.keys() - keys.split():
            place = ".".join(filter(None, (where, path))) or "the model"
            raise _unknown(f"{place} with {', '.join(sorted(strange))}")


def _refuse_unknown_major(version: str) -> None:
    if int(version.split(".")[0]) > NEWEST[0]:
        raise ModelError(
            f"XGBoost {version} is newer than this exporter, which knows the models of "
            f"XGBoost up to {NEWEST[0]}; install xgboost-cpu<{NEWEST[0] + 1}, or a newer ranker"
        )


def _unknown(what: str) -> ModelError:
    return ModelError(
        f"XGBoost {xgb.__version__} wrote {what}, which this exporter does not know and would "
        f"misread; install xgboost-cpu<={_dotted(NEWEST)}, or a newer ranker"
    )


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
