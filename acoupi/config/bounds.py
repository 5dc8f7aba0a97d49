"""Limits on the size of a configuration, so that none can prevent a sensor from starting."""

import re
from typing import Any

__all__ = [
    "MOST_BYTES",
    "MOST_DIGITS",
    "MOST_NODES",
    "MOST_YAML",
    "require_bounds",
    "require_short_keys",
    "require_size",
    "whole_number",
]

MOST_BYTES = 1_000_000
"""Of a file."""
MOST_YAML = 262_144
"""Most characters of a YAML file, which is slow to read."""
MOST_NODES = 100_000
"""Most values, with aliases expanded."""
MOST_DEPTH = 50
"""Deepest nesting of sections."""
MOST_DIGITS = 40
"""Most digits of a whole number."""

_LONG_KEY = re.compile(rf"(?<![^\s.=])(?:[^\s.=]++[ \t]*+\.[ \t]*+){{{MOST_DEPTH},}}")


def require_size(size: int, most: int = MOST_BYTES) -> None:
    """Raise a ValueError if a file of so many bytes, or characters, is too long."""
    if size > most:
        raise ValueError(f"it is longer than {most} bytes")


def require_short_keys(text: str) -> None:
    """Raise a ValueError if a TOML file has a name of very many parts, which takes hours to read.

    Examples
    --------
    >>> require_short_keys("a.b = 1")
    >>> require_short_keys(".".join("a" * 60) + " = 1")
    Traceback (most recent call last):
      ...
    ValueError: a name in it has more than 50 parts
    """
    if _LONG_KEY.search(text):
        raise ValueError(f"a name in it has more than {MOST_DEPTH} parts")


def whole_number(text: str) -> int:
    """Return the number that a text stands for; raise a ValueError if it is absurdly long."""
    if len(text) > MOST_DIGITS:
        raise ValueError(f"a number in it has {len(text)} digits")
    return int(text)


def require_bounds(data: Any) -> None:
    """Raise a ValueError if data are nested too deeply, too many, or a number is too long."""
    level, count, depth = [data], 0, 0
    while level:
        count += len(level)
        if count > MOST_NODES:
            raise ValueError(f"it has more than {MOST_NODES} values")
        if depth > MOST_DEPTH:
            raise ValueError("it is nested too deeply")
        for value in level:
            if isinstance(value, int) and abs(value) >= 10**MOST_DIGITS:
                raise ValueError(f"a number in it has more than {MOST_DIGITS} digits")
        level = [item for value in level for item in _members(value)]
        depth += 1


def _members(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []
