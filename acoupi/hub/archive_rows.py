"""The rows of an archive in a hub's database: its files, and the recordings in them."""

import datetime
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args
from uuid import UUID

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.hub.archive_files import Cut, Read, Refused, id_of, name_of, start_of
from acoupi.hub.archive_places import Archive, Entry
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.jobs import order_analysis, put_program
from acoupi.hub.taking_in import put_report
from acoupi.reports import DeploymentReport, ProgramReport, RecordingReport, Report

__all__ = ["FATES", "ArchiveRows", "Fate", "Season", "Trouble", "troubles_in"]

Fate = Literal["taken", "copy", "changed", "refused"]
"""State of a file: taken in; same content as another file; taken in with other sound than in an
earlier run; or refused."""
FATES: tuple[Fate, ...] = get_args(Fate)
Row = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Season:
    """How the hub stores the recordings of an archive."""

    sensor: str
    """Name of the recorder at the hub."""
    deployment: str
    program: ProgramReport
    """The program that analyses them, with its settings."""
    latitude: float | None = None
    longitude: float | None = None
    """Degrees; None: from the files."""
    zone: datetime.tzinfo = datetime.UTC
    """Zone of times without one."""

    @property
    def deployment_id(self) -> UUID:
        """Id of the deployment: the same for the same sensor and name."""
        return data.derived_id("archive deployment", self.sensor, self.deployment)


class Trouble(NamedTuple):
    """A file that is not in the hub as it should be."""

    key: str
    fate: str
    """refused, changed or vanished."""
    why: str


class _Found(NamedTuple):
    """A recording in a file of the archive."""

    id: UUID
    read: Read
    cut: Cut
    began: datetime.datetime

    @property
    def duration_s(self) -> float:
        return (self.cut.end - self.cut.first) / self.read.described.samplerate


_ARCHIVE = """
    INSERT INTO archive (deployment_id, place) VALUES (:deployment, :place)
    ON CONFLICT (deployment_id, place) DO UPDATE SET place = excluded.place RETURNING row
"""

_DEPLOYMENT = """
    SELECT w.latitude_deg, w.longitude_deg, min(r.created_on_us),
        max(r.created_on_us + round(r.duration_s * 1e6)::bigint)
    FROM deployment w JOIN recording r ON r.deployment_row = w.row
    WHERE w.id = :id GROUP BY w.row
"""

_FIT = """
    UPDATE deployment SET started_on_us = :begin, ended_on_us = :end,
        latitude_deg = coalesce(:latitude, latitude_deg),
        longitude_deg = coalesce(:longitude, longitude_deg)
    WHERE id = :id
"""

_ROWS_IN = """
    SELECT r.row FROM deployment w JOIN recording r ON r.deployment_row = w.row
        JOIN audio a ON a.recording_row = r.row
    WHERE w.id = :deployment AND a.place = :place
"""

_ROWS_OF = "SELECT row FROM recording WHERE id = ANY(%s)"

_KNOWN = """
    SELECT key, bytes, changed_on_us, zone, state FROM archive_file
    WHERE archive_row = %s AND key = ANY(%s)
"""

_SEEN = "UPDATE archive_file SET seen_on_us = %s WHERE archive_row = %s AND key = ANY(%s)"

_VANISHED = "SELECT count(*) FROM archive_file WHERE archive_row = :row AND seen_on_us < :run"

_PUT_FILE = """
    INSERT INTO archive_file
        (archive_row, key, bytes, changed_on_us, seen_on_us, zone, state, reason)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
    ON CONFLICT (archive_row, key) DO UPDATE SET
        bytes = excluded.bytes, changed_on_us = excluded.changed_on_us,
        seen_on_us = excluded.seen_on_us, zone = excluded.zone, state = excluded.state,
        reason = excluded.reason
"""

_STARTS = "SELECT id, created_on_us FROM recording WHERE id = ANY(%s)"

_DATE_ANEW = "UPDATE recording SET created_on_us = %s WHERE id = %s"

