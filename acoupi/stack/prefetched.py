"""Weights of models that an image carries, where the libraries of its models find them."""

import os
import shutil
import sys
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["carried_folder", "use_carried"]


def carried_folder() -> Path:
    """Return where an image carries what its models fetched while it was built."""
    return Path(sys.prefix) / "acoupi-cache"


def use_carried(variables: MutableMapping[str, str] = os.environ) -> None:
    """Let libraries find what the image carries, before they are imported; none: nothing happens.

    The folder of the home (``XDG_CACHE_HOME``) is kept where it has all of it, too, because it may
    hold more. Where it can be written, it is given what it lacks.
    """
    carried = carried_folder()
    files = [path.relative_to(carried) for path in carried.rglob("*") if path.is_file()]
    if not files:
        return
    own = Path(variables.get("XDG_CACHE_HOME") or carried)
    lacking = [file for file in files if _size(own / file) != _size(carried / file)]
    if lacking and os.access(own, os.W_OK) and own != carried:
        for file in lacking:
            (own / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(carried / file, own / file)
    elif lacking:
        own = carried
    variables["XDG_CACHE_HOME"] = str(own)


def _size(path: Path) -> int | None:
    """Return the size of a file; None if it is not there. A broken download is smaller."""
    return path.stat().st_size if path.is_file() else None
