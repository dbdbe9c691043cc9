"""Promotion of a label's version and the way back, as changes of labels and traffic.

The label `stable` names the version that has, or gets, all traffic; `previous` the one that had it
before. Versions keep their other labels, so that they stay loaded and can be asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

from ranker.errors import ConfigError
from ranker.repository.config import ModelConfig
from ranker.repository.traffic import STABLE, given_to_stable

PREVIOUS = "previous"
"""The label of the version that was `stable` before the last promotion."""


def promote(name: str, model: ModelConfig, label: str, to: str = STABLE) -> ModelConfig:
    """Moves a label to the version that another one has.

    If it is `stable`, the version that it had is remembered as `previous`, and all traffic goes
    to it. Done twice, the second time changes nothing.

    Args:
        name: of the model, for errors.
        model: what the configuration says of it.
        label: has the version, `canary` for example.
        to: gets it.

    Raises:
        ConfigError: there is no such label.
    """
    version = _version(name, model, label)
    if to != STABLE:
        return model.model_copy(update={"labels": {**model.labels, to: version}})
    before = model.labels.get(STABLE)
    labels = {**model.labels, STABLE: version}
    if before is not None and before != version:
        labels[PREVIOUS] = before
    return model.model_copy(update={"labels": labels, "traffic": _all_to_stable(model)})


def roll_back(name: str, model: ModelConfig, label: str = "") -> ModelConfig:
    """Moves `stable` back to the previous version, or takes the traffic from another label.

    Done twice, the second time changes nothing.

    Args:
        name: of the model, for errors.
        model: what the configuration says of it.
        label: `stable` for the one, any other label for the other. Empty: `stable`, if the
            traffic is not split.

    Raises:
        ConfigError: there is no such label; or the traffic is split, so that no label could
            mean either.
    """
    stable = _version(name, model, STABLE)
    arms = {arm: share for arm, share in model.traffic.items() if share}
    if not label and arms and list(arms) != [STABLE]:
        others = next(arm for arm in arms if arm != STABLE)
        shares = ", ".join(f"{arm} {share:g}" for arm, share in arms.items())
        raise ConfigError(
            f"{name}: the traffic is split ({shares}): `ranker rollback {name} {others}` gives "
            f"its share to {STABLE}, version {stable}; `ranker rollback {name} {STABLE}` moves "
            f"{STABLE} to its previous version"
        )
    if label not in ("", STABLE):
        _version(name, model, label)
        return model.model_copy(update={"traffic": given_to_stable(model.traffic, label)})
    before = _version(name, model, PREVIOUS)
    labels = {**model.labels, STABLE: before}
    return model.model_copy(update={"labels": labels, "traffic": _all_to_stable(model)})


def _version(name: str, model: ModelConfig, label: str) -> str:
    if label not in model.labels:
        known = ", ".join(model.labels) or "none"
        raise ConfigError(f"{name}: there is no label {label}; there are: {known}")
    return model.labels[label]


def _all_to_stable(model: ModelConfig) -> Mapping[str, float]:
    # Without a split, stable has it all.
    return {**dict.fromkeys(model.traffic, 0.0), STABLE: 100.0} if model.traffic else {}
