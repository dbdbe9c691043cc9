"""The file that says what a server serves: `ranker serve --config ranker.yaml`.

    models:
      books:
        source: gs://bucket/rankers/books
        versions: {latest: 2}
        labels: {stable: 7, canary: 8}
        traffic: {stable: 95, canary: 5}
        salt: books-2026-11
        shadow: {version: 9, share: 0.1}

It is checked as a whole; every error tells its line and column.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.scalarbool import ScalarBoolean

from ranker.callers import MAX_NAME as MAX_CALLER
from ranker.callers import MOST_CALLERS, CallerPolicy, as_caller_name
from ranker.errors import ConfigError
from ranker.model.metadata import MAX_NAME
from ranker.quota import Quota
from ranker.repository.config_yaml import WrittenNumber, load_yaml
from ranker.repository.rollout_limits import LONGEST_SECONDS, RolloutLimits
from ranker.repository.traffic import STABLE

_NAME = rf"^[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME - 1}}}$"


def _as_text(value: object) -> object:
    """A version may be written as a number, 7, where that says the same: 007 and 1.10 don't."""
    return str(value) if type(value) is int else value


Name = Annotated[str, Field(pattern=_NAME)]
Version = Annotated[
    str,
    BeforeValidator(_as_text),
    Field(pattern=_NAME),
    WithJsonSchema({"type": ["string", "integer"], "pattern": _NAME, "minimum": 0}),
]
Percent = Annotated[float, Field(ge=0, le=100)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Latest(_Part):
    """The newest versions that the source has."""

    latest: Annotated[int, Field(ge=1, le=16, description="How many.")]


class ShadowConfig(_Part):
    """A version that is only compared: it scores lists too which others have ranked."""

    version: Annotated[Version, Field(description="Which.")]
    share: Annotated[
        float,
        Field(gt=0, le=1, description="Of how many of the lists, from 0 to 1: 0.1 is a tenth."),
    ] = 1.0


_PERCENTAGE = r"^\d+(\.\d+)? ?%$"
_TIME = r"^\d+(\.\d+)? ?(ms|s)$"


def _as_percentage(value: object) -> object:
    if not isinstance(value, str) or not re.match(_PERCENTAGE, value):
        raise ValueError(f"expected a percentage, 1% say, got {_shown(value)}")
    return value


def _as_time(value: object) -> object:
    if not isinstance(value, str) or not re.match(_TIME, value):
        raise ValueError(f"expected a time, 20ms or 0.5s say, got {_shown(value)}")
    return value


class GuardConfig(_Part):
    """When a version's share of the traffic goes back to the stable one."""

    errors: Annotated[
        str,
        BeforeValidator(_as_percentage),
        Field(
            pattern=_PERCENTAGE,
            description="If more of its requests fail, and more than of the stable version's: "
            "`1%`.",
        ),
    ] = ""
    p99: Annotated[
        str,
        BeforeValidator(_as_time),
        Field(
            pattern=_TIME,
            description="If more than 1 in 100 of its answers take longer, and more than of the "
            "stable version's: `20ms`.",
        ),
    ] = ""
    minutes: Annotated[
        float, Field(gt=0, le=1440, description="Over how long requests are counted.")
    ] = 5.0

    @model_validator(mode="after")
    def _check_limits(self) -> GuardConfig:
        if not self.errors and not self.p99:
            raise ValueError("expected a limit: errors, p99 or both")
        limits = self.limits()
        if limits.errors is not None and limits.errors >= 1.0:
            raise ValueError("errors: expected less than 100%, which nothing is beyond")
        if limits.p99 is not None and limits.p99 > LONGEST_SECONDS:
            raise ValueError(
                f"p99: expected at most {LONGEST_SECONDS:g}s, beyond which times are not told "
                f"apart, got {_shown(self.p99)}"
            )
        return self

    def limits(self) -> RolloutLimits:
        """What it says, in numbers."""
        errors = float(self.errors.rstrip(" %")) / 100 if self.errors else None
        return RolloutLimits(errors, _seconds(self.p99) if self.p99 else None, self.minutes)


def _seconds(text: str) -> float:
    number = float(text.rstrip(" ms"))
    return number / 1e3 if text.endswith("ms") else number


class ModelConfig(_Part):
    """One model: where its versions come from, and who is ranked by which."""

    source: Annotated[
        str,
        Field(
            min_length=1,
            description="An ONNX file; or a folder or a bucket's prefix (gs://, s3://) with "
            "VERSION/model.onnx and VERSION/manifest.json in it, as `ranker publish` writes them. "
            "A relative path counts from the folder of this file.",
        ),
    ]
    versions: Annotated[
        Latest | list[Version],
        Field(
            description="Which versions are served, beside those that have a label: so many of "
            "the newest, or these."
        ),
    ] = []
    labels: Annotated[
        dict[Name, Version],
        Field(description="Names for versions, which requests may ask for as `@LABEL`."),
    ] = {}
    traffic: Annotated[
        dict[Name, Percent],
        Field(
            description="The percentage of each label among requests that name no version; 100 in "
            "all. Without it they get the version labelled `stable`, or else the first of "
            "`versions` (the newest, where `latest` says which), or else that of the first label."
        ),
    ] = {}
    salt: Annotated[
        str, Field(description="Another one draws anew who is ranked by which version.")
    ] = ""
    shadow: Annotated[
        ShadowConfig | None,
        Field(
            description="A version that scores lists too which the others have ranked, after their "
            "answers and in idle time, so that metrics compare the two. It ranks none itself, "
            "unless it also has a label or is among `versions`."
        ),
    ] = None
    guard: Annotated[
        GuardConfig | None,
        Field(
            description="Takes the traffic from a version that is worse than the one labelled "
            "`stable`, until what this file says of the model changes."
        ),
    ] = None

    @model_validator(mode="after")
    def _check_roles(self) -> ModelConfig:
        unknown = [label for label in self.traffic if label not in self.labels]
        if unknown:
            known = ", ".join(self.labels) or "none"
            raise ValueError(f"traffic: {unknown[0]} is no label; there are: {known}")
        total = sum(self.traffic.values())
        if self.traffic and abs(total - 100) > 0.01:
            raise ValueError(f"traffic: expected 100 percent in all, got {total:g}")
        if self.guard is not None and STABLE not in self.labels:
            raise ValueError(f"guard: needs a label {STABLE}, whose version gets the share")
        if self.guard is not None and self.traffic and not self.traffic.get(STABLE):
            raise ValueError(
                f"guard: needs a share of the traffic for {STABLE}, to compare the others with"
            )
        if self.shadow is not None and not isinstance(self.versions, Latest):
            ranking = {*self.versions, *self.labels.values()}
            if ranking == {self.shadow.version}:
                raise ValueError(
                    f"shadow: {self.shadow.version} is the only version that ranks, so that there "
                    "is nothing to compare it with"
                )
        return self


def _as_caller(value: object) -> object:
    return as_caller_name(value) if isinstance(value, str) else value


CallerName = Annotated[
    str,
    BeforeValidator(_as_caller),
    WithJsonSchema({"type": "string", "pattern": "^(spiffe://|dns:)", "maxLength": MAX_CALLER}),
]


class QuotaConfig(_Part):
    """What one caller may take of a server, all of its workers together."""

    requests_per_second: Annotated[
        float,
        Field(gt=0, le=1e9, allow_inf_nan=False, description="Lists, averaged over a second."),
    ] = 0.0
    candidates_per_second: Annotated[
        float, Field(gt=0, le=1e12, allow_inf_nan=False, description="Candidates, likewise.")
    ] = 0.0
    queue_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Of each worker's queue, from 0 to 1: more of its lists may not wait.",
        ),
    ] = 1.0

    @model_validator(mode="after")
    def _check_limits(self) -> QuotaConfig:
        if not self.model_fields_set:
            raise ValueError(f"expected a limit: {', '.join(type(self).model_fields)}")
        return self

    def quota(self) -> Quota:
        """What it says."""
        return Quota(self.requests_per_second, self.candidates_per_second, self.queue_share)


