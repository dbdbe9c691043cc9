"""Run where kserve is installed: FILE.yaml ... Their fields are those of KServe's classes."""

import re
import sys

import kserve.models
import yaml
from kubernetes import client

checked = 0


def check(place: str, kind: str, value: object) -> None:
    """A value is of a type as the classes name them; raises AssertionError, which says where."""
    global checked
    checked += 1
    if value is None:
        return
    if many := re.fullmatch(r"[Ll]ist\[(.*)\]", kind):
        assert isinstance(value, list), place
        for index, each in enumerate(value):
            check(f"{place}[{index}]", many[1], each)
    elif each_of := re.fullmatch(r"[Dd]ict[(\[]str, (.*)[)\]]", kind):
        assert isinstance(value, dict), place
        for name, each in value.items():
            check(f"{place}.{name}", each_of[1], each)
    elif kind in ("str", "int", "bool", "float"):
        assert type(value).__name__ == kind, f"{place}: {value!r} is no {kind}"
    elif kind != "object":
        owner = getattr(kserve.models, kind, None) or getattr(client, kind)
        kinds = {owner.attribute_map[name]: kind for name, kind in owner.openapi_types.items()}
        assert isinstance(value, dict), place
        for name, each in value.items():
            assert name in kinds, f"{place}: {kind} has no {name}, but {', '.join(sorted(kinds))}"
            check(f"{place}.{name}", kinds[name], each)


for path in sys.argv[1:]:
    with open(path) as file:
        manifest = yaml.safe_load(file)
    group, _, version = manifest["apiVersion"].partition("/")
    assert group == "serving.kserve.io"
    check(path, version.capitalize() + manifest["kind"], manifest)
assert checked > 50, checked