_PLACES = "SELECT id, key FROM audio WHERE id = ANY(%s) AND place = %s"

_PUT_AUDIO = """
    INSERT INTO audio (
        id, recording_row, is_clip, place, key, format, bytes, head, first_byte, sha256,
        stored_on_us
    )
    SELECT id, row, FALSE, %s, %s, %s, %s, %s, %s, %s, %s FROM recording WHERE id = %s
    ON CONFLICT (id) DO UPDATE SET
        place = excluded.place, key = excluded.key, first_byte = excluded.first_byte
"""

# What a file held before it was changed: that sound no longer exists.
_FORGET = """
    DELETE FROM audio WHERE place = %s AND key = %s AND id <> ALL(%s) RETURNING recording_row
"""
_LOSE = "UPDATE recording SET state = 'lost', path = NULL WHERE row = ANY(%s)"
_FOUND_AGAIN = "UPDATE recording SET state = 'kept', path = %s WHERE id = %s AND state = 'lost'"
_OTHER_SOUND = "its file holds other sound now"
_CANCEL = f"""
    UPDATE job SET state = 'failed', error = '{_OTHER_SOUND}'
    WHERE state IN ('waiting', 'sent', 'running') AND recording_row = ANY(%s)
"""  # noqa: S608 - a constant
# It holds that sound again.
_RESUME = f"""
    UPDATE job SET state = 'waiting', attempts = 0, until_us = 0, error = NULL
    WHERE state = 'failed' AND error = '{_OTHER_SOUND}' AND recording_row = ANY(%s)
"""  # noqa: S608 - a constant

_TROUBLES = """
    SELECT f.key, f.state, f.reason, f.seen_on_us < (
        SELECT max(seen_on_us) FROM archive_file WHERE archive_row = a.row
    )
    FROM archive a JOIN archive_file f ON f.archive_row = a.row
    WHERE a.deployment_id = :deployment AND a.place = :place
        AND (f.state IN ('refused', 'changed') OR f.seen_on_us < (
            SELECT max(seen_on_us) FROM archive_file WHERE archive_row = a.row
        ))
    ORDER BY f.key
"""


