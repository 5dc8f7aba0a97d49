"""Storing what sensors report: any number of times, in any order, each thing once."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.data import to_microseconds
from acoupi.errors import HubError
from acoupi.hub.database import Connection, HubDatabase, storable, storable_number, storable_time
from acoupi.hub.fleet_standing import put_settings
from acoupi.hub.jobs import (
    JobResult,
    locked_job,
    order_analysis,
    put_program,
    settle_job,
    show_analyses,
)
from acoupi.hub.messages import MessageRow, put_messages
from acoupi.hub.sensors import locked_row_of, note_contact, note_reported
from acoupi.hub.tokens import Caller
from acoupi.reports import (
    DeploymentReport,
    MessageReport,
    OutputReport,
    ProgramReport,
    RecordingReport,
    Report,
    ReportSequence,
)

__all__ = ["put_report", "take_in", "take_in_result"]

HOUR = 3600 * 10**6
"""Microseconds."""
Row = Sequence[Any]
Recordings = Sequence[tuple[int, RecordingReport]]
"""Recordings, each with its row."""

_PUT_DEPLOYMENT = """
    INSERT INTO deployment
        (id, sensor_row, name, latitude_deg, longitude_deg, started_on_us, ended_on_us)
    VALUES (:id, :sensor, :name, :latitude, :longitude, :started_on, :ended_on)
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name, latitude_deg = excluded.latitude_deg,
        longitude_deg = excluded.longitude_deg, started_on_us = excluded.started_on_us,
        ended_on_us = excluded.ended_on_us
    WHERE deployment.sensor_row = excluded.sensor_row
    RETURNING row
"""

_PUT_NOTE = """
    INSERT INTO effort_note (deployment_row, start_us, state, end_us, detail)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (deployment_row, start_us, state) DO UPDATE SET
        end_us = excluded.end_us, detail = excluded.detail
    WHERE effort_note.end_us <= excluded.end_us
"""

_DELETE_NOTES = """
    DELETE FROM effort_note WHERE deployment_row = %s AND start_us >= %s AND start_us < %s
"""

# Times that no clock could have told rightly: the sensor has corrected them since.
_DELETE_PLANS = """
    DELETE FROM effort_plan p USING deployment w
    WHERE w.row = p.deployment_row AND w.row = %s
        AND (p.since_us > %s OR p.since_us < w.started_on_us)
"""

_PUT_PLAN = """
    INSERT INTO effort_plan (deployment_row, since_us, plan) VALUES (%s, %s, %s)
    ON CONFLICT (deployment_row, since_us) DO UPDATE SET plan = excluded.plan
"""

_PUT_VERDICT = """
    INSERT INTO verdict (recording_id, detection_id, verdict, species, reviewer, note, given_on_us)
    VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING
"""

# The sensor no longer has the file, but the hub does: here it counts as kept.
_ONLY_HERE = """
    excluded.path IS NULL AND recording.path IS NOT NULL
    AND EXISTS (SELECT 1 FROM audio a WHERE a.id = recording.id)
"""

# The rows of recordings that are new, or stored in an older state.
_PUT_RECORDINGS = f"""
    INSERT INTO recording (
        id, deployment_row, path, created_on_us, duration_s, samplerate_hz, audio_channels,
        time_expansion, state, reported_on_us
    )
    SELECT n.id, w.row, n.path, n.created_on_us, n.duration_s, n.samplerate_hz, n.audio_channels,
        n.time_expansion, n.state, n.reported_on_us
    FROM reported n JOIN deployment w ON w.id = n.deployment_id
    ON CONFLICT (id) DO UPDATE SET
        deployment_row = excluded.deployment_row,
        path = CASE WHEN {_ONLY_HERE} THEN recording.path ELSE excluded.path END,
        created_on_us = excluded.created_on_us, duration_s = excluded.duration_s,
        state = CASE WHEN {_ONLY_HERE} THEN 'kept' ELSE excluded.state END,
        reported_on_us = excluded.reported_on_us
    WHERE recording.reported_on_us < excluded.reported_on_us
    RETURNING id, row
"""  # noqa: S608 - constants

_REPORTED = """
    CREATE TEMPORARY TABLE reported (
        id BYTEA, deployment_id BYTEA, path TEXT, created_on_us BIGINT, duration_s FLOAT8,
        samplerate_hz BIGINT, audio_channels BIGINT, time_expansion FLOAT8, state TEXT,
        reported_on_us BIGINT
    ) ON COMMIT DROP
