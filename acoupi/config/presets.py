"""Settings that suit a purpose, for whichever program has them."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from acoupi.config.tree import describe

__all__ = ["settings_it_has"]


def settings_it_has(schema: type[BaseModel], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return those of some settings, by their names with dots, that a schema has.

    Examples
    --------
    >>> from pydantic import BaseModel
    >>> class Schema(BaseModel):
    ...     threshold: float = 0.2
    >>> settings_it_has(Schema, {"threshold": 0.5, "recording.duration": 3})
    {'threshold': 0.5}
    """
    tree = describe(schema)
    return {
        name: value for name, value in wanted.items() if tree.at(tuple(name.split("."))) is not None
    }
