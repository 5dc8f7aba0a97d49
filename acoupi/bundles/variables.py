"""``.env`` of a bundle: what a person, or a command of ours, chose for it."""

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from acoupi.writing import READABLE, disk_error, write_atomic

__all__ = ["ENV_FILE", "choose", "chosen_variables", "plain", "quoted"]

ENV_FILE = PurePath(".env")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=(.*)\Z")
_QUOTED = re.compile(r"""(["'])((?:\\.|(?!\1).)*)\1\s*(?:#.*)?\Z""")


def chosen_variables(home: Path, names: Iterable[str] = ()) -> dict[str, str]:
    """Return what stands in ``.env``, as it is quoted; for these names the environment is stronger.

    Raises
    ------
    DeviceError
        If it cannot be read.
    """
    lines = _read(home / ENV_FILE).splitlines()
    chosen = {match[1]: match[2] for match in map(_LINE.match, lines) if match}
    given = {name: os.environ[name] for name in names if os.environ.get(name)}
    return chosen | {name: quoted(value) for name, value in given.items()}


def choose(home: Path, variables: Mapping[str, str]) -> None:
    """Write choices into ``.env``, each on the line where its default or an older choice stands.

    Raises
    ------
    DeviceError
        If it cannot be written.
    """
    path = home / ENV_FILE
    left = {name: f"{name}={quoted(value)}" for name, value in variables.items()}
    lines = []
    for line in _read(path).splitlines():
        match = _LINE.match(line.removeprefix("#"))
        name = match[1] if match else None
        if name is None or name not in variables:
            lines.append(line)
        elif name in left:
            lines.append(left.pop(name))
    text = "".join(f"{line}\n" for line in (*lines, *left.values()))
    mode = path.stat().st_mode & 0o7777 if path.exists() else READABLE
    write_atomic(path, text, mode)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise disk_error("read", path, error) from error


def plain(text: str) -> str:
    """Return a value as Compose reads it: without its quotes, and the comment after it.

    Examples
    --------
    >>> plain(" 'a b' # mine"), plain("1000 # me"), plain("a#b")
    ('a b', '1000', 'a#b')
    """
    text = text.strip()
    if match := _QUOTED.match(text):
        return match[2].replace(f"\\{match[1]}", match[1])
    return text.partition(" #")[0].rstrip()


def quoted(value: str) -> str:
    """Quote a value for ``.env``.

    Examples
    --------
    >>> quoted("/dev/snd"), quoted("a b")
    ('/dev/snd', "'a b'")
    """
    if re.fullmatch(r"[A-Za-z0-9_./:@%+=,-]*", value):
        return value
    return "'" + value.replace("'", "\\'") + "'"
