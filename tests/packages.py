"""Packages that are installed for one test: a module, and entry points in its metadata."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: Path,
    entry_points: Mapping[str, Mapping[str, str]],
    modules: Mapping[str, str] | None = None,
    *,
    name: str = "acoupi-of-a-test",
) -> Path:
    """Install a package as pip would: files below a folder of the path, metadata beside them.

    Parameters
    ----------
    monkeypatch
        Takes the folder off the path again.
    folder
        Of the package; made if need be.
    entry_points
        By group: name and place.
    modules
        Source by the path of the file. What was imported by these names is forgotten.
    name
        Of the distribution.
    """
    metadata = folder / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("\n".join(_lines(entry_points)) + "\n")
    for path, text in (modules or {}).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    tops = {Path(path).parts[0].removesuffix(".py") for path in modules or {}}
    for imported in [one for one in sys.modules if one.split(".")[0] in tops]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.syspath_prepend(folder)
    return folder


def _lines(entry_points: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    for group, places in entry_points.items():
        yield f"[{group}]"
        yield from (f"{name} = {place}" for name, place in places.items())
