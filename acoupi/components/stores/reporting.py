"""What a sensor's store holds, as reports for a hub."""

import datetime
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import Database, stores_that_only_read
from acoupi.components.stores.effort_tables import plans_of
from acoupi.components.stores.heard_tables import verdict_of
from acoupi.components.stores.reader import SqliteReader
from acoupi.components.stores.rows import deployment_of
from acoupi.components.stores.sqlite import SqliteStore
from acoupi.components.stores.unreported import HOUR, Change, known_on
from acoupi.components.stores.values import as_id, from_microseconds
from acoupi.heard import Filters, RecordingRow, VerdictRow
from acoupi.reports import (
    ClipReport,
    DeploymentReport,
    GivenUpReport,
    NoteReport,
    OutputReport,
    ProgramReport,
    RecordingReport,
    Report,
)

__all__ = ["Reporter", "reports_of"]

RECORDINGS_IN_A_REPORT = 200

_GIVEN_UP = """
    SELECT class, reason, duration_s, bytes, given_up_on_us FROM given_up
    WHERE recording_row = (SELECT row FROM recording WHERE id = :id) ORDER BY row
"""

_IS_SAMPLED = """
    SELECT 1 FROM sample WHERE recording_row = (SELECT row FROM recording WHERE id = :id) LIMIT 1
"""

_VERDICT = """
    SELECT recording_id, detection_id, verdict, species, reviewer, note, given_on_us
    FROM verdict WHERE row = :row
"""
_ID_OF_RECORDING = "SELECT id FROM recording WHERE row = :row"
_DEPLOYMENT_OF_RECORDING = "SELECT deployment_row FROM recording WHERE id = :id"

_NOTES_OF_HOUR = """
    SELECT start_us, end_us, state, detail FROM effort_note
    WHERE deployment_row = :row AND start_us >= :since AND start_us < :until
    ORDER BY start_us, state
"""

_NOTES = """
    SELECT start_us, end_us, state, detail FROM effort_note
    WHERE deployment_row = :row ORDER BY start_us, state
"""


def reports_of(path: Path, now: datetime.datetime | None = None) -> Iterator[Report]:
    """Yield all that a store holds: deployments first, then some hundred recordings at a time.

    Nothing is changed, and the sensor may be running: what it records meanwhile comes too.

    Parameters
    ----------
    path
        The metadata store.
    now
        By the clock of the hub; None: by that of this machine.

    Raises
    ------
    MetadataStoreError
        If it cannot be read.
    """
    stamp = known_on(path, now or data.utc_now())
    with stores_that_only_read():
        store = SqliteStore(path)
    with SqliteReader(path) as reader:
        for deployment in reader.get_deployments():
            yield Report(deployments=[_deployment(reader, deployment)])
        last: UUID | None = None
        while rows := list(reader.recordings(Filters(), after=last, limit=RECORDINGS_IN_A_REPORT)):
            yield Report(recordings=_recordings(reader, store, rows, stamp))
            last = rows[-1].id
    store.close()


def _deployment(reader: SqliteReader, deployment: data.Deployment) -> DeploymentReport:
    with reader.reading() as connection:
        row = connection.execute(sql.ROW_OF_DEPLOYMENT, {"id": deployment.id.bytes}).fetchone()[0]
        plans = plans_of(connection, deployment)
        notes = _notes(connection, _NOTES, {"row": row})
    verdicts = list(reader.verdicts(Filters(deployments=frozenset({deployment.id}))))
    return DeploymentReport(deployment=deployment, notes=notes, plans=plans, verdicts=verdicts)


def _notes(connection: Any, statement: str, values: dict[str, int]) -> list[NoteReport]:
    return [
        NoteReport(
            start=from_microseconds(start),
            end=from_microseconds(end),
            state=data.EffortState(state),
            detail=detail,
        )
        for start, end, state, detail in connection.execute(statement, values)
    ]