"""

_OF_ANOTHER = """
    SELECT encode(x.id, 'hex') FROM {} JOIN deployment w ON w.row = r.deployment_row
    WHERE x.id = ANY(%s) AND w.sensor_row <> %s LIMIT 1
"""
_OWNED = {
    "recording": "recording x JOIN recording r ON r.row = x.row",
    "clip": """
        clip x JOIN clip_part p ON p.clip_row = x.row JOIN recording r ON r.row = p.recording_row
    """,
    "detection": """
        detection x JOIN model_output o ON o.row = x.output_row
        JOIN recording r ON r.row = o.recording_row
    """,
}
_OUTPUT_OF_ANOTHER = """
    SELECT encode(o.id, 'hex') FROM model_output o
    JOIN unnest(%s::bytea[], %s::bigint[]) AS one (id, recording_row) ON one.id = o.id
    WHERE o.recording_row <> one.recording_row LIMIT 1
"""

_PUT_PROVENANCE = """
    INSERT INTO provenance (model, model_version, weights, configuration, acoupi, image)
    VALUES (:model, :model_version, :weights, :configuration, :acoupi, :image)
    ON CONFLICT (model, model_version, weights, configuration, acoupi, image)
        DO UPDATE SET model = excluded.model
    RETURNING row
"""

# An output that is stored already and was not made again since is not changed.
_PUT_OUTPUT = """
    INSERT INTO model_output (id, recording_row, name_model, created_on_us, provenance_row)
    VALUES (%s, %s, %s, %s, %s)
    ON CONFLICT (id) DO UPDATE SET
        created_on_us = excluded.created_on_us, provenance_row = excluded.provenance_row
    WHERE model_output.created_on_us < excluded.created_on_us
        AND model_output.recording_row = excluded.recording_row
    RETURNING row
