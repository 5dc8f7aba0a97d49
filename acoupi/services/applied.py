"""How services notice settings that were changed on the web page.

A change is written together with ``config/applied.json``, in one commit. Each service looks at
that file now and then, stops after its current work, and is started again.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from acoupi import clock
from acoupi.commit import read_whole, version_of
from acoupi.writing import RenderedFile

__all__ = ["AppliedWatch", "Changing", "applied_digests", "applied_file", "applied_path"]

NAME = "applied.json"


class Changing(Protocol):
    """Notices when another configuration is in force."""

    def changed(self) -> str | None:
        """Return why the service must be restarted; None if it need not."""


class AppliedWatch:
    """Notices changes on the page from now on.

    Parameters
    ----------
    config
        The folder ``config/``.
    other
        Notices other changes, or None.
    """

    def __init__(self, config: Path, other: Changing | None = None) -> None:
        self._path, self._other = applied_path(config), other
        self._known = version_of(self._path)

    def changed(self) -> str | None:
        """Return why the service must be restarted; None if it need not."""
        if version_of(self._path) != self._known:
            return "a setting was changed on the web page"
        return None if self._other is None else self._other.changed()


def applied_path(config: Path) -> Path:
    """Return the path of the file of the last change."""
    return config / NAME


def applied_file(by: str, files: Mapping[str, RenderedFile]) -> RenderedFile:
    """Return the contents of that file.

    Parameters
    ----------
    by
        Who asked for the change.
    files
        Generated files that were written, by path below the home; nobody edited them by hand.
    """
    digests = {name: one.digest for name, one in sorted(files.items())}
    content = {"on": clock.utc_now().isoformat(), "by": by, "files": digests}
    return RenderedFile(json.dumps(content, indent=2) + "\n")


def applied_digests(config: Path) -> dict[str, str]:
    """Return the digests of generated files that the last change wrote; none if unreadable."""
    with suppress(OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        found = json.loads(read_whole(applied_path(config)))["files"]
        return {str(name): str(digest) for name, digest in found.items()}
    return {}
