"""YAML as its version 1.2 means it; read by `documents`."""

import json
import re
from typing import Any

import yaml

from acoupi.config.documents import BrokenLineError

__all__ = ["read_yaml"]


class _YamlReader(yaml.SafeLoader):
    """YAML 1.2: only true and false are truth values, and 22:30 is not a number."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that is there twice."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None) or key in seen:
                raise yaml.constructor.ConstructorError(
                    None,
                    None,
                    f'"{key}" cannot be a name here, or is there twice',
                    key_node.start_mark,
                )
            seen.add(key)
        found = super().construct_mapping(node, deep)
        return {str(key): value for key, value in found.items()}


_YamlReader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_YamlReader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"^(~|null|Null|NULL|)$"), ["~", "n", "N", ""]
)
_YamlReader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?(0|[1-9][0-9]*)$"), list("-+0123456789")
)
_YamlReader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> Any:
    """Return what a text in YAML holds.

    Raises
    ------
    BrokenLineError, ValueError
        If it is broken; if it holds itself.
    """
    loader = _YamlReader(text)
    try:
        data = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = str(error.problem or error.context)
        raise BrokenLineError(mark.line + 1 if mark else 1, why) from error
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    finally:
        loader.dispose()
    try:
        json.dumps(data, default=str)
    except ValueError as error:
        raise ValueError("it holds itself") from error
    return data
