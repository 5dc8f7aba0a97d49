"""The licences of packages for an image, before anything is downloaded.

Only metadata is read: of local packages from their files, of others from the index that pip
asks. No code of theirs runs.
"""

import email
import json
import re
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from acoupi.bundles.images import WEIGHTS, without_password
from acoupi.stack.published import NAME, RESTRICTED, normal, stated_licence

__all__ = ["licences_before", "metadata_from_index"]

PYTHON = "3.11"
"""Of the image."""
WAIT = 60.0
"""Longest query of an index, seconds."""
Metadata = Mapping[str, Any]
Ask = Callable[[Sequence[str]], Sequence[Metadata] | None]


def metadata_from_index(requirements: Sequence[str]) -> Sequence[Metadata] | None:
    """Return the metadata of packages, without their requirements; None if pip cannot tell."""
    with tempfile.TemporaryDirectory(prefix="acoupi-licences-") as folder:
        asked = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--no-deps", "--no-input", "--target", folder, "--report", "-"),
            *("--python-version", PYTHON, "--only-binary=:all:", "--", *requirements),
        ]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=WAIT, check=True)
            return [one["metadata"] for one in json.loads(done.stdout)["install"]]
        except (OSError, subprocess.SubprocessError, ValueError, KeyError):
            return None


def licences_before(packages: Sequence[str], ask: Ask = metadata_from_index) -> Iterator[str]:
    """Yield the licence of each package, in a line, and restrictive ones of its requirements.

    Weights of models come with packages, under their licences.

    Parameters
    ----------
    packages
        Requirements, absolute paths of folders and wheels, or folders of weights.
    ask
        Gives the metadata of requirements.
    """
    for package in packages:
        if package.startswith(WEIGHTS):
            yield f"the weights in {package.removeprefix(WEIGHTS)}: see where they come from"
            continue
        found = _found(package, ask)
        if found is None:
            yield f"{without_password(package)}: unknown until it is installed"
            continue
        yield _in_words(found)
        needs = [one for one in found.get("requires_dist", ()) if _is_needed(one)]
        below = ask(needs) or () if needs else ()
        yield from filter(RESTRICTED.search, map(_in_words, below))


def _found(package: str, ask: Ask) -> Metadata | None:
    if package.startswith("/"):
        return _local(Path(package))
    if "://" in package:  # it would have to be fetched
        return None
    return next(iter(ask([package]) or ()), None)


def _in_words(found: Metadata) -> str:
    return f"{found['name']} {found.get('version', '')}".strip() + f": {stated_licence(found)}"


def _is_needed(requirement: str) -> bool:
    name = NAME.match(requirement)
    optional = re.search(r";.*\bextra\s*==", requirement)
    return name is not None and normal(name[0]) != "acoupi" and not optional


def _local(path: Path) -> Metadata | None:
    """Return the metadata of a folder or wheel; None: it has none that can be read."""
    try:
        return _of_wheel(path) if path.suffix == ".whl" else _of_folder(path)
    except (OSError, ValueError, KeyError, StopIteration, zipfile.BadZipFile):
        return None


def _of_wheel(path: Path) -> Metadata:
    with zipfile.ZipFile(path) as wheel:
        place = next(one for one in wheel.namelist() if one.endswith(".dist-info/METADATA"))
        text = email.message_from_bytes(wheel.read(place))
    return {
        "name": text["Name"],
        "version": text["Version"],
        "license": text["License"],
        "license_expression": text["License-Expression"],
        "classifier": text.get_all("Classifier", []),
        "requires_dist": text.get_all("Requires-Dist", []),
    }


def _of_folder(path: Path) -> Metadata:
    project = tomllib.loads((path / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    licence = project.get("license", "")
    return {
        "name": project["name"],
        "version": project.get("version", ""),
        "license": licence.get("text") if isinstance(licence, dict) else licence,
        "classifier": project.get("classifiers", []),
        "requires_dist": project.get("dependencies", []),
    }
