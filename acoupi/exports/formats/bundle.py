"""Everything that a reviewer of a paper would ask for, in one folder."""

import hashlib
import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from acoupi import __version__
from acoupi.exports.flat import iso_time
from acoupi.exports.format import Format, one_line, written
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.darwin_core import DarwinCore
from acoupi.exports.formats.tables import Csv
from acoupi.exports.source import Site, Source

__all__ = ["MANIFEST", "Bundle"]

MANIFEST = "manifest-sha256.txt"
_EFFORT = ("effort.csv", "failures.csv")
_WORDS = {
    "csv": "every column of every row, as tables",
    "camtrap-dp": "the same as a Camtrap DP data package (version 1.0.2)",
    "darwin-core": "the same as a Darwin Core archive, for GBIF",
}


@dataclass(frozen=True)
class Bundle:
    """Packages, effort, configuration, versions, checksums, and a README in words."""

    name: ClassVar[str] = "bundle"
    purpose: ClassVar[str] = "all that a reviewer would ask for"
    needs_coordinates: ClassVar[bool] = False

    files: Mapping[str, str] = field(default_factory=dict)
    """Texts of further files by their names: the configuration, without secrets."""

    def write(self, source: Source, folder: Path) -> None:
        """Write ``README.txt``, a folder for each package, and ``manifest-sha256.txt``."""
        packages = list(_packages(source))
        for package in packages:
            own = folder / package.name
            own.mkdir()
            for name in _EFFORT:
                shutil.copyfile(folder / name, own / name)
            package.write(source, own)
        texts = {
            **self.files,
            "versions.json": json.dumps(_versions(source), indent=2, ensure_ascii=False) + "\n",
            "README.txt": self._readme(source, packages),
        }
        for name, text in texts.items():
            with written(folder / name) as file:
                file.write(text)
        lines = list(_sums(folder))
        with written(folder / MANIFEST) as file:
            file.writelines(lines)

    def _readme(self, source: Source, packages: list[Format]) -> str:
        lines = ["WHAT WAS HEARD", "", *map(_told, source.sites), ""]
        lines += [f"Models found something {source.count_detections()} times.", "", "FILES", ""]
        lines += [f"{one.name}/  {_WORDS[one.name]}" for one in packages]
        if len(packages) < len(_WORDS):
            lines += ["Packages for GBIF are missing: a deployment has no coordinates."]
        lines += [
            "effort.csv  what every second of each deployment was used for, and why",
            "failures.csv  planned time in which nothing was recorded",
            "versions.json  versions of the software, and which models, weights and settings",
            *(f"{name}  the settings of the sensor, without secrets" for name in self.files),
            f"{MANIFEST}  checksums; to check them: sha256sum -c {MANIFEST}",
            "",
            "Times are in UTC, places in degrees (WGS 84), frequencies in hertz.",
        ]
        if source.coordinate_precision is not None:
            lines.append(f"Coordinates are rounded to {source.coordinate_precision:g} degrees.")
        return "\n".join(lines) + "\n"


def _packages(source: Source) -> Iterator[Format]:
    yield Csv()
    places = [(one.deployment.latitude, one.deployment.longitude) for one in source.sites]
    if all(None not in place for place in places):
        yield CamtrapDp()
        yield DarwinCore()


def _told(site: Site) -> str:
    effort = site.effort
    share = effort.total.share
    planned = "" if share is None else f", {100 * share:.2f} % of what was planned"
    end = " (the deployment has not ended)" if site.is_open else ""
    return (
        f"{one_line(site.deployment.name)}: {iso_time(effort.since)} to {iso_time(effort.until)}"
        f"{end}, {effort.total.recorded:.3f} s recorded{planned}."
    )


def _versions(source: Source) -> dict[str, Any]:
    rows = source.detections()
    made_by = {row.provenance for row in rows if row.provenance is not None}
    told = [one.model_dump(mode="json") for one in made_by]
    return {
        "acoupi": __version__,
        "python": platform.python_version(),
        "packages": {
            one: metadata.version(one) for one in ("celery", "numpy", "pydantic", "soundfile")
        },
        "models": sorted(told, key=lambda one: json.dumps(one, sort_keys=True)),
    }


def _sums(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{digest}  {path.relative_to(folder)}\n"
