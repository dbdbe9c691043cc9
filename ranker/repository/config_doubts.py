"""What a configuration says to no effect, or to one that was hardly meant; no mistake by itself."""

from __future__ import annotations

from collections.abc import Iterator

from ranker.repository.config import Config, Latest, ModelConfig
from ranker.repository.traffic import STABLE
from ranker.repository.wanted import MOST_VERSIONS


def doubts(config: Config) -> Iterator[str]:
    """What has no effect as it is, or leaves no room for changes; a line each."""
    for name, model in config.models.items():
        if model.guard is not None and not model.traffic:
            yield f"{name}: guard: there is no `traffic`, so that it has no version to watch"
        if model.shadow is not None and _ranking(model) == {model.shadow.version}:
            yield (
                f"{name}: shadow: version {model.shadow.version} itself ranks all requests that "
                "name no version, so that it is compared with none of them"
            )
    versions = sum(map(_fewest, config.models.values()))
    if versions > MOST_VERSIONS:
        yield f"{versions} versions are wanted: a server has room for {MOST_VERSIONS}"
    elif versions > MOST_VERSIONS // 2:
        yield (
            f"{versions} versions are wanted: a server has room for {MOST_VERSIONS}, and needs it "
            "for old and new ones while it switches, so that "
            f"{MOST_VERSIONS - versions} can change at a time"
        )


def _fewest(model: ModelConfig) -> int:
    """How many versions are wanted at least: the newest may be among those that have a label."""
    named = set(model.labels.values())
    if isinstance(model.versions, Latest):
        least = model.versions.latest
    else:
        least = int(not named)
        named.update(model.versions)
    if model.shadow is not None:
        named.add(model.shadow.version)
    return max(least, len(named))


def _ranking(model: ModelConfig) -> set[str]:
    """The versions that rank requests which name none; empty if the source decides."""
    if model.traffic:
        return {model.labels[label] for label, share in model.traffic.items() if share}
    if STABLE in model.labels:
        return {model.labels[STABLE]}
    if isinstance(model.versions, Latest):
        return set()
    return {*[*model.versions, *model.labels.values()][:1]}