class ArchiveRows:
    """The rows of an archive in one run over it.

    Parameters
    ----------
    database
        Of the hub.
    archive
        It.
    season
        How the hub stores it.
    began
        When the run began.
    """

    def __init__(
        self, database: HubDatabase, archive: Archive, season: Season, began: datetime.datetime
    ) -> None:
        self._database, self._archive, self._season = database, archive, season
        self._run, self._zone = to_microseconds(began), str(season.zone)
        keys = {"deployment": season.deployment_id.bytes, "place": archive.url}
        with database.writing() as connection:
            (self._row,) = connection.one(_ARCHIVE, keys)
            # Recordings from earlier runs are analysed by this program, too.
            self._program = put_program(connection, season.program)
            rows = [row for (row,) in connection.execute(_ROWS_IN, keys)]
            order_analysis(connection, self._program, rows, again=True)
            self._deployment = _stored(connection, season)

    def unknown(self, entries: Sequence[Entry]) -> list[Entry]:
        """Return the files that must be read: new, changed, or refused before."""
        with self._database.writing() as connection:
            known = self._known(connection, entries)
        return [one for one in entries if not self._is_known(one, known.get(one.key))]

    def store(
        self, entries: Sequence[Entry], reads: Sequence[Read | Refused]
    ) -> tuple[Counter[Fate], int]:
        """Store what was read of some files, in one transaction.

        Parameters
        ----------
        entries
            All of them, including known ones.
        reads
            The contents of the others.

        Returns
        -------
        fates
            The state of those that were read.
        recordings
            How many recordings are new to the hub.
        """
        with self._database.writing() as connection:
            known = self._known(connection, entries)
            keys = [one.key for one in entries]
            connection.plain.execute(_SEEN, [self._run, self._row, keys])
            taken, copies = self._without_copies(connection, reads)
            recordings = self._put_recordings(connection, taken)
            fates: Counter[Fate] = Counter()
            rows = []
            for one in reads:
                fate, why = self._fate(connection, one, known, taken, copies)
                fates[fate] += 1
                rows.append(self._file_row(one, fate, why))
            connection.put_many(_PUT_FILE, rows)
        return fates, recordings

    def finish(self) -> int:
        """Fit the deployment to its recordings; return how many known files were not found."""
        with self._database.writing() as connection:
            fit = _stored(connection, self._season)
            if fit is not None and fit.ended_on is not None:
                values = {
                    "id": fit.id.bytes,
                    "begin": to_microseconds(fit.started_on),
                    "end": to_microseconds(fit.ended_on),
                    "latitude": self._season.latitude,
                    "longitude": self._season.longitude,
                }
                connection.execute(_FIT, values)
            found = connection.one(_VANISHED, {"row": self._row, "run": self._run})
        return int(found[0])

    def _known(self, connection: Connection, entries: Sequence[Entry]) -> dict[str, Row]:
        rows = connection.plain.execute(_KNOWN, [self._row, [one.key for one in entries]])
        return {key: rest for key, *rest in rows}

    def _is_known(self, entry: Entry, row: Row | None) -> bool:
        if row is None:
            return False
        size, changed_on, zone, state = row
        is_same = (size, changed_on) == (entry.bytes, entry.changed_on_us)
        return is_same and zone in ("", self._zone) and state != "refused"

    def _without_copies(
        self, connection: Connection, reads: Sequence[Read | Refused]
    ) -> tuple[list[_Found], dict[str, str]]:
        """Return the recordings in files; and, for copies, which file each is a copy of."""
        found: dict[UUID, _Found] = {}
        copies: dict[str, str] = {}
        read = [one for one in reads if isinstance(one, Read)]
        parts = {one.entry.key: self._recordings_in(one) for one in read}
        ids = [one.id.bytes for some in parts.values() for one in some]
        placed = dict(connection.plain.execute(_PLACES, [ids, self._archive.url]).fetchall())
        for key, some in parts.items():
            first = some[0].id
            other = found[first].read.entry.key if first in found else placed.get(first.bytes, key)
            if other != key and (first in found or self._archive.look(other) is not None):
                copies[key] = other
            else:
                found |= {one.id: one for one in some}
        return list(found.values()), copies

    def _recordings_in(self, read: Read) -> list[_Found]:
        season = self._season
        return [
            _Found(
                id_of(read, one, season.deployment_id), read, one, start_of(read, one, season.zone)
            )
            for one in read.cuts
        ]

    def _put_recordings(self, connection: Connection, found: Sequence[_Found]) -> int:
        if not found:
            return 0
        ids = [one.id.bytes for one in found]
        starts = dict(connection.plain.execute(_STARTS, [ids]).fetchall())
        self._deployment = _grown(self._deployment, self._season, found)
        fresh = [self._report(one) for one in found if one.id.bytes not in starts]
        deployments = [DeploymentReport(deployment=self._deployment)]
        put_report(
            connection, self._season.sensor, Report(deployments=deployments, recordings=fresh)
        )
        moved = [
            (start, one.id.bytes)
            for one in found
            for start in (to_microseconds(one.began),)
            if starts.get(one.id.bytes, start) != start
        ]
        connection.put_many(_DATE_ANEW, moved)
        again = [(name_of(one.read, one.cut), one.id.bytes) for one in found]
        connection.put_many(_FOUND_AGAIN, again)
        connection.put_many(_PUT_AUDIO, [self._audio_row(one) for one in found])
        rows = [row for (row,) in connection.plain.execute(_ROWS_OF, [ids])]
        connection.plain.execute(_RESUME, [rows])
        order_analysis(connection, self._program, rows, again=True)
        return len(fresh)

    def _report(self, one: _Found) -> RecordingReport:
        described = one.read.described
        return RecordingReport(
            id=one.id,
            deployment=self._season.deployment_id,
            reported_on=from_microseconds(self._run),
            created_on=one.began,
            duration_s=one.duration_s,
            samplerate_hz=described.samplerate,
            audio_channels=described.info.channels,
            time_expansion=described.time_expansion,
            name=name_of(one.read, one.cut),
            state=data.RecordingState.KEPT,
        )

    def _audio_row(self, one: _Found) -> Row:
        entry, cut = one.read.entry, one.cut
        format_ = entry.key.rpartition(".")[2].lower()
        return (
            self._archive.url, entry.key, format_,
            cut.bytes, cut.head, cut.first_byte, cut.sha256, self._run, one.id.bytes,
        )  # fmt: skip

    def _fate(
        self,
        connection: Connection,
        one: Read | Refused,
        known: Mapping[str, Row],
        taken: Iterable[_Found],
        copies: Mapping[str, str],
    ) -> tuple[Fate, str]:
        """Return the state of a file, and why."""
        entry = one.entry
        if isinstance(one, Refused):
            return "refused", one.why
        if entry.key in copies:
            return "copy", copies[entry.key]
        ids = [it.id.bytes for it in taken if it.read is one]
        if entry.key in known and self._forget_others(connection, entry.key, ids):
            return "changed", "it holds other sound than before: both are in the hub"
        return "taken", ""

    def _forget_others(self, connection: Connection, key: str, ids: Sequence[bytes]) -> bool:
        """Note that the sound of recordings that a file held before is gone; return if any is."""
        values = [self._archive.url, key, ids]
        gone = [row for (row,) in connection.plain.execute(_FORGET, values)]
        if gone:
            connection.plain.execute(_LOSE, [gone])
            connection.plain.execute(_CANCEL, [gone])
        return bool(gone)

    def _file_row(self, one: Read | Refused, fate: Fate, why: str) -> Row:
        entry, zone = one.entry, self._zone
        if isinstance(one, Read) and one.told.tzinfo is not None:
            zone = ""
        seen = self._run
        return (self._row, entry.key, entry.bytes, entry.changed_on_us, seen, zone, fate, why)


