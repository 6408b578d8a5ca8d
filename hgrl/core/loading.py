"""YAML files in, validated settings out: every mistake is one line that names the file and the key."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from hgrl.core.data_settings import Section
from hgrl.core.errors import InputError
from hgrl.core.settings import GroupingSettings

Model = TypeVar("Model", bound=Section)


class _Loader(yaml.SafeLoader):
    """Safe YAML 1.1 that refuses what it would take in silence: a key written twice, and 010 for 8."""


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None:
        raise yaml.MarkedYAMLError(problem=f"key {twice!r} is written twice", problem_mark=node.start_mark)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


def _integer(loader: _Loader, node: yaml.ScalarNode) -> int:
    if len(node.value.lstrip("+-")) > 1 and node.value.lstrip("+-")[0] == "0" and node.value.isdigit():
        problem = f"{node.value} would be read as an octal number; write it without the leading zero"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)
    return loader.construct_yaml_int(node)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:int", _integer)


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; InputError if the file is missing, not UTF-8, not YAML or not a mapping."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # a SafeLoader
    except FileNotFoundError:
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yaml")))
        raise InputError(f"{path}: no such file; choose one of: {known}") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected a mapping of settings")
    return content


def validated(model: type[Model], content: Any, origin: str, prefix: str = "") -> Model:
    """`content` as `model`; InputError names `origin`, the first bad key, its value and what is allowed."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        errors = [(_key(found["loc"], prefix), found) for found in error.errors()]
    key, first = errors[0]
    if first["type"] == "extra_forbidden":
        known = ", ".join(model.model_fields) if len(first["loc"]) == 1 else "see hgrl/core/settings.py"
        raise InputError(f"{origin}: unknown setting {key!r}; known ones: {known}")
    reasons = " or ".join(found["msg"].lower() for other, found in errors if other == key)  # one per type
    where = f"{origin}: setting {key!r}" if key else origin  # without a key: a section as a whole
    raise InputError(f"{where}: {reasons} (got {first['input']!r})")


def _key(location: tuple[int | str, ...], prefix: str) -> str:
    """The dotted name of a setting, without the names pydantic gives to the types of a union."""
    types = ("literal[", "constrained-", "function-")
    return (prefix + ".".join(part for part in map(str, location) if not part.startswith(types))).rstrip(".")


def overridden(content: dict[str, Any], overrides: dict[str, Any], origin: str) -> dict[str, Any]:
    """A copy of nested `content` with the dotted `overrides` ("sampling.cns" -> value) put in."""
    result = dict(content)
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        target = result
        for section in sections:
            inner = target.get(section, {})
            if not isinstance(inner, dict):
                raise InputError(f"{origin}: {dotted!r} does not name a setting")
            target[section] = target = dict(inner)
        target[key] = value
    return result


def grouping_preset(name: str, **overrides: Any) -> GroupingSettings:
    """The grouping settings of a preset, with overrides on top; InputError for an unknown name or setting."""
    return validated(GroupingSettings, {"preset": name, **overrides}, "grouping")


def with_changes(section: Model, changes: dict[str, Any], origin: str) -> Model:
    """A settings section with some values changed; InputError, beginning with `origin`, for a bad value."""
    return validated(type(section), section.model_dump() | changes, origin)
