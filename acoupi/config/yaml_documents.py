"""YAML 1.2, by ruamel.yaml; imported only for a YAML file."""

import io
import re
from collections.abc import Iterable
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.representer import SafeRepresenter

from acoupi.config.bounds import MOST_DIGITS, MOST_NODES, MOST_YAML, require_size

__all__ = ["read_yaml", "write_yaml"]

_PLAIN = re.compile(
    r"(?!(?:y|n|yes|no|on|off|true|false|null)\Z)[A-Za-z/][\w./-]*\Z", re.IGNORECASE | re.ASCII
)
"""Text that needs no quotes, even for readers of YAML 1.1, where `no` means false."""


class _YamlError(ValueError):
    """A text is not valid YAML; `lineno` and `msg` are as in json's errors."""

    def __init__(self, lineno: int, msg: str) -> None:
        super().__init__(msg)
        self.lineno = lineno
        self.msg = msg


class _Constructor(SafeConstructor):
    """Leaves dates, and numbers that start with 0, as text: the schema gives their types."""

    def construct_yaml_int(self, node: Any) -> Any:
        text = str(self.construct_scalar(node))
        if len(text) > MOST_DIGITS:
            raise _YamlError(node.start_mark.line + 1, f"a number has {len(text)} digits")
        return text if text[:1] == "0" and text[1:].isdigit() else super().construct_yaml_int(node)


_Constructor.add_constructor("tag:yaml.org,2002:int", _Constructor.construct_yaml_int)
_Constructor.add_constructor("tag:yaml.org,2002:timestamp", _Constructor.construct_yaml_str)


def read_yaml(text: str) -> Any:
    """Return the data in a YAML text.

    Raises
    ------
    ValueError
        If it is not valid, has a name twice, or contains itself; `lineno` says where.
    """
    require_size(len(text), MOST_YAML)
    yaml = YAML(typ="safe", pure=True)
    yaml.Constructor = _Constructor
    try:
        root = yaml.compose(text)
        if root is None:
            return None
        _count(root, [])
        return _named(yaml.load(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        why = " ".join(str(error.problem or error.context).split())
        raise _YamlError(mark.line + 1 if mark else 1, why) from error
    except ReaderError as error:  # a character that YAML does not allow, such as NUL
        line = text.count("\n", 0, error.position) + 1
        code = f"U+{ord(text[error.position]):04X}"
        raise _YamlError(line, f"the character {code} cannot be in a text file") from error
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _count(node: Node, above: list[Node], seen: int = 0) -> int:
    """Return the number of nodes, aliases expanded; refuse recursion, and too many."""
    line = node.start_mark.line + 1
    if any(node is one for one in above):
        raise _YamlError(line, "it contains itself")
    seen += 1
    if seen > MOST_NODES:
        raise _YamlError(line, "its aliases expand to too much")
    above.append(node)
    if isinstance(node, SequenceNode):
        for item in node.value:
            seen = _count(item, above, seen)
    elif isinstance(node, MappingNode):
        names = set()
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                raise _YamlError(key.start_mark.line + 1, "a name must be a single value")
            if key.value in names:
                raise _YamlError(key.start_mark.line + 1, f'"{key.value}" occurs twice')
            names.add(key.value)
            seen = _count(value, above, seen)
    above.pop()
    return seen


def _named(data: Any) -> Any:
    """Return the same data with text for every name, as in JSON."""
    if isinstance(data, dict):
        return {str(key): _named(value) for key, value in data.items()}
    return [_named(item) for item in data] if isinstance(data, list) else data


class _Representer(SafeRepresenter):
    """Writes repeated values in full, and quotes text that could be read as something else."""

    def represent_str(self, data: str) -> Any:
        style = None if _PLAIN.match(data) else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def ignore_aliases(self, data: Any) -> bool:
        return True


_Representer.add_representer(str, _Representer.represent_str)


def write_yaml(documents: Iterable[Any]) -> str:
    """Return documents as a text in YAML, which readers of YAML 1.1 also understand.

    Examples
    --------
    >>> print(write_yaml([{"a": ["no", 1, True]}, {"b": "c"}]), end="")
    ---
    a:
      - "no"
      - 1
      - true
    ---
    b: c
    """
    yaml = YAML(typ="safe", pure=True)
    yaml.Representer = _Representer
    yaml.default_flow_style = False
    yaml.explicit_start = True
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 10_000
    yaml.indent(mapping=2, sequence=4, offset=2)
    text = io.StringIO()
    yaml.dump_all(documents, text)
    return text.getvalue()
