"""Darwin Core archives: what GBIF's tools read, with the effort in the Humboldt extension."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, get_args
from xml.sax.saxutils import escape, quoteattr

from acoupi import __version__
from acoupi.audio.formats import media_type
from acoupi.clock import from_microseconds, to_microseconds
from acoupi.errors import ParameterError
from acoupi.exports.effort_report import Tally
from acoupi.exports.flat import CsvWriter, iso_time
from acoupi.exports.format import file_name, is_reviewed, one_line, scientific_name, written
from acoupi.exports.source import Site, Source
from acoupi.heard import DetectionRow, Verdict

__all__ = ["DarwinCore", "Occasion"]

Occasion = Literal["night", "hour"]
_HALF_DAY = 12
_DWC = "http://rs.tdwg.org/dwc/terms/"
_ECO = "http://rs.tdwg.org/eco/terms/"
_DC = "http://purl.org/dc/terms/"


class _File(NamedTuple):
    """A table of the archive."""

    name: str
    row_type: str
    terms: tuple[str, ...]
    """The first is the id of the event; an extension has its own terms after it."""


EVENT = _File("event.csv", f"{_DWC}Event", tuple(f"{_DWC}{one}" for one in (
    "eventID", "parentEventID", "eventType", "eventDate", "locationID", "locality",
    "decimalLatitude", "decimalLongitude", "geodeticDatum", "coordinatePrecision",
    "samplingProtocol", "sampleSizeValue", "sampleSizeUnit", "samplingEffort", "eventRemarks",
)))  # fmt: skip
OCCURRENCE = _File("occurrence.csv", f"{_DWC}Occurrence", tuple(f"{_DWC}{one}" for one in (
    "eventID", "occurrenceID", "basisOfRecord", "occurrenceStatus", "scientificName",
    "eventDate", "identifiedBy", "dateIdentified", "identificationVerificationStatus",
    "identificationRemarks", "associatedMedia", "occurrenceRemarks",
)))  # fmt: skip
HUMBOLDT = _File("humboldt.csv", f"{_ECO}Event", (f"{_DWC}eventID", *(f"{_ECO}{one}" for one in (
    "isSamplingEffortReported", "samplingEffortProtocol", "samplingEffortValue",
    "samplingEffortUnit", "isAbsenceReported",
))))  # fmt: skip
MULTIMEDIA = _File("multimedia.csv", "http://rs.gbif.org/terms/1.0/Multimedia", (
    f"{_DWC}eventID", *(f"{_DC}{one}" for one in (
        "type", "format", "identifier", "title", "created", "description",
    )),
))  # fmt: skip
FILES = (EVENT, OCCURRENCE, HUMBOLDT, MULTIMEDIA)

_STATUS = {
    Verdict.RIGHT: "verified",
    Verdict.OTHER: "verified as another species",
    Verdict.WRONG: "rejected",
    Verdict.UNSURE: "uncertain",
}


class _Event(NamedTuple):
    """A sampling occasion: a night or an hour of a deployment."""

    id: str
    start: datetime.datetime
    end: datetime.datetime
    effort: Tally


@dataclass(frozen=True)
class DarwinCore:
    """An archive of sampling events, the occurrences in them, and the media.

    Each deployment is an event, and each night (from noon to noon) or hour of it a child. No
    absence is reported: a sensor does not say which species its model would not have missed. What
    a person found wrong is an occurrence of no named species.
    """

    name: ClassVar[str] = "darwin-core"
    purpose: ClassVar[str] = "GBIF, OBIS"
    needs_coordinates: ClassVar[bool] = True

    occasion: Occasion = "night"

    def __post_init__(self) -> None:
        if self.occasion not in get_args(Occasion):
            raise ParameterError(
                self.occasion,
                f'--occasion cannot be "{self.occasion}".',
                "--occasion night",
                why="it is night or hour.",
            )

    def write(self, source: Source, folder: Path) -> None:
        """Write ``meta.xml``, ``eml.xml`` and their tables."""
        with ExitStack() as stack:
            event, occurrence, humboldt, media = (_opened(stack, folder, one) for one in FILES)
            for site in source.sites:
                event.writerow(_deployment(site, source))
                humboldt.writerow(_humboldt(str(site.deployment.id), site.effort.total))
                for one in self._events(site):
                    event.writerow(_occasion(one, site, source))
                    humboldt.writerow(_humboldt(one.id, one.effort))
            sites = {one.deployment.id: one for one in source.sites}
            for recording, rows in source.recordings():
                site_ = sites[recording.deployment.id]
                if recording.path is not None:
                    media.writerow(_medium(recording, self._event_id(site_, recording.started_on)))
                for row in rows:
                    occurrence.writerow(_occurrence(row, self._event_id(site_, row.started_on)))
        for name, text in (("meta.xml", _meta()), ("eml.xml", _eml(source))):
            with written(folder / name) as file:
                file.write(text)

    def _event_id(self, site: Site, time: datetime.datetime) -> str:
        """Return the occasion of a time; one beyond the effort is of its first or last."""
        last = from_microseconds(to_microseconds(site.effort.until) - 1)
        inside = min(max(time, site.effort.since), last)
        return f"{site.deployment.id}:{self._label(inside.astimezone(site.effort.timezone))}"

    def _label(self, local: datetime.datetime) -> str:
        if self.occasion == "hour":
            return f"{local:%Y-%m-%dT%H}"
        return _night(local.date(), local.hour).isoformat()

    def _events(self, site: Site) -> Iterator[_Event]:
        """Yield the occasions of a deployment, with what each was used for."""
        tallies: dict[str, tuple[datetime.datetime, Tally]] = {}
        for day in site.effort.days:
            for hour, found in day.hours.items():
                start = datetime.datetime.combine(day.date, datetime.time(hour))
                if self.occasion == "night":
                    start = datetime.datetime.combine(_night(day.date, hour), datetime.time(12))
                label = self._label(start)
                _, tally = tallies.setdefault(label, (start, Tally()))
                for state, microseconds in found.microseconds.items():
                    tally.add(state, microseconds)
                tally.left_out += found.left_out
        for label, (start, tally) in tallies.items():
            yield _Event(f"{site.deployment.id}:{label}", *self._bounds(site, start), tally)

    def _bounds(
        self, site: Site, start: datetime.datetime
    ) -> tuple[datetime.datetime, datetime.datetime]:
        hours = 24 if self.occasion == "night" else 1
        zone = site.effort.timezone
        begin = start.replace(tzinfo=zone)
        end = (start + datetime.timedelta(hours=hours)).replace(tzinfo=zone)
        return max(begin, site.effort.since), min(end, site.effort.until)


def _night(day: datetime.date, hour: int) -> datetime.date:
    return day if hour >= _HALF_DAY else day - datetime.timedelta(days=1)


def _opened(stack: ExitStack, folder: Path, table: _File) -> Any:
    writer = CsvWriter(stack.enter_context(written(folder / table.name)))
    writer.writerow(one.rpartition("/")[2] for one in table.terms)
    return writer


def _interval(start: datetime.datetime, end: datetime.datetime) -> str:
    return f"{iso_time(start)}/{iso_time(end)}"


def _deployment(site: Site, source: Source) -> list[Any]:
    one = site.deployment
    remarks = "the deployment has not ended: this is up to its last known second"
    times = _interval(site.effort.since, site.effort.until)
    return [
        one.id, "", "Deployment", times, *_place(site, source), *_sampled(site, site.effort.total),
        remarks if site.is_open else "",
    ]  # fmt: skip


def _occasion(event: _Event, site: Site, source: Source) -> list[Any]:
    times = _interval(event.start, event.end)
    return [
        event.id, site.deployment.id, "SamplingOccasion", times, *_place(site, source),
        *_sampled(site, event.effort), "",
    ]  # fmt: skip


def _place(site: Site, source: Source) -> list[Any]:
    one = site.deployment
    name = one_line(one.name)
    return [one.id, name, one.latitude, one.longitude, "WGS84", source.coordinate_precision]


def _sampled(site: Site, effort: Tally) -> list[Any]:
    schedule = f", {site.schedule}" if site.schedule else ""
    told = f"{effort.recorded:.3f} s recorded of {effort.planned:.3f} s planned"
    if effort.left_out:
        told += f", {effort.analysed:.3f} s of it analysed, chosen by time alone"
    return [f"passive acoustic recording{schedule}", f"{effort.analysed:.3f}", "second", told]


def _humboldt(event: str, effort: Tally) -> list[Any]:
    what = "seconds recorded and analysed" if effort.left_out else "seconds recorded"
    return [event, "true", f"{what}, see effort.csv", f"{effort.analysed:.3f}", "seconds", "false"]


def _medium(row: Any, event: str) -> list[Any]:
    kind = media_type(file_name(row))
    told = f"{row.duration_s:.6f} s, {row.samplerate_hz} Hz"
    name = one_line(file_name(row))
    return [event, "Sound", kind, row.id, name, iso_time(row.started_on), told]


def _occurrence(row: DetectionRow, event: str) -> list[Any]:
    by = row.provenance.words if row.provenance else row.model
    said = row.verdict
    status = _STATUS[said.verdict] if said is not None and is_reviewed(row) else "unverified"
    species, score = scientific_name(row), row.species.confidence_score if row.species else None
    remarks = f"score {row.score:.6f}"
    if score is not None:
        remarks += f", of the species {score:.6f}"
    if said is not None and is_reviewed(row):
        by, remarks = f"{by} | {said.reviewer}", f"{remarks}, {said.verdict.value}"
        if said.verdict in (Verdict.OTHER, Verdict.WRONG):
            remarks += f", the model said {species or 'no species'}"
            species = (said.species or "") if said.verdict is Verdict.OTHER else ""
    times = _interval(row.started_on, row.ended_on)
    path = row.recording.path
    return [
        event, row.id, "MachineObservation", "present",
        one_line(species), times, one_line(by), iso_time(row.analysed_on), status, remarks,
        "" if path is None else one_line(path.name),
        f"{row.start_s:.6f} to {row.end_s:.6f} s of the recording {row.recording.id}",
    ]  # fmt: skip


def _meta() -> str:
    parts = [
        '<?xml version="1.0" encoding="UTF-8"?>\n',
        '<archive xmlns="http://rs.tdwg.org/dwc/text/" metadata="eml.xml">\n',
        *_described(EVENT, "core", "id", EVENT.terms, 0),
    ]
    for one in (OCCURRENCE, HUMBOLDT, MULTIMEDIA):
        parts += _described(one, "extension", "coreid", one.terms[1:], 1)
    return "".join([*parts, "</archive>\n"])


def _described(
    table: _File, kind: str, id_: str, terms: Sequence[str], first: int
) -> Iterable[str]:
    yield (
        f'  <{kind} encoding="UTF-8" fieldsTerminatedBy="," linesTerminatedBy="\\n" '
        f'fieldsEnclosedBy="&quot;" ignoreHeaderLines="1" rowType={quoteattr(table.row_type)}>\n'
        f"    <files><location>{table.name}</location></files>\n"
        f'    <{id_} index="0"/>\n'
    )
    for number, term in enumerate(terms, first):
        yield f'    <field index="{number}" term={quoteattr(term)}/>\n'
    yield f"  </{kind}>\n"


def _eml(source: Source) -> str:
    names = dict.fromkeys(one_line(one.deployment.name) for one in source.sites)
    title = escape(f"What was heard at {', '.join(names)}")
    places = [one.deployment for one in source.sites]
    lats = [one.latitude or 0.0 for one in places]
    lons = [one.longitude or 0.0 for one in places]
    start, end = min(one.effort.since for one in source.sites), source.latest
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<eml:eml xmlns:eml="https://eml.ecoinformatics.org/eml-2.2.0" packageId="{places[0].id}"
  system="acoupi" scope="system" xml:lang="en">
  <dataset>
    <title>{title}</title>
    <creator><organizationName>acoupi {__version__}</organizationName></creator>
    <pubDate>{end:%Y-%m-%d}</pubDate>
    <language>en</language>
    <abstract><para>Recordings of an autonomous acoustic sensor and what models found in them.
      effort.csv says what every second of each deployment was used for.</para></abstract>
    <coverage>
      <geographicCoverage>
        <geographicDescription>{escape(", ".join(names))}</geographicDescription>
        <boundingCoordinates>
          <westBoundingCoordinate>{min(lons)}</westBoundingCoordinate>
          <eastBoundingCoordinate>{max(lons)}</eastBoundingCoordinate>
          <northBoundingCoordinate>{max(lats)}</northBoundingCoordinate>
          <southBoundingCoordinate>{min(lats)}</southBoundingCoordinate>
        </boundingCoordinates>
      </geographicCoverage>
      <temporalCoverage><rangeOfDates>
        <beginDate><calendarDate>{start:%Y-%m-%d}</calendarDate></beginDate>
        <endDate><calendarDate>{end:%Y-%m-%d}</calendarDate></endDate>
      </rangeOfDates></temporalCoverage>
    </coverage>
    <contact><organizationName>acoupi {__version__}</organizationName></contact>
  </dataset>
</eml:eml>
"""
