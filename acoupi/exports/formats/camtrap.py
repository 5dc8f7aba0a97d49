"""Camtrap DP: data packages for GBIF, camtrapdp (R) and the like; also its acoustic relatives."""

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, get_args

from acoupi import __version__
from acoupi.errors import ParameterError
from acoupi.exports.effort_files import EFFORT, FAILURES, EffortColumns
from acoupi.exports.flat import CsvWriter
from acoupi.exports.format import to_second, write_table, written
from acoupi.exports.formats.camtrap_columns import TABLES, Profile, observations_of, schema_of
from acoupi.exports.source import Source

__all__ = ["CamtrapDp"]

_TDWG = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2/"
_ACOUSTIC = "https://raw.githubusercontent.com/camera-traps/bioacoustics/main/camtrap-dp/"
_PROFILES: Mapping[Profile, tuple[str, str]] = {
    "1.0.2": (f"{_TDWG}camtrap-dp-profile.json", f"{_TDWG}{{}}-table-schema.json"),
    "acoustic-2025": (
        f"{_ACOUSTIC}camtrap-dp-profile-acoustic.json",
        f"{_ACOUSTIC}{{}}-table-schema-acoustic.json#1.0.1",  # the profile asks for that version
    ),
    "pamdp": ("data-package", ""),
}
"""Where the profile is, and where the schemas of its tables are; none: they are written out."""

DESCRIPTION = (
    "Recordings of an autonomous acoustic sensor and what models found in them. Times without "
    "fractions are rounded outwards; the exact ones are in observationTags (seconds from the "
    "beginning of the file). Media are the recordings, or clips of them, that were kept; "
    "observations at the level of events are from recordings that were analysed and then deleted. "
    "effort.csv says what every second of each deployment was used for. The time in `created` is "
    "the last moment that the package accounts for."
)


@dataclass(frozen=True)
class CamtrapDp:
    """A data package with deployments, media, observations, effort and failures."""

    name: ClassVar[str] = "camtrap-dp"
    purpose: ClassVar[str] = "GBIF, R camtrapdp, frictionless"
    needs_coordinates: ClassVar[bool] = True

    profile: Profile = "1.0.2"

    def __post_init__(self) -> None:
        if self.profile not in get_args(Profile):
            raise ParameterError(
                self.profile,
                f'--profile cannot be "{self.profile}".',
                "--profile 1.0.2",
                why=f"it is one of {', '.join(get_args(Profile))}.",
            )

    def write(self, source: Source, folder: Path) -> None:
        """Write ``datapackage.json`` and its tables."""
        rows = ([value(site) for value in self._values("deployments")] for site in source.sites)
        write_table(folder / "deployments.csv", self._names("deployments"), rows)
        species: set[str] = set()
        levels: set[str] = set()
        with ExitStack() as stack:
            media = self._opened(stack, folder, "media")
            observations = self._opened(stack, folder, "observations")
            for recording, found in source.recordings():
                if recording.path is not None:
                    media(recording)
                levels.add("media" if recording.path is not None or not found else "event")
                for one in (one for row in found for one in observations_of(row)):
                    observations(one)
                    species.add(one.species)
        described = self._described(source, sorted(species - {""}), sorted(levels or {"media"}))
        with written(folder / "datapackage.json") as file:
            file.write(json.dumps(described, indent=2, ensure_ascii=False) + "\n")

    def _names(self, table: str) -> list[str]:
        columns = (column.names.get(self.profile) for column in TABLES[table])
        return [name for name in columns if name is not None]

    def _values(self, table: str) -> list[Any]:
        return [column.value for column in TABLES[table] if self.profile in column.names]

    def _opened(self, stack: ExitStack, folder: Path, table: str) -> Any:
        """Return what writes one row of a table."""
        file = stack.enter_context(written(folder / f"{table}.csv"))
        writer = CsvWriter(file)
        writer.writerow(self._names(table))
        values = self._values(table)
        return lambda row: writer.writerow([value(row) for value in values])

    def _described(self, source: Source, species: list[str], levels: list[str]) -> dict[str, Any]:
        sites = source.sites
        points = [[one.deployment.longitude, one.deployment.latitude] for one in sites]
        starts = [one.effort.since for one in sites]
        described: dict[str, Any] = {
            "resources": list(self._resources()),
            "profile": _PROFILES[self.profile][0],
            "name": f"acoupi-{sites[0].deployment.id}",
            "created": to_second(source.latest, up=True),
            "title": f"What was heard at {', '.join(dict.fromkeys(_names(source)))}",
            "contributors": [{"title": f"acoupi {__version__}", "role": "contributor"}],
            "description": DESCRIPTION,
            "project": {
                "title": f"acoupi at {', '.join(dict.fromkeys(_names(source)))}",
                "samplingDesign": "opportunistic",
                "captureMethod": ["timeLapse"],
                "individualAnimals": False,
                "observationLevel": levels,
            },
            "spatial": {"type": "MultiPoint", "coordinates": points},
            "temporal": {
                "start": f"{min(starts):%Y-%m-%d}",
                "end": f"{source.latest:%Y-%m-%d}",
            },
            "taxonomic": [{"scientificName": one} for one in species],
        }
        if source.coordinate_precision is not None:
            described["coordinatePrecision"] = source.coordinate_precision
        return described

    def _resources(self) -> Iterator[dict[str, Any]]:
        where = _PROFILES[self.profile][1]
        for table in TABLES:
            schema = where.format(table) if where else schema_of(table, self.profile)
            yield _resource(table, schema)
        yield _resource("effort", _effort_schema(EFFORT))
        yield _resource("failures", _effort_schema(FAILURES))


def _names(source: Source) -> Iterator[str]:
    return (one.deployment.name for one in source.sites)


def _resource(name: str, schema: object) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"{name}.csv",
        "profile": "tabular-data-resource",
        "format": "csv",
        "mediatype": "text/csv",
        "encoding": "utf-8",
        "schema": schema,
    }


def _effort_schema(columns: EffortColumns) -> dict[str, Any]:
    fields = [
        {"name": name, "type": kind, "description": what}
        | ({"format": "%Y-%m-%dT%H:%M:%S.%fZ"} if kind == "datetime" else {})
        for name, (kind, what) in columns.items()
    ]
    reference = {"resource": "deployments", "fields": "deploymentID"}
    keys = [{"fields": "deploymentID", "reference": reference}]
    return {"fields": fields, "missingValues": [""], "foreignKeys": keys}