def troubles_in(database: HubDatabase, archive: Archive, season: Season) -> list[Trouble]:
    """Return the files of an archive that have a problem, by name."""
    keys = {"deployment": season.deployment_id.bytes, "place": archive.url}
    with database.reading() as connection:
        return [
            Trouble(key, "vanished", "it was there in an earlier run") if is_gone
            else Trouble(key, fate, why)
            for key, fate, why, is_gone in connection.stream(_TROUBLES, keys)
        ]  # fmt: skip


def _stored(connection: Connection, season: Season) -> data.Deployment | None:
    """Return a deployment that spans its recordings; None if it has none yet."""
    found = connection.execute(_DEPLOYMENT, {"id": season.deployment_id.bytes}).fetchone()
    if found is None:
        return None
    latitude, longitude, begin, end = found
    return data.Deployment(
        id=season.deployment_id,
        name=season.deployment,
        latitude=latitude,
        longitude=longitude,
        started_on=from_microseconds(begin),
        ended_on=from_microseconds(end),
    )


def _grown(
    known: data.Deployment | None, season: Season, found: Sequence[_Found]
) -> data.Deployment:
    """Return a deployment that also spans these recordings."""
    begins = [one.began for one in found]
    ends = [one.began + datetime.timedelta(seconds=one.duration_s) for one in found]
    place = next(
        (one.read.described.position for one in found if one.read.described.position), None
    )
    if known is not None:
        begins.append(known.started_on)
        ends.append(known.ended_on or known.started_on)
        if known.latitude is not None and known.longitude is not None:
            place = known.latitude, known.longitude
    if season.latitude is not None and season.longitude is not None:
        place = season.latitude, season.longitude
    latitude, longitude = place or (None, None)
    return data.Deployment(
        id=season.deployment_id,
        name=season.deployment,
        latitude=latitude,
        longitude=longitude,
        started_on=min(begins),
        ended_on=max(ends),
    )
