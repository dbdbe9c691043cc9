"""What a configuration says to no effect: no mistake, but hardly what was meant."""

from __future__ import annotations

from collections.abc import Iterator

from ranker.repository.config import Config, Latest, ModelConfig
from ranker.repository.traffic import STABLE


def doubts(config: Config) -> Iterator[str]:
    """What has no effect as it is, a line each."""
    for name, model in config.models.items():
        if model.guard is not None and not model.traffic:
            yield f"{name}: guard: there is no `traffic`, so that it has no version to watch"
        if model.shadow is not None and _ranking(model) == {model.shadow.version}:
            yield (
                f"{name}: shadow: version {model.shadow.version} itself ranks all requests that "
                "name no version, so that it is compared with none of them"
            )


def _ranking(model: ModelConfig) -> set[str]:
    """The versions that rank requests which name none; empty if the source decides."""
    if model.traffic:
        return {model.labels[label] for label, share in model.traffic.items() if share}
    if STABLE in model.labels:
        return {model.labels[STABLE]}
    if isinstance(model.versions, Latest):
        return set()
    return {*[*model.versions, *model.labels.values()][:1]}
