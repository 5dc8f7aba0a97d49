"""One attempt after another, and how each ended: what the attacks from inside are made of.

This text and those of `inside` and `doors` are run within a container: they import nothing of
the tests but each other.
"""

import errno
import json
import os
import sys
from collections import ChainMap
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

DONE = "DONE"
"""Nothing refused it."""


@dataclass(frozen=True)
class Here:
    """Where the attacker is."""

    home: Path
    service: str
    secrets: list[str]
    """What it looks for."""

    def of_others(self) -> list[str]:
        names = ("recording", "detection", "default", "beat", "redis", "setup", "web")
        return [name for name in names if name != self.service]


def tried(act: Callable[[], object]) -> str:
    """Return how an attempt ended: the name of the error that refused it."""
    try:
        act()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return DONE


def every(attempts: Iterable[Callable[[], object]]) -> list[str]:
    return sorted({tried(act) for act in attempts})


def written(path: str | Path) -> Callable[[], object]:
    def act() -> None:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NONBLOCK, 0o600)
        os.write(handle, b"\n")
        os.close(handle)

    return act


def opened(path: str | Path, flags: int = os.O_RDONLY) -> Callable[[], object]:
    return lambda: os.close(os.open(path, flags | os.O_NONBLOCK))


def main(*modules: ModuleType) -> None:
    """Try what is named, each a function of one of these, and print how each ended."""
    attacks = ChainMap(*map(vars, modules))
    asked = json.loads(sys.argv[1])
    here = Here(Path(asked["home"]), asked["service"], asked["secrets"])
    found = {}
    for name in asked["names"]:
        try:
            found[name] = attacks[name](here)
        except Exception as error:  # noqa: BLE001 - an attack that does not run refuses nothing
            found[name] = [f"not tried: {type(error).__name__}: {error}"]
    sys.stdout.write("\n" + json.dumps(found))
