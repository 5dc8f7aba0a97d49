"""Packages for acoupi without an entry point: their programs and licences."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution, distributions
from pathlib import PurePosixPath
from typing import Any

__all__ = [
    "GROUP",
    "NAME",
    "RESTRICTED",
    "Published",
    "licences_of",
    "normal",
    "published_packages",
    "stated_licence",
]

GROUP = "acoupi.programs"
NAME = re.compile(r"[A-Za-z0-9._-]+")
RESTRICTED = re.compile(r"\bNC\b|non-?commercial|-nc\b|\bSA\b|AGPL|proprietary", re.IGNORECASE)

FETCHED = {"acoupi-birdnet": "BirdNET 2.4, CC BY-NC-SA 4.0"}
"""Weights that a package downloads, with their licence: the package's own licence only covers its
code."""


@dataclass(frozen=True)
class Published:
    """An installed package that needs acoupi and has no entry point for a program."""

    name: str
    version: str
    modules: tuple[str, ...]

    @property
    def program(self) -> str:
        """The module that its program is probably in."""
        last = [one for one in self.modules if one.endswith(".program")]
        return (last or [*self.modules])[0]


def published_packages() -> Iterator[Published]:
    """Yield the packages that need acoupi and have no entry point for a program."""
    for one in distributions():
        if "acoupi" not in _needs(one) or one.entry_points.select(group=GROUP):
            continue
        if modules := tuple(sorted(_modules(one))):
            yield Published(one.name, one.version, modules)


def _needs(package: Distribution) -> list[str]:
    found = (NAME.match(one) for one in package.requires or ())
    return [normal(one[0]) for one in found if one]


def normal(name: str) -> str:
    """Return the normalised name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _modules(package: Distribution) -> Iterator[str]:
    for file in package.files or ():
        path = PurePosixPath(file)
        parts = path.with_suffix("").parts
        if path.suffix == ".py" and all(part.isidentifier() for part in parts):
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def licences_of(module: str) -> list[str]:
    """Return the licence of a module's package, and restrictive ones of its requirements.

    Weights of models come with packages, under their licences.
    """
    top = module.partition(".")[0]
    for one in distributions():
        tops = {name.partition(".")[0] for name in _modules(one)}
        if normal(one.name) != "acoupi" and top in tops:
            below = [_licence(name) for name in _needs(one)]
            restricted = [text for text in below if text and RESTRICTED.search(text)]
            return [text for text in (_licence(one.name), *restricted) if text]
    return []


def _licence(name: str) -> str | None:
    """Return the licence of a package, in a line; None if it is not installed."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return f"{found.name} {found.version}: {stated_licence(found.metadata.json)}"


def stated_licence(metadata: Mapping[str, Any]) -> str:
    r"""Return the licence that the metadata of a package states, in a line.

    Parameters
    ----------
    metadata
        As JSON: the fields as pip reports them.

    Examples
    --------
    >>> stated_licence({"license": "MIT License\n\nPermission is hereby granted"})
    'MIT License'
    >>> stated_licence({"classifier": ["License :: OSI Approved :: BSD License"]})
    'BSD License'
    >>> stated_licence({})
    'not stated'
    >>> stated_licence({"name": "acoupi_birdnet", "license": "MIT"})
    'MIT; the weights that it downloads: BirdNET 2.4, CC BY-NC-SA 4.0'
    """
    said = str(metadata.get("license_expression") or metadata.get("license") or "")
    classifiers = [
        one.rpartition(" :: ")[2]
        for one in metadata.get("classifier", ())
        if one.startswith("License :: ")
    ]
    licence = said.strip().partition("\n")[0] or ", ".join(classifiers) or "not stated"
    weights = FETCHED.get(normal(str(metadata.get("name", ""))))
    return licence if weights is None else f"{licence}; the weights that it downloads: {weights}"