"""

_NEW_ROWS = "SELECT nextval('detection_row_seq') FROM generate_series(1, :count)"

_TAGS = "INSERT INTO tag (key, value) VALUES (%s, %s) ON CONFLICT DO NOTHING"


def take_in(
    database: HubDatabase, sensor: str, report: Report, sequence: ReportSequence | None = None
) -> bool:
    """Store what a sensor reports; the same again changes nothing.

    Return whether the hub has all that it acknowledged before: a database that was put back from
    a copy has not.

    Parameters
    ----------
    database
        The hub's.
    sensor
        Its name at the hub.
    report
        What it reports.
    sequence
        Which of its reports that is; None: it does not say.

    Raises
    ------
    HubError
        If the hub has no such sensor, if something belongs to another sensor, or if a
        recording is in a deployment that was not reported. Then nothing is stored.
    """
    with database.writing() as connection:
        put_report(connection, sensor, report)
        return sequence is None or note_reported(connection, sensor, sequence)


def put_report(connection: Connection, sensor: str, report: Report) -> None:
    """Store what a sensor reports in an open transaction; see `take_in`."""
    row = locked_row_of(connection, sensor)
    for deployment in report.deployments:
        _put_deployment(connection, row, sensor, deployment)
    if report.recordings:
        fresh = _put_recordings(connection, row, sensor, report.recordings)
        _order(connection, sensor, report.programs, fresh)
    put_messages(connection, [_message_row(row, one) for one in report.messages])
    if report.settings is not None:
        put_settings(connection, row, report.settings)
    note_contact(connection, row)


def take_in_result(database: HubDatabase, worker: Caller, job: int, result: JobResult) -> None:
    """Store the result of a job, all of it or nothing; the same again changes nothing.

    Raises
    ------
    HubError
        If the job is not for the worker's program, or the result is of another recording.
    """
    with database.writing() as connection:
        found = locked_job(connection, worker, job)
        if found.is_done:
            return
        if any(one.recording_id != found.recording for one in result.analyses):
            raise HubError(
                f"this is not a result of the job {job}.",
                "acoupi hub workers, at the hub",
                why=f"the job is to analyse the recording {found.recording}, not another one.",
            )
        is_late = found.claim != result.claim.bytes
        if is_late and not any(one.state.is_final for one in result.analyses):
            return  # another worker has started again
        _put_outputs(connection, [(found.recording_row, one) for one in result.outputs])
        messages = [_message_row(found.sensor_row, one) for one in result.messages]
        put_messages(connection, messages)
        settle_job(connection, found, result)


def _order(
    connection: Connection, sensor: str, programs: Sequence[ProgramReport], fresh: Recordings
) -> None:
    """Make jobs for the recordings that a sensor leaves to the hub."""
    if not fresh:
        return
    in_order = sorted(programs, key=attrgetter("program", "digest"))  # prevents deadlocks
    known = {one.digest: put_program(connection, one) for one in in_order}
    wanted = defaultdict(list)
    for row, one in fresh:
        if one.analyse is not None:
            wanted[one.analyse].append(row)
    if missing := wanted.keys() - known.keys():
        raise HubError(
            f'the sensor "{sensor}" leaves a recording to a program that is not in its report.',
            "report the program with it",
            why=f"no program came with the settings {min(missing)}.",
        )
    for digest, rows in wanted.items():
        order_analysis(connection, known[digest], rows)
    show_analyses(connection, [row for row, _ in fresh])


def _put_deployment(
    connection: Connection, sensor_row: int, sensor: str, report: DeploymentReport
) -> None:
    one = report.deployment
    values = {
        "id": one.id.bytes,
        "sensor": sensor_row,
        "name": one.name,
        "latitude": one.latitude,
        "longitude": one.longitude,
        "started_on": storable_time(one.started_on),
        "ended_on": one.ended_on and storable_time(one.ended_on),
    }
    found = connection.execute(_PUT_DEPLOYMENT, values).fetchone()
    if found is None:
        raise _foreign("deployment", one.id, sensor)
    (row,) = found
    judged = [v.recording_id for v in report.verdicts]
    _require_own(connection, sensor_row, sensor, "recording", judged)
    heard = [v.detection_id for v in report.verdicts if v.detection_id is not None]
    _require_own(connection, sensor_row, sensor, "detection", heard)
    notes = [
        (row, storable_time(n.start), n.state.value, storable_time(n.end), n.detail)
        for n in report.notes
    ]
    plans = [(row, storable_time(p.since), p.plan.model_dump_json()) for p in report.plans]
    verdicts = [
        (
            v.recording_id.bytes,
            v.detection_id and v.detection_id.bytes,
            v.verdict.value,
            v.species,
            v.reviewer,
            v.note,
            storable_time(v.given_on),
        )
        for v in report.verdicts
    ]
    begins = map(storable_time, report.whole_hours)
    hours = [(row, begin, begin + HOUR) for begin in begins]
    connection.put_many(_DELETE_NOTES, hours)
    connection.put_many(_PUT_NOTE, notes)
    if plans:
        now = to_microseconds(data.utc_now())
        connection.plain.execute(_DELETE_PLANS, [row, now])
    connection.put_many(_PUT_PLAN, plans)
    connection.put_many(_PUT_VERDICT, verdicts)


def _message_row(sensor_row: int, message: MessageReport) -> MessageRow:
    kind, time = message.message_type, storable_time(message.created_on)
    return MessageRow(message.id.bytes, sensor_row, kind and kind.value, time, message.content)


def _copy(connection: Connection, into: str, rows: Iterable[Row]) -> None:
    with connection.plain.cursor() as cursor, cursor.copy(f"COPY {into} FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)


def _put_recordings(
    connection: Connection, sensor_row: int, sensor: str, reports: Sequence[RecordingReport]
) -> Recordings:
    """Store recordings; return those that are new or changed."""
    by_id = {one.id.bytes: one for one in reports}
    clips = [clip.id for one in reports for clip in one.clips]
    _require_own(connection, sensor_row, sensor, "recording", [one.id for one in reports])
    _require_own(connection, sensor_row, sensor, "clip", clips)
    _require_deployments(connection, sensor_row, sensor, reports)
    connection.execute(_REPORTED)
    _copy(connection, "reported", map(_recording_row, by_id.values()))
    put = connection.execute(_PUT_RECORDINGS).fetchall()
    fresh = [(row, by_id[id_]) for id_, row in put]
    connection.execute("DROP TABLE reported")
    _put_details(connection, fresh)
    _put_outputs(connection, [(row, output) for row, one in fresh for output in one.outputs])
    return fresh


def _require_deployments(
    connection: Connection, sensor_row: int, sensor: str, reports: Sequence[RecordingReport]
) -> None:
    wanted = {one.deployment.bytes for one in reports}
    found = connection.plain.execute(
        "SELECT id, sensor_row FROM deployment WHERE id = ANY(%s)", [list(wanted)]
    ).fetchall()
    for id_, owner in found:
        if owner != sensor_row:
            raise _foreign("deployment", UUID(bytes=id_), sensor)
    if missing := wanted - {id_ for id_, _ in found}:
        raise HubError(
            f'the sensor "{sensor}" reports a recording of an unknown deployment.',
            "report the deployment first",
            why=f"the hub has no deployment {UUID(bytes=min(missing))}.",
        )


def _require_own(
    connection: Connection, sensor_row: int, sensor: str, what: str, ids: Sequence[UUID]
) -> None:
    """Refuse what another sensor reported; unknown ids may be reported later."""
    if ids:
        statement = _OF_ANOTHER.format(_OWNED[what])
        values = [[one.bytes for one in ids], sensor_row]
        if found := connection.plain.execute(statement, values).fetchone():
            raise _foreign(what, UUID(found[0]), sensor)


def _foreign(what: str, id_: UUID, sensor: str) -> HubError:
    return HubError(
        f'the sensor "{sensor}" reports something that belongs to another sensor.',
        "acoupi hub sensors",
        why=f"the {what} {id_} was reported by another sensor.",
    )


def _recording_row(one: RecordingReport) -> Row:
    is_clipped = one.state is data.RecordingState.CLIPPED  # in the tables, its clips show this
    return (
        one.id.bytes,
        one.deployment.bytes,
        one.name,
        storable_time(one.created_on),
        storable_number(one.duration_s),
        one.samplerate_hz,
        one.audio_channels,
        one.time_expansion,
        (data.RecordingState.DELETED if is_clipped else one.state).value,
        storable_time(one.reported_on),
    )


# Data about a recording outside its row are replaced as a whole

_DETAILS = ("capture", "capture_clock", "analysis", "sample", "clip_part", "given_up", "sampling")


def _put_details(connection: Connection, recordings: Recordings) -> None:
    for table in _DETAILS:
        column = "row" if table == "sampling" else "recording_row"
        statement = f"DELETE FROM {table} WHERE {column} = ANY(%s)"  # noqa: S608 - constants
        connection.plain.execute(statement, [[row for row, _ in recordings]])
    makers: dict[str, Callable[[RecordingReport, int], Iterable[Row]]] = {
        "capture": _capture_rows,
        "capture_clock": _clock_rows,
        "analysis": _analysis_rows,
        "given_up": _given_up_rows,
        "sampling": _sampling_rows,
        "sample": lambda one, row: [(row,)] if one.is_sampled else [],
    }
    for table, make in makers.items():
        found = [values for row, one in recordings for values in make(one, row)]
        if found:
            _copy(connection, table, found)
    _put_clips(connection, recordings)


def _capture_rows(one: RecordingReport, row: int) -> Iterable[Row]:
    report = one.capture
    if report is None:
        return
    health = report.health
    overruns = [[lost.frame, lost.frames] for lost in report.overruns]
    yield (
        row,
        report.stream_id.bytes,
        report.first_frame,
        report.frames,
        report.samplerate_measured,
        _as_number(report.clock_synchronised),
        report.clock_error_s,
        json.dumps(overruns) if overruns else None,
        report.gap_before_frames,
        report.incomplete and report.incomplete.value,
        report.incomplete_detail or None,
        *(
            (None,) * 7
            if health is None
            else (
                health.rms_dbfs,
                health.peak_dbfs,
                health.clipped_share,
                health.dc_offset,
                _as_number(health.is_silent),
                _as_number(health.is_stuck),
                health.noise_floor_dbfs,
            )
        ),
    )


def _as_number(value: bool | None) -> int | None:
    return None if value is None else int(value)


def _clock_rows(one: RecordingReport, row: int) -> Iterable[Row]:
    clock = one.capture and one.capture.boot_clock
    if one.capture and clock:
        corrected = round(one.capture.clock_corrected_s * 1e6)
        yield (row, clock.boot_id.bytes, round(clock.offset_s * 1e6), corrected)


def _analysis_rows(one: RecordingReport, row: int) -> Iterable[Row]:
    for analysis in one.analyses:
        yield (
            row,
            analysis.name_model,
            analysis.state.value,
            analysis.attempts,
            analysis.error,
            storable_time(analysis.updated_on),
        )


def _sampling_rows(one: RecordingReport, row: int) -> Iterable[Row]:
    if one.analysed_fraction != 1:
        yield (row, 1, one.analysed_fraction)


def _given_up_rows(one: RecordingReport, row: int) -> Iterable[Row]:
    for file in one.given_up:
        on = storable_time(file.on)
        yield (row, file.kind.value, file.reason, file.duration_s, file.bytes, on)


_PUT_CLIP = """
    INSERT INTO clip (id, path, duration_s, missing_before_s, missing_after_s)
    VALUES (%s, %s, %s, %s, %s) ON CONFLICT (id) DO NOTHING