class Reporter:
    """Makes reports of what has changed in a store.

    Parameters
    ----------
    path
        The metadata store.
    program
        By which the hub is to analyse what was left to it; None: nothing is.
    leaves_all
        Whether the hub is to analyse every recording, also those that were analysed here.

    Raises
    ------
    MetadataStoreError
        From every method, as `SqliteStore`.
    """

    def __init__(
        self, path: Path, program: ProgramReport | None = None, *, leaves_all: bool = False
    ) -> None:
        self._program, self._leaves_all = program, leaves_all
        self._store = SqliteStore(path)
        self._reader = _PooledReader(path)

    def close(self) -> None:
        """Close the files; the next use opens them again."""
        self._store.close()
        self._reader.close()

    def report(self, changes: Sequence[Change], stamp: datetime.datetime) -> Report:
        """Return what changed as it is now, with the deployments that it belongs to.

        Parameters
        ----------
        stamp
            Of recordings: when this was all that was known of them.
        """
        parts: dict[int, _Parts] = defaultdict(_Parts)
        recordings: list[RecordingRow] = []
        with self._reader.reading() as connection:
            for one in changes:
                self._take(connection, one, parts, recordings)
            for row in recordings:
                values = {"id": row.id.bytes}
                parts[connection.execute(_DEPLOYMENT_OF_RECORDING, values).fetchone()[0]]
            deployments = [parts[row].report(connection, row) for row in sorted(parts)]
        reports = [
            self._left(one) for one in _recordings(self._reader, self._store, recordings, stamp)
        ]
        is_any_left = any(one.analyse is not None for one in reports)
        programs = [self._program] if self._program is not None and is_any_left else []
        return Report(programs=programs, deployments=deployments, recordings=reports)

    def _left(self, report: RecordingReport) -> RecordingReport:
        """Add the settings for analysis to a recording that is left to the hub."""
        is_left = self._leaves_all or any(
            one.state is data.AnalysisState.HUB for one in report.analyses
        )
        if self._program is None or not is_left:
            return report
        return report.model_copy(update={"analyse": self._program.digest})

    def _take(
        self,
        connection: sqlite3.Connection,
        change: Change,
        parts: dict[int, "_Parts"],
        recordings: list[RecordingRow],
    ) -> None:
        values = {"row": change.row}
        if change.kind == "recording":
            (id_,) = connection.execute(_ID_OF_RECORDING, values).fetchone()
            if (found := self._reader.recording(as_id(id_))) is not None:
                recordings.append(found)
        elif change.kind == "verdict":
            verdict = verdict_of(connection.execute(_VERDICT, values).fetchone())
            of = {"id": verdict.recording_id.bytes}
            if (row := connection.execute(_DEPLOYMENT_OF_RECORDING, of).fetchone()) is not None:
                parts[row[0]].verdicts.append(verdict)
        elif change.kind == "notes":
            parts[change.row].hours.append(change.hour)
        else:
            parts[change.row].has_changed = True


class _PooledReader(SqliteReader):
    """Keeps its connections: the worker that reports keeps the store anyway."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path, sql.SCHEMA)


@dataclass
class _Parts:
    """What is reported of a deployment."""

    has_changed: bool = False
    hours: list[int] = field(default_factory=list)
    verdicts: list[VerdictRow] = field(default_factory=list)

    def report(self, connection: sqlite3.Connection, row: int) -> DeploymentReport:
        found = connection.execute(sql.DEPLOYMENT_OF_ROW, {"row": row}).fetchone()
        deployment = deployment_of(found)
        spans = [
            {"row": row, "since": hour * HOUR, "until": (hour + 1) * HOUR} for hour in self.hours
        ]
        return DeploymentReport(
            deployment=deployment,
            notes=[one for span in spans for one in _notes(connection, _NOTES_OF_HOUR, span)],
            whole_hours=[from_microseconds(span["since"]) for span in spans],
            plans=plans_of(connection, deployment) if self.has_changed else (),
            verdicts=self.verdicts,
        )


def _recordings(
    reader: SqliteReader,
    store: SqliteStore,
    rows: Sequence[RecordingRow],
    stamp: datetime.datetime,
) -> list[RecordingReport]:
    known = {one.id: (one, outputs) for one, outputs in store.get_recordings([r.id for r in rows])}
    return [
        RecordingReport(
            id=row.id,
            deployment=row.deployment.id,
            reported_on=stamp,
            created_on=row.started_on,
            duration_s=row.duration_s,
            samplerate_hz=row.samplerate_hz,
            audio_channels=row.audio_channels,
            time_expansion=row.time_expansion,
            name=None if row.path is None else row.path.name,
            state=row.state,
            capture=known[row.id][0].capture,
            analyses=reader.analyses(row.id),
            outputs=[OutputReport.of(one) for one in known[row.id][1]],
            clips=[
                ClipReport(
                    id=clip.id,
                    name=clip.path.name,
                    start_s=clip.start_s,
                    duration_s=clip.duration_s,
                    missing_before_s=clip.missing_before_s,
                    missing_after_s=clip.missing_after_s,
                )
                for clip in row.clips
            ],
            given_up=_given_up(reader, row.id),
            is_sampled=_is_sampled(reader, row.id),
            analysed_fraction=row.analysed_fraction,
        )
        for row in rows
        if row.id in known
    ]


def _is_sampled(reader: SqliteReader, recording: UUID) -> bool:
    with reader.reading() as connection:
        found = connection.execute(_IS_SAMPLED, {"id": recording.bytes}).fetchone()
        return found is not None


def _given_up(reader: SqliteReader, recording: UUID) -> list[GivenUpReport]:
    with reader.reading() as connection:
        return [
            GivenUpReport(
                kind=kind, reason=reason, duration_s=seconds, bytes=size, on=from_microseconds(on)
            )
            for kind, reason, seconds, size, on in connection.execute(
                _GIVEN_UP, {"id": recording.bytes}
            )
        ]
