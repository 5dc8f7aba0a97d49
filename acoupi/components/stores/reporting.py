"""What a sensor's store holds, as reports for a hub."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.database import stores_that_only_read
from acoupi.components.stores.effort_tables import plans_of
from acoupi.components.stores.reader import SqliteReader
from acoupi.components.stores.sqlite import SqliteStore
from acoupi.components.stores.values import from_microseconds
from acoupi.heard import Filters, RecordingRow
from acoupi.reports import (
    ClipReport,
    DeploymentReport,
    GivenUpReport,
    NoteReport,
    OutputReport,
    RecordingReport,
    Report,
)

__all__ = ["reports_of"]

RECORDINGS_IN_A_REPORT = 200

_GIVEN_UP = """
    SELECT class, reason, duration_s, bytes, given_up_on_us FROM given_up
    WHERE recording_row = (SELECT row FROM recording WHERE id = :id) ORDER BY row
"""

_NOTES = """
    SELECT start_us, end_us, state, detail FROM effort_note
    WHERE deployment_row = :row ORDER BY start_us, state
"""


def reports_of(path: Path) -> Iterator[Report]:
    """Yield all that a store holds: deployments first, then some hundred recordings at a time.

    Nothing is changed, and the sensor may be running: what it records meanwhile comes too.

    Raises
    ------
    MetadataStoreError
        If it cannot be read.
    """
    with stores_that_only_read():
        store = SqliteStore(path)
    with SqliteReader(path) as reader:
        for deployment in reader.get_deployments():
            yield Report(deployments=[_deployment(reader, deployment)])
        last: UUID | None = None
        while rows := list(reader.recordings(Filters(), after=last, limit=RECORDINGS_IN_A_REPORT)):
            yield Report(recordings=_recordings(reader, store, rows))
            last = rows[-1].id
    store.close()


def _deployment(reader: SqliteReader, deployment: data.Deployment) -> DeploymentReport:
    with reader.reading() as connection:
        row = connection.execute(sql.ROW_OF_DEPLOYMENT, {"id": deployment.id.bytes}).fetchone()[0]
        plans = plans_of(connection, deployment)
        notes = [
            NoteReport(
                start=from_microseconds(start),
                end=from_microseconds(end),
                state=data.EffortState(state),
                detail=detail,
            )
            for start, end, state, detail in connection.execute(_NOTES, {"row": row})
        ]
    verdicts = list(reader.verdicts(Filters(deployments=frozenset({deployment.id}))))
    return DeploymentReport(deployment=deployment, notes=notes, plans=plans, verdicts=verdicts)


def _recordings(
    reader: SqliteReader, store: SqliteStore, rows: Sequence[RecordingRow]
) -> list[RecordingReport]:
    now = data.utc_now()
    sampled = Filters(since=rows[0].started_on, are_sampled=True)
    ids = {one.id for one in reader.recordings(sampled, limit=len(rows))}
    known = {one.id: (one, outputs) for one, outputs in store.get_recordings([r.id for r in rows])}
    return [
        RecordingReport(
            id=row.id,
            deployment=row.deployment.id,
            reported_on=now,
            created_on=row.started_on,
            duration_s=row.duration_s,
            samplerate_hz=row.samplerate_hz,
            audio_channels=row.audio_channels,
            time_expansion=row.time_expansion,
            name=None if row.path is None else row.path.name,
            state=row.state,
            capture=known[row.id][0].capture,
            analyses=reader.analyses(row.id),
            outputs=[
                OutputReport(
                    id=one.id,
                    model=one.name_model,
                    ran_on=one.created_on,
                    provenance=one.provenance,
                    detections=one.detections,
                )
                for one in known[row.id][1]
            ],
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
            is_sampled=row.id in ids,
            analysed_fraction=row.analysed_fraction,
        )
        for row in rows
        if row.id in known
    ]


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
