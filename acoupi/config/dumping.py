"""Configurations as JSON: for display, with secrets masked, and for storage."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

from acoupi.config.names import PROGRAM, Names, Place
from acoupi.config.problems import MASK
from acoupi.config.secrets import REFERENCE, secret_name
from acoupi.config.tree import ConfigTree
from acoupi.errors import ConfigurationError

__all__ = ["SecretSplitter", "differing", "dump_config", "dumped", "mask", "revealed"]

Hide = Callable[[Place, str], Any]


class SecretSplitter:
    """Takes secrets out of a dump and leaves references."""

    def __init__(self, secrets: dict[str, str], names: Names = PROGRAM) -> None:
        self.secrets = secrets
        self.names = names

    def __call__(self, place: Place, value: str) -> Any:
        """Keep one secret, and return its reference."""
        name = secret_name(place, self.names)
        self.secrets[name] = value
        return {REFERENCE: name}


def mask(place: Place, value: str) -> str:
    """Return asterisks for any secret."""
    return MASK


def dumped(value: Any, hide: Hide) -> Any:
    """Return a value as JSON holds it; `hide(place, text)` replaces its secrets.

    Raises
    ------
    ConfigurationError
        If no JSON could hold it.
    """
    tree = ConfigTree((), type(value))
    try:
        if isinstance(value, BaseModel):
            plain = value.model_dump(mode="json", round_trip=True)
        else:
            plain = to_jsonable_python(value)
        dumped = _hidden(tree, value, plain, hide)
        json.dumps(dumped, ensure_ascii=False, allow_nan=False).encode()
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            "the configuration has a value that no file can hold.",
            "acoupi config schema",
            why=" ".join(str(error).split()),
        ) from error
    return dumped


def _hidden(node: ConfigTree, value: Any, plain: Any, hide: Hide) -> Any:
    """Walk through a value and its dump in parallel."""
    if isinstance(value, SecretStr | SecretBytes):
        return hide(node.place, _revealed(value))
    if isinstance(value, BaseModel) and isinstance(plain, dict):
        here = replace(node, annotation=type(value))
        return {
            name: _hidden(_child(here, name), getattr(value, name), plain[name], hide)
            for name in type(value).model_fields
            if name in plain
        }
    if isinstance(value, dict) and isinstance(plain, dict) and len(value) == len(plain):
        pairs = zip(plain, value.values(), strict=True)
        return {key: _hidden(_child(node, key), item, plain[key], hide) for key, item in pairs}
    if isinstance(value, list | tuple) and isinstance(plain, list) and len(value) == len(plain):
        pairs = zip(value, plain, strict=True)
        return [_hidden(_child(node, i), item, one, hide) for i, (item, one) in enumerate(pairs)]
    if node.is_secret and plain is not None and hide is not _in_clear:
        return hide(node.place, plain if isinstance(plain, str) else json.dumps(plain))
    return plain


def _child(node: ConfigTree, key: Any) -> ConfigTree:
    below = ConfigTree((*node.place, key), Any, None, node.is_secret, names=node.names)
    return node.child(key) or below


def _revealed(secret: SecretStr | SecretBytes) -> str:
    value = secret.get_secret_value()
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def differing(node: ConfigTree, data: dict[str, Any], usual: Any) -> dict[str, Any]:
    """Return the parts of a section's dump that differ from another, section by section."""
    if not isinstance(usual, dict) or (node.tag and data.get(node.tag) != usual.get(node.tag)):
        return data
    found = {}
    for name, value in data.items():
        below = node.child(name)
        if name in usual and value == usual[name]:
            continue
        is_section = below is not None and below.is_section and isinstance(value, dict)
        found[name] = differing(below, value, usual.get(name)) if is_section and below else value
    return found


def dump_config(config: Any, indent: int = 2) -> str:
    r"""Return a configuration, or any part of one, as JSON for display: secrets are masked.

    Examples
    --------
    >>> import datetime
    >>> dump_config({"start": datetime.time(18, 30), "password": SecretStr("bat")}, indent=0)
    '{\n"start": "18:30:00",\n"password": "**********"\n}'
    """
    return json.dumps(dumped(config, mask), indent=indent, ensure_ascii=False)


def revealed(config: BaseModel) -> Any:
    """Return a configuration as JSON holds it, secrets in clear: never to be shown."""
    return dumped(config, _in_clear)


def _in_clear(place: Place, value: str) -> str:
    """Return a secret as it is; a number, for one, stays a number."""
    return value