"""

_PUT_PART = """
    INSERT INTO clip_part (recording_row, clip_row, start_s)
    SELECT %s, row, %s FROM clip WHERE id = %s
"""


def _put_clips(connection: Connection, recordings: Recordings) -> None:
    clips = [(row, clip) for row, one in recordings for clip in one.clips]
    connection.put_many(
        _PUT_CLIP,
        [
            (c.id.bytes, c.name, c.duration_s, c.missing_before_s, c.missing_after_s)
            for _, c in clips
        ],
    )
    connection.put_many(_PUT_PART, [(row, clip.start_s, clip.id.bytes) for row, clip in clips])


# Outputs and detections


def _put_outputs(connection: Connection, outputs: Sequence[tuple[int, OutputReport]]) -> None:
    """Store outputs, each with the row of its recording."""
    if not outputs:
        return
    made_by: dict[Any, int | None] = {None: None}
    provenances = {one.provenance for _, one in outputs if one.provenance is not None}
    for provenance in sorted(provenances, key=repr):  # sorted: prevents deadlocks
        (made_by[provenance],) = connection.one(_PUT_PROVENANCE, provenance.model_dump())
    rows = [
        (one.id.bytes, row, one.model, storable_time(one.ran_on), made_by[one.provenance])
        for row, one in outputs
    ]
    fresh: list[tuple[int, OutputReport]] = []
    with connection.plain.cursor() as cursor:
        cursor.executemany(_PUT_OUTPUT, rows, returning=True)
        for _, one in outputs:
            if (found := cursor.fetchone()) is not None:
                fresh.append((found[0], one))
            cursor.nextset()
    ids, recording_rows = [row[0] for row in rows], [row[1] for row in rows]
    if strange := connection.plain.execute(_OUTPUT_OF_ANOTHER, [ids, recording_rows]).fetchone():
        raise HubError(
            "this output was reported for another recording before.",
            "acoupi hub sensors",
            why=f"the output {UUID(strange[0])} cannot belong to both.",
        )
    _put_detections(connection, fresh)


def _put_detections(connection: Connection, outputs: Sequence[tuple[int, OutputReport]]) -> None:
    found = [(row, one) for row, output in outputs for one in output.detections]
    connection.plain.execute(
        "DELETE FROM detection WHERE output_row = ANY(%s)", [[row for row, _ in outputs]]
    )
    if not found:
        return
    numbers = connection.execute(_NEW_ROWS, {"count": len(found)}).fetchall()
    tags = _tag_rows(connection, {tag.tag for _, one in found for tag in one.tags})
    numbered = [(number, *one) for (number,), one in zip(numbers, found, strict=True)]
    columns = "id, output_row, prediction_type, location_type, start_time_s, low_freq_hz"
    _copy(
        connection,
        f"detection (row, {columns}, end_time_s, high_freq_hz, score)",
        (_detection_row(number, output, one) for number, output, one in numbered),
    )
    _copy(
        connection,
        "predicted_tag (detection_row, position, tag_row, confidence)",
        (
            (number, position, tags[tag.tag], tag.confidence_score)
            for number, _, one in numbered
            for position, tag in enumerate(one.tags)
        ),
    )


def _detection_row(number: int, output: int, one: data.Detection) -> Row:
    box = one.location
    sides = (None,) * 5 if box is None else (box.type, *map(storable_number, box.coordinates))
    return (number, one.id.bytes, output, one.prediction_type.value, *sides, one.detection_score)


def _tag_rows(connection: Connection, tags: set[data.Tag]) -> Mapping[data.Tag, int]:
    stored = {tag: (storable(tag.key), storable(tag.value)) for tag in tags}
    known = _known_tags(connection)
    if missing := set(stored.values()) - known.keys():
        connection.put_many(_TAGS, sorted(missing))  # sorted: prevents deadlocks
        known = _known_tags(connection)
    return {tag: known[names] for tag, names in stored.items()}


def _known_tags(connection: Connection) -> Mapping[tuple[str, str], int]:
    found = connection.plain.execute("SELECT row, key, value FROM tag").fetchall()
    return {(key, value): row for row, key, value in found}
