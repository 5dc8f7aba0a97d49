"""The caches of models' libraries: weights, and compiled code."""

import os
import shutil
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

__all__ = ["carried_folder", "use_carried"]


def carried_folder() -> Path:
    """Return the folder in an image with downloads of its models from the build."""
    return Path(sys.prefix) / "acoupi-cache"


def use_carried(variables: MutableMapping[str, str] = os.environ) -> None:
    """Make libraries find the image's downloads, before they are imported.

    Missing files are copied to their cache folder (``XDG_CACHE_HOME``) if it is writable. Otherwise
    they get a temporary folder with links to its files and the image's: some libraries (numba, and
    so librosa) fail if they can write nothing. Without such a folder, or downloads in the image,
    nothing happens.
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
        return  # nothing can be written here, as when a program is only inspected
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