class CallerConfig(_Part):
    """A caller that may call."""

    quota: Annotated[
        QuotaConfig | None, Field(description="What it may take. Without it: anything.")
    ] = None


class Config(_Part):
    """What a server serves, and to whom."""

    models: Annotated[
        dict[Name, ModelConfig],
        Field(min_length=1, description="By the name that requests use; the first is the default."),
    ]
    callers: Annotated[
        dict[CallerName, CallerConfig],
        Field(
            min_length=1,
            max_length=MOST_CALLERS,
            description="Who may call, by the names in their certificates: "
            "spiffe://TRUST-DOMAIN/PATH or dns:HOST. Without it, and without --allow-caller, "
            "whoever has a certificate of --tls-client-ca may.",
        ),
    ] = {}
    quota_per_connection: Annotated[
        QuotaConfig | None,
        Field(description="What each connection may take, where no callers are named."),
    ] = None
    poll_seconds: Annotated[
        float, Field(ge=1, description="How often sources are asked for new versions.")
    ] = 30.0

    def policy(self) -> CallerPolicy:
        """What it says of callers."""
        quotas = {
            name: caller.quota.quota() for name, caller in self.callers.items() if caller.quota
        }
        each = self.quota_per_connection
        return CallerPolicy(tuple(self.callers), quotas, each.quota() if each else None)


