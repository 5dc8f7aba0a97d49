"""Files of variables, ``NAME=value``: ``secrets.env``, ``config/env`` and ``.env`` of a bundle.

They are read by python-dotenv, without interpolation, and written so that a shell, systemd
and Docker Compose read the same from them.
"""

import io
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from dotenv.parser import parse_stream

from acoupi.commit import read_whole
from acoupi.errors import ConfigurationError
from acoupi.writing import disk_error

__all__ = ["parse_env", "quoted", "read_env", "read_text", "updated_env", "written_env"]

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+=,-]*")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "$": "\\$", "`": "\\`", "\n": "\\n", "\r": "\\r"}
_DOUBLE_QUOTED = re.compile(r'^(\s*(?:export\s+)?\w+\s*=\s*)"((?:\\.|[^"\\])*)"', re.MULTILINE)
_DEFAULT = re.compile(r"\s*#([A-Za-z_][A-Za-z0-9_]*)=")


def parse_env(text: str) -> dict[str, str]:
    """Return the variables that a text holds; invalid lines are skipped.

    Examples
    --------
    >>> parse_env("# mine" + chr(10) + "A=b # c" + chr(10) + "C='d e'")
    {'A': 'b', 'C': 'd e'}
    """
    stream = io.StringIO(_as_dotenv(text))
    return {one.key: one.value for one in parse_stream(stream) if one.key and one.value is not None}


def written_env(text: str) -> dict[str, str]:
    """Return the variables in a text as they are written: quoted, not interpolated."""
    return {
        one.key: one.original.string.partition("=")[2].strip()
        for one in parse_stream(io.StringIO(text))
        if one.key and one.value is not None
    }


def _as_dotenv(text: str) -> str:
    r"""Return a text with the two escapes of a shell that dotenv does not have: ``\$`` and ``\```.

    Also the way in which `shlex.quote` writes an apostrophe.
    """

    def unescaped(found: re.Match[str]) -> str:
        inside = re.sub(r"\\(.)", lambda one: one[1] if one[1] in "$`" else one[0], found[2])
        return f'{found[1]}"{inside}"'

    return _DOUBLE_QUOTED.sub(unescaped, text.replace("""'"'"'""", "\\'"))


def read_env(path: Path) -> dict[str, str]:
    """Return the variables in a file; none if there is no such file.

    Raises
    ------
    ConfigurationError, DeviceError
        If it is not text; after a disk error.
    """
    return parse_env(read_text(path))


def read_text(path: Path) -> str:
    """Return the text of a file; empty if it does not exist. Raises as `read_env`."""
    try:
        return read_whole(path)
    except FileNotFoundError:
        return ""
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f'cannot read "{path}".', f"edit {path}", why="it is not text in UTF-8."
        ) from error
    except OSError as error:
        raise disk_error("read", path, error) from error


def quoted(value: str) -> str:
    r"""Quote a value, where that is needed.

    Examples
    --------
    >>> print(quoted("/dev/snd"), quoted("a b"), quoted("it's $5"))
    /dev/snd 'a b' "it's \$5"
    """
    if _PLAIN.fullmatch(value):
        return value
    if not any(char in value for char in "'\\\n\r"):
        return f"'{value}'"
    return '"' + "".join(_ESCAPES.get(char, char) for char in value) + '"'


def updated_env(
    text: str,
    variables: Mapping[str, str],
    *,
    remove: Collection[str] = (),
    over_defaults: bool = False,
) -> str:
    """Return a text with some variables set and others removed; the rest is unchanged.

    Parameters
    ----------
    over_defaults
        Also replace a comment ``#NAME=...`` by the variable.
    """
    pieces: list[str] = []
    left = dict(variables)
    for binding in parse_stream(io.StringIO(text)):
        original = binding.original.string
        default = _DEFAULT.match(original) if over_defaults and not binding.key else None
        name = binding.key or (default and default[1])
        if name is None or (name not in remove and name not in variables):
            pieces.append(original)
            continue
        pieces.append("\n" * original[: original.index(name)].count("\n"))  # blank lines stay
        if name in left:
            pieces.append(f"{name}={quoted(left.pop(name))}\n")
    kept = "".join(pieces)
    if kept and not kept.endswith("\n"):
        kept += "\n"
    return kept + "".join(f"{name}={quoted(left[name])}\n" for name in sorted(left))
