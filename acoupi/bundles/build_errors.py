"""Errors behind the output of a failed build."""

import math
import re

from acoupi.bundles.engine import Answer, explain, unreachable
from acoupi.errors import TargetError

__all__ = ["explain_build", "no_space"]

_FETCHED = re.compile(r" Downloading \S+ \((\d+(?:\.\d+)?) (kB|MB|GB)\)")
_MEGABYTES = {"kB": 0.001, "MB": 1.0, "GB": 1000.0}
_SPACE_OF_FETCHED = 4
"""A package needs this many times its download: that, unpacked, and both in layers."""
_LITTLE_MB = 100
_PIP_MISSING = re.compile(r"No matching distribution found for (\S+)")
_PIP_CONFLICT = re.compile(r"Cannot install (.+?) because these package versions have conflicting")
_APT_MISSING = re.compile(r"E: Unable to locate package (\S+)")
_NOT_FETCHED = re.compile(r"acoupi cannot fetch the weights of (\S+): (.+)")
_BASE_MISSING = re.compile(
    r"(?:failed to resolve source metadata for|pull access denied for|failed to load metadata for) "
    r"(?:docker\.io/)?(?:library/)?([^\s:]+(?::[\w.-]+)?)"
)


def no_space(why: str) -> TargetError:
    """Return the error of a disk that is too full to build."""
    return TargetError(
        "cannot build the image: no space on the disk.",
        "docker builder prune   (removes the leftovers of builds, no images or data)",
        why=why,
    )


def _space_words(said: str) -> str:
    """Return how much disk space a build needs, from what pip had downloaded when it failed.

    Examples
    --------
    >>> _space_words("#9 61.2   Downloading torch-2.5.1-cp311-none-any.whl (2.5 GB)")
    ': pip had fetched 2500 MB until then, and needs about 10 GB for it.'
    """
    fetched = sum(float(size) * _MEGABYTES[unit] for size, unit in _FETCHED.findall(said))
    if fetched < _LITTLE_MB:
        return "."
    needed = math.ceil(fetched * _SPACE_OF_FETCHED / 1000)
    return f": pip had fetched {fetched:.0f} MB until then, and needs about {needed} GB for it."


def explain_build(answer: Answer) -> TargetError | None:
    """Return the error behind the output of a failed build; None if it is unknown."""
    text = answer.out or answer.err
    low = text.lower()
    if explain(answer):
        return unreachable(answer)
    if "is not a docker command" in low or "unknown command: docker buildx" in low:
        return TargetError(
            "cannot build the image: Docker has no buildx.",
            "install the plugin docker-buildx, or scripts/docker-host on Debian",
            why="docker buildx is not installed.",
        )
    return _explain_content(text)


def _explain_content(text: str) -> TargetError | None:
    if "no space left on device" in text.lower():
        return no_space("the engine ran out of space while building" + _space_words(text))
    if error := _explain_packages(text):
        return error
    if found := _APT_MISSING.search(text):
        return TargetError(
            f'cannot build the image: Debian has no package "{found[1]}".',
            f"apt-cache search {found[1]}",
            why="apt did not find it.",
        )
    if found := _BASE_MISSING.search(text):
        return TargetError(
            f'cannot build the image: its base image "{found[1]}" is missing.',
            "scripts/docker-host   (makes one from Debian packages where no registry answers)",
            why="it is not on this machine, and no registry could be reached.",
        )
    return None


def _explain_packages(text: str) -> TargetError | None:
    if found := _PIP_MISSING.search(text):
        return TargetError(
            f'cannot build the image: there is no package "{found[1]}".',
            "check its name and version, and whether the package index can be reached",
            why="pip found none for Python 3.11 on this machine.",
        )
    if found := _PIP_CONFLICT.search(text):
        return TargetError(
            "cannot build the image: the package does not fit this acoupi.",
            "another version of the package, or of acoupi",
            why=f"pip cannot install {found[1]} together with what the image has.",
        )
    if found := _NOT_FETCHED.search(text):
        return TargetError(
            f"cannot build the image: the weights of {found[1]} could not be fetched.",
            "acoupi setup --package ... --weights FOLDER, with files fetched elsewhere "
            "(acoupi help presets)",
            why=f"its model downloads them when it is first loaded: {found[2].strip()}",
        )
    return None