def parse_config(text: str, name: str) -> Config:
    """Reads the text of such a file.

    Args:
        text: YAML.
        name: what errors call the file.

    Raises:
        ConfigError: it is wrong; has all that is wrong, a line each.
    """
    document = load_yaml(text, name)
    if not isinstance(document, dict):
        raise ConfigError(f"{name}:1:1: expected a mapping with `models`, got {_shown(document)}")
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        lines = [_line(name, document, each) for each in _deepest(error.errors())]
        raise ConfigError("\n".join(dict.fromkeys(lines))) from error


def _deepest(errors: Sequence[Any]) -> list[Any]:
    """Errors, but of a value that may be of two kinds those of the kind that comes closer."""
    most: dict[object, int] = {}
    for error in errors:
        field = tuple(error["loc"][:3])
        most[field] = max(most.get(field, 0), len(error["loc"]))
    closest = []
    for error in errors:
        loc = error["loc"]
        if loc[2:3] != ("versions",) or len(loc) == most[tuple(loc[:3])]:
            closest.append(error)
    return closest


def _line(name: str, document: Any, error: Any) -> str:
    """One error: where it is in the file, in which field, and what is wrong."""
    # Beside keys and positions, a place has the kinds among which pydantic has tried.
    here: Any = document
    path, position = [], (0, 0)
    for key in error["loc"]:
        if isinstance(here, CommentedMap) and key in here:
            if key in (here.lc.data or {}):  # else it comes from elsewhere, by `<<`
                is_key = error["type"] == "extra_forbidden"
                position = here.lc.key(key) if is_key else here.lc.value(key)
            here = here[key]
        elif isinstance(here, CommentedSeq) and isinstance(key, int) and key < len(here):
            position, here = here.lc.item(key), here[key]
        elif error["type"] != "missing" or key != error["loc"][-1]:
            continue
        path.append(str(key))
    what = {
        "missing": "is required",
        "extra_forbidden": "there is no such field",
    }.get(error["type"])
    if what is None:
        what = error["msg"].removeprefix("Value error, ")
        if error["type"] == "string_type" and not isinstance(error["input"], list | dict):
            what = f"expected text, got {_as_read(error['input'])}: put it in quotes"
        elif error["type"] != "value_error":
            what = f"{what[0].lower()}{what[1:]}, got {_shown(error['input'])}"
    return f"{name}:{position[0] + 1}:{position[1] + 1}: {'.'.join(path)}: {what}"


def _as_read(value: object) -> str:
    """What YAML takes for something else than text."""
    match value:
        case None:
            return "nothing (null)"
        case bool() | ScalarBoolean():
            return str(bool(value)).lower()
        case WrittenNumber():
            return f"the number {_shown(int(value))} (it is written {_shortened(value.text)})"
        case int() | float():
            return f"the number {_shown(value)}"
        case date():
            return f"the date {value}"
        case _:
            return _shown(value)


def _shown(value: object) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
