"""Where the libraries of models find what they keep: weights, and code that they compiled."""

import os
import shutil
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["carried_folder", "use_carried"]


def carried_folder() -> Path:
    """Return where an image carries what its models fetched while it was built."""
    return Path(sys.prefix) / "acoupi-cache"


def use_carried(variables: MutableMapping[str, str] = os.environ) -> None:
    """Let libraries find what the image carries, before they are imported.

    The folder that they are given (``XDG_CACHE_HOME``) is completed if it can be written. Else
    they get a temporary one with links to all that is in it and in the image: some libraries
    (numba, and so librosa) fail where they can write nothing. Without such a folder, and with an
    image that carries nothing, nothing happens.
    """
    carried = carried_folder()
    given = variables.get("XDG_CACHE_HOME")
    if given is None and not carried.is_dir():
        return
    own = Path(given or carried)
    if os.access(own, os.W_OK):
        _complete(own, carried, link=False)
        return
    try:
        links = Path(tempfile.mkdtemp(prefix="acoupi-cache-"))
    except OSError:
        return  # nothing can be written here, as where a program is only looked at
    _complete(links, carried, link=True)
    _complete(links, own, link=True)
    variables["XDG_CACHE_HOME"] = str(links)


def _complete(folder: Path, source: Path, *, link: bool) -> None:
    """Give a folder the files of another that it lacks; a broken download is smaller."""
    for path in source.rglob("*"):
        place = folder / path.relative_to(source)
        if not path.is_file() or (place.is_file() and place.stat().st_size >= path.stat().st_size):
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        place.unlink(missing_ok=True)
        if link:
            place.symlink_to(path)
        else:
            shutil.copyfile(path, place)
