"""The eBird Record Format (extended): what a person verified, to be uploaded as checklists."""

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import ClassVar
from uuid import UUID

from acoupi.data import EffortState
from acoupi.exports.format import bare, verified
from acoupi.exports.source import Site, Source
from acoupi.heard import DetectionRow

__all__ = ["EBird"]

LARGEST = 1_000_000
"""Largest file that eBird accepts, bytes."""


@dataclass(frozen=True)
class EBird:
    """One row for each verified species in each hour of a deployment.

    The format has 19 columns without a head; it knows no quotation marks or line breaks. Numbers
    are "X": a sensor counts calls, not birds.
    """

    name: ClassVar[str] = "ebird"
    purpose: ClassVar[str] = "eBird import; only what a person verified"
    needs_coordinates: ClassVar[bool] = True

    def write(self, source: Source, folder: Path) -> None:
        """Write ``ebird-01.csv`` and so on, each small enough for eBird."""
        sites = {one.deployment.id: one for one in source.sites}
        rows = (row for row in source.detections() if verified(row))
        hours = groupby(rows, key=lambda row: (row.recording.deployment.id, _hour(row, sites)))
        lines = (
            line for (id_, hour), group in hours for line in _checklist(sites[id_], hour, group)
        )
        _write(folder, lines)


def _hour(row: DetectionRow, sites: Mapping[UUID, Site]) -> datetime.datetime:
    zone = sites[row.recording.deployment.id].effort.timezone
    local = row.started_on.astimezone(zone)
    return local.replace(minute=0, second=0, microsecond=0)


def _checklist(site: Site, hour: datetime.datetime, rows: Iterable[DetectionRow]) -> Iterator[str]:
    """Yield a line for each species that was verified in an hour."""
    counts: dict[str, int] = {}
    people: set[str] = set()
    for row in rows:
        species = bare(verified(row))
        counts[species] = counts.get(species, 0) + 1
        people.add(row.verdict.reviewer if row.verdict else "")
    one = site.deployment
    minutes = max(1, round(_recorded(site, hour) / 60))
    for species, count in sorted(counts.items()):
        genus, _, rest = species.partition(" ")
        told = f"{count} detections by a sensor, verified by {', '.join(sorted(people))}"
        yield ",".join(
            bare(str(cell)).replace(",", ";")
            for cell in (
                "", genus, rest, "X", told, one.name, one.latitude, one.longitude,
                f"{hour:%m/%d/%Y}", f"{hour:%H:%M}", "", "", "stationary", 1, minutes, "N", "", "",
                "autonomous acoustic recorder",
            )
        )  # fmt: skip


def _recorded(site: Site, hour: datetime.datetime) -> float:
    for day in site.effort.days:
        if day.date == hour.date() and hour.hour in day.hours:
            return day.hours[hour.hour].seconds(EffortState.RECORDED)
    return 0.0


def _write(folder: Path, lines: Iterable[str]) -> None:
    number, size, file = 1, 0, (folder / "ebird-01.csv").open("xb")
    try:
        for line in lines:
            content = f"{line}\n".encode(errors="replace")
            if size + len(content) > LARGEST:
                file.close()
                number, size = number + 1, 0
                file = (folder / f"ebird-{number:02}.csv").open("xb")
            size += file.write(content)
    finally:
        file.close()
