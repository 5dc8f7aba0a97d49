"""Rows and statements of captures, and of what kept the recorder from recording."""

import datetime
import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.clocks import PUT_NOTE, ClockTables, put_clock, report_with_clock
from acoupi.components.stores.database import Database
from acoupi.components.stores.rows import deployment_of, deployment_values, load_recordings
from acoupi.components.stores.values import as_id, from_microseconds, to_microseconds
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import Captured, CapturePlan, EffortHistory, PlanFrom, plan_throughout

__all__ = ["EffortTables", "alive_until", "capture_of_row", "history_of", "plans_of", "put_capture"]

Row = Sequence[Any]

_QUARTER = 900 * 1_000_000
"""Microseconds. Every hour of every time zone begins with one of these."""
_ROUNDING = 1000
"""Microseconds by which a recording of a run may differ from its slot."""
_LONGEST_RECORDING = 3600 * 1_000_000
"""Microseconds; a recording that began this long before a period may reach into it."""
_DAWN_REFUSED = "DawnTimeInterval did not hold"
"""Earlier versions noted time off dawn as a refused condition; it was never planned."""
_LONG_AGO = datetime.datetime(1971, 1, 1, tzinfo=datetime.UTC)
_FAR_AWAY = datetime.datetime(9999, 1, 1, tzinfo=datetime.UTC)

_LEVELS = ("rms_dbfs", "peak_dbfs", "clipped_share", "dc_offset")
_HEALTH = (*_LEVELS, "is_silent", "is_stuck", "noise_floor_dbfs")

PUT_CAPTURE = """
    INSERT OR REPLACE INTO capture (
        recording_row, stream_id, first_frame, frames, samplerate_measured_hz,
        clock_synchronised, clock_error_s, overruns, gap_before_frames,
        incomplete, incomplete_detail,
        rms_dbfs, peak_dbfs, clipped_share, dc_offset, is_silent, is_stuck, noise_floor_dbfs
    )
    VALUES (
        (SELECT row FROM recording WHERE id = :recording),
        :stream_id, :first_frame, :frames, :samplerate_measured,
        :clock_synchronised, :clock_error_s, :overruns, :gap_before_frames,
        :incomplete, :incomplete_detail,
        :rms_dbfs, :peak_dbfs, :clipped_share, :dc_offset, :is_silent, :is_stuck, :noise_floor_dbfs
    )
"""

CAPTURE = """
    SELECT stream_id, first_frame, frames, samplerate_measured_hz, clock_synchronised,
        clock_error_s, overruns, gap_before_frames, incomplete, incomplete_detail,
        rms_dbfs, peak_dbfs, clipped_share, dc_offset, is_silent, is_stuck, noise_floor_dbfs
    FROM capture
    WHERE recording_row = :row
"""

# The notes of a part of a deployment since the recording before it, and the next note after it;
# also what reaches into it from another deployment, beyond the end or the start of that one.
# The deployments are few; of the notes of another one only those at its border are read.
NOTES = """
    SELECT start_us, end_us, state, detail FROM effort_note
    WHERE deployment_row = :deployment_row
        AND end_us >= coalesce((
            SELECT max(created_on_us) FROM recording
            WHERE deployment_row = :deployment_row AND created_on_us < :start
        ), 0)
        AND start_us <= coalesce((
            SELECT min(start_us) FROM effort_note
            WHERE deployment_row = :deployment_row AND start_us > :end
        ), :end)
    UNION ALL
    SELECT n.start_us, n.end_us, n.state, n.detail
    FROM deployment own CROSS JOIN deployment d CROSS JOIN effort_note n
    WHERE own.row = :deployment_row AND d.row <> own.row AND n.deployment_row = d.row
        AND n.end_us > d.ended_on_us
        AND n.end_us >= :start AND n.end_us >= own.started_on_us
        AND n.start_us <= :end AND n.start_us <= coalesce(own.ended_on_us, :end)
        AND n.start_us >= coalesce((
            SELECT max(start_us) FROM effort_note
            WHERE deployment_row = d.row AND start_us <= d.ended_on_us
        ), 0)
    UNION ALL
    SELECT n.start_us, n.end_us, n.state, n.detail
    FROM deployment own CROSS JOIN deployment d CROSS JOIN effort_note n
    WHERE own.row = :deployment_row AND d.row <> own.row AND n.deployment_row = d.row
        AND n.start_us < d.started_on_us
        AND n.end_us >= :start AND n.end_us >= own.started_on_us
        AND n.start_us <= :end AND n.start_us <= coalesce(own.ended_on_us, :end)
    ORDER BY start_us, state
"""

PUT_PLAN = """
    INSERT OR REPLACE INTO effort_plan (deployment_row, since_us, plan)
    VALUES (:deployment_row, :since, :plan)
"""

PLANS = """
    SELECT since_us, plan FROM effort_plan
    WHERE deployment_row = :deployment_row
    ORDER BY since_us
"""

ALIVE_UNTIL = """
    SELECT max(
        coalesce((
            SELECT created_on_us + CAST(duration_s * 1e6 AS BIGINT) FROM recording r
            WHERE deployment_row = :deployment_row AND NOT EXISTS (
                SELECT 1 FROM capture_clock k
                WHERE k.recording_row = r.row AND k.boot_id = :without AND NOT k.is_trusted
            )
            ORDER BY created_on_us DESC LIMIT 1
        ), -1),
        coalesce((
            SELECT max(end_us) FROM effort_note
            WHERE deployment_row = :deployment_row AND state <> 'clock_unknown'
                AND (:without IS NULL OR boot_id IS NOT :without)
        ), -1)
    )
"""

ALIVE_IN_BOOT = """
    SELECT max(until) FROM (
        SELECT max(r.created_on_us + CAST(r.duration_s * 1e6 AS BIGINT) - k.offset_us) AS until
        FROM capture_clock k JOIN recording r ON r.row = k.recording_row
        WHERE k.boot_id = :boot_id AND r.deployment_row = :deployment_row
            AND NOT (:before_set AND k.is_trusted)
        UNION ALL
        SELECT max(end_us - offset_us) FROM effort_note
        WHERE boot_id = :boot_id AND deployment_row = :deployment_row
            AND state <> 'clock_unknown'
    )
"""

_UNTIL = "(r.created_on_us + CAST(round(r.duration_s * 1e6) AS BIGINT))"

# ruff: noqa: S608 - every piece is a constant of this file; values are bound
_CAPTURED = f"""
    SELECT r.created_on_us,
        {_UNTIL},
        r.samplerate_hz, c.stream_id, c.first_frame, c.frames, c.gap_before_frames,
        c.overruns, c.incomplete, c.incomplete_detail,
        CASE WHEN k.corrected_us <> 0 THEN 1 ELSE c.clock_synchronised END, c.clock_error_s,
        CASE
            WHEN r.state = 'lost' AND NOT EXISTS (
                SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state = 'done'
            ) THEN 0.0
            WHEN s.made > 0 THEN s.analysed * 1.0 / s.made
            ELSE 1.0
        END
    FROM recording r
        LEFT JOIN sampling s ON s.row = r.sampling_row
        LEFT JOIN capture c ON c.recording_row = r.row
        LEFT JOIN capture_clock k ON k.recording_row = r.row
"""

# The recordings of a part of a deployment, and the nearest on either side; also what
# reaches into it from another deployment, beyond the start or the end of that one.
CAPTURED = (
    _CAPTURED
    + """
    WHERE r.deployment_row = :deployment_row
        AND r.created_on_us >= coalesce((
            SELECT max(created_on_us) FROM recording
            WHERE deployment_row = :deployment_row AND created_on_us < :start
        ), :start)
        AND r.created_on_us <= coalesce((
            SELECT min(created_on_us) FROM recording
            WHERE deployment_row = :deployment_row AND created_on_us > :end
        ), :end)
    UNION ALL
"""
    + _CAPTURED
    + f"""
        JOIN deployment d ON d.row = r.deployment_row
        JOIN deployment own ON own.row = :deployment_row
    WHERE d.row <> own.row
        AND r.created_on_us BETWEEN :start AND :end
        AND {_UNTIL} > own.started_on_us
        AND r.created_on_us < coalesce(own.ended_on_us, :end)
        AND ({_UNTIL} > d.ended_on_us OR r.created_on_us < d.started_on_us)
    ORDER BY 1
"""
)


class EffortTables(ClockTables):
    """The part of `SqliteStore` that holds the effort ledger."""

    _database: Database

    def note_effort(self, deployment: data.Deployment, notes: Sequence[data.EffortSpan]) -> None:
        """Note what kept the recorder from recording; stores the deployment if it is new."""
        with self._database.writing() as connection:
            _put_notes(connection, deployment, notes)

    def note_plan(
        self, deployment: data.Deployment, plan: CapturePlan, since: datetime.datetime
    ) -> None:
        """Note when a program plans to record; repeating the same plan changes nothing."""
        with self._database.writing() as connection:
            _put_plan(connection, deployment, PlanFrom(since, plan))

    def get_alive_until(
        self, deployment: data.Deployment, without: UUID | None = None
    ) -> datetime.datetime | None:
        """Return the end of the last recording or note; None if there is none."""
        with self._database.reading() as connection:
            last = alive_until(connection, deployment, without)
        return None if last is None else from_microseconds(last)

    def get_alive_in_boot(
        self, deployment: data.Deployment, boot_id: UUID, *, before_set: bool = False
    ) -> float | None:
        """Return the end of the last recording or note of a boot, on its monotonic clock."""
        with self._database.reading() as connection:
            values = {
                "deployment_row": _deployment_row(connection, deployment),
                "boot_id": boot_id.bytes,
                "before_set": before_set,
            }
            (found,) = connection.execute(ALIVE_IN_BOOT, values).fetchone()
        return None if found is None else found / 1e6

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it; None if it is not stored."""
        with self._database.reading() as connection:
            return history_of(connection, deployment, since, until)

    def get_grouped_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime,
        until: datetime.datetime,
        within: tuple[datetime.datetime, datetime.datetime],
    ) -> EffortHistory | None:
        """Return the same as `get_effort`, with runs of recordings as one.

        A season has millions of recordings, nearly all of them complete and in their slots.
        """
        with self._database.reading() as connection:
            return history_of(connection, deployment, since, until, within)

    def get_last_recording(
        self, deployment: data.Deployment | None = None
    ) -> data.Recording | None:
        """Return the last recording (of a deployment) with its capture report."""
        statement, values = sql.LAST_RECORDING, {}
        if deployment is not None:
            statement, values = sql.LAST_RECORDING_OF, {"deployment": deployment.id.bytes}
        with self._database.reading() as connection:
            for row, recording in load_recordings(connection, statement, values).items():
                recording.capture = capture_of_row(connection, row)
                return recording
        return None

    def _report(self, connection: sqlite3.Connection, row: int) -> data.CaptureReport | None:
        return capture_of_row(connection, row)


def _deployment_row(
    connection: sqlite3.Connection, deployment: data.Deployment, *, add: bool = False
) -> int | None:
    """Return the row of a deployment; None if it is not stored (or, with `add`, store it)."""
    values = deployment_values(deployment)
    if add:
        connection.execute(sql.ADD_DEPLOYMENT, values)
    found = connection.execute(sql.ROW_OF_DEPLOYMENT, values).fetchone()
    return None if found is None else int(found[0])


def put_capture(connection: sqlite3.Connection, recording: data.Recording) -> None:
    """Store how a recording was captured, if that is known."""
    report = recording.capture
    if report is None:
        return
    health = dict.fromkeys(_HEALTH) if report.health is None else report.health.model_dump()
    values = {
        "recording": recording.id.bytes,
        "stream_id": report.stream_id.bytes,
        "first_frame": report.first_frame,
        "frames": report.frames,
        "samplerate_measured": report.samplerate_measured,
        "clock_synchronised": report.clock_synchronised,
        "clock_error_s": report.clock_error_s,
        "overruns": _overruns_text(report.overruns),
        "gap_before_frames": report.gap_before_frames,
        "incomplete": report.incomplete and report.incomplete.value,
        "incomplete_detail": report.incomplete_detail or None,
    }
    connection.execute(PUT_CAPTURE, {**values, **health})
    put_clock(connection, recording)


def capture_of_row(connection: sqlite3.Connection, row: int) -> data.CaptureReport | None:
    """Return how the recording of a row was captured; None if that is not known."""
    found = connection.execute(CAPTURE, {"row": row}).fetchone()
    if found is None:
        return None
    stream_id, first, frames, measured, is_set, error, overruns, gap, *rest = found
    incomplete, detail, *health = rest
    report = data.CaptureReport(
        stream_id=as_id(stream_id),
        first_frame=first,
        frames=frames,
        samplerate_measured=measured,
        clock_synchronised=_as_bool(is_set),
        clock_error_s=error,
        overruns=list(_overruns(overruns)),
        gap_before_frames=gap,
        incomplete=incomplete,
        incomplete_detail=detail or "",
        health=None
        if health[0] is None
        else data.MicrophoneHealth.model_validate(dict(zip(_HEALTH, health, strict=True))),
    )
    return report_with_clock(connection, row, report)


def _put_notes(
    connection: sqlite3.Connection, deployment: data.Deployment, notes: Sequence[EffortSpan]
) -> None:
    """Write notes; one with the same start and state is replaced."""
    row = _deployment_row(connection, deployment, add=True)
    values = [
        {
            "deployment_row": row,
            "start": to_microseconds(note.start),
            "end": to_microseconds(note.end),
            "state": note.state.value,
            "detail": note.detail,
            "boot_id": note.clock and note.clock.boot_id.bytes,
            "offset": note.clock and round(note.clock.offset_s * 1e6),
        }
        for note in notes
    ]
    connection.executemany(PUT_NOTE, values)


def _put_plan(connection: sqlite3.Connection, deployment: data.Deployment, since: PlanFrom) -> None:
    """Write a plan, unless it is already the current one."""
    row = _deployment_row(connection, deployment, add=True)
    known = _plans(connection, row)
    if not known or known[-1].plan != since.plan:
        values = {
            "deployment_row": row,
            "since": to_microseconds(since.since),
            "plan": since.plan.model_dump_json(),
        }
        connection.execute(PUT_PLAN, values)


def alive_until(
    connection: sqlite3.Connection, deployment: data.Deployment, without: UUID | None = None
) -> int | None:
    """Return the end of the last recording or note, microseconds; None if there is none."""
    row = _deployment_row(connection, deployment)
    values = {"deployment_row": row, "without": without and without.bytes}
    (found,) = connection.execute(ALIVE_UNTIL, values).fetchone()
    return None if found < 0 else int(found)


def history_of(
    connection: Any,
    deployment: data.Deployment,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    within: tuple[datetime.datetime, datetime.datetime] | None = None,
) -> EffortHistory | None:
    """Return the facts about a deployment, or a part of it; None if it is not stored.

    Runs of recordings `within` some time come as one.
    """
    start, end = to_microseconds(since or _LONG_AGO), to_microseconds(until or _FAR_AWAY)
    grouped = within and (to_microseconds(within[0]), to_microseconds(within[1]))
    return _load_history(connection, deployment, start, end, grouped)


def _load_history(
    connection: sqlite3.Connection,
    deployment: data.Deployment,
    start: int,
    end: int,
    within: tuple[int, int] | None = None,
) -> EffortHistory | None:
    """Return the facts about a deployment from `start` to `end`; None if it is not stored.

    Runs of recordings within some time are grouped.
    """
    row = _deployment_row(connection, deployment)
    if row is None:
        return None
    values = {"deployment_row": row, "start": start - _LONGEST_RECORDING, "end": end}
    stored = connection.execute(sql.DEPLOYMENT_OF_ROW, {"row": row}).fetchone()
    plans = _plans(connection, row)
    plan = None if within is None else plan_throughout(plans, *within)
    rows = connection.execute(CAPTURED, values)
    return EffortHistory(
        deployment=deployment_of(stored),
        captured=[_captured(columns) for columns in rows]
        if plan is None or within is None
        else list(_grouped(rows, plan, within)),
        notes=[_note(columns) for columns in connection.execute(NOTES, values)],
        plans=plans,
    )


def _grouped(rows: Iterable[Row], plan: CapturePlan, within: tuple[int, int]) -> Iterator[Captured]:
    """Yield recordings; those that followed each other as planned come as one.

    A season has millions of rows, so this looks at each of them only once.
    """
    low, high = within
    run: list[Any] = []  # the row of its first recording, and its end so far
    length = count = start_of_last = run_until = pauses = 0
    every = round(max(plan.duration, plan.interval) * 1e6)
    planned, is_continuous = round(plan.duration * 1e6), plan.is_continuous
    for row in rows:
        start, end, rate, stream, first, frames, gap, overruns, *rest = row
        incomplete, _, is_set, _, fraction = rest
        is_plain = not gap and overruns is None and incomplete is None and stream is not None
        if (
            is_plain
            and end <= run_until
            and end - start == length
            and -_ROUNDING <= start - start_of_last - every <= _ROUNDING
            and (first == run[4] + run[5] if is_continuous else start >= run[1])
            and (stream, rate, is_set, fraction) == (run[3], run[2], run[10], run[12])
        ):
            pauses += 0 if is_continuous else start - run[1]
            run[1], run[5], start_of_last = end, first + frames - run[4], start
            count += 1
            continue
        if run:
            yield replace(_captured(run), count=count, pauses=pauses)
        run, length, count, pauses, start_of_last = list(row), end - start, 1, 0, start
        fits = is_plain and low <= start and abs(length - planned) <= _ROUNDING
        run_until = min((start // _QUARTER + 1) * _QUARTER, high) if fits else 0
    if run:
        yield replace(_captured(run), count=count, pauses=pauses)


def plans_of(connection: sqlite3.Connection, deployment: data.Deployment) -> list[PlanFrom]:
    """Return the plans of a deployment, oldest first."""
    return _plans(connection, _deployment_row(connection, deployment))


def _plans(connection: sqlite3.Connection, row: int | None) -> list[PlanFrom]:
    return [
        PlanFrom(from_microseconds(since), CapturePlan.model_validate_json(plan))
        for since, plan in connection.execute(PLANS, {"deployment_row": row})
    ]


def _note(columns: Row) -> EffortSpan:
    start, end, stored, detail = columns
    state = EffortState(stored)
    if state is EffortState.CONDITION_REFUSED and detail == _DAWN_REFUSED:
        state = EffortState.OFF_SCHEDULE
    return EffortSpan(from_microseconds(start), from_microseconds(end), state, detail)


def _captured(columns: Row) -> Captured:
    start, end, samplerate, stream, first, frames, gap, overruns, *rest = columns
    incomplete, detail, is_set, clock_error, fraction = rest
    if stream is None:
        return Captured(start, end, samplerate, analysed_fraction=fraction)
    return Captured(
        start,
        end,
        samplerate,
        as_id(stream),
        first,
        frames,
        gap,
        _overruns(overruns),
        None if incomplete is None else data.IncompleteReason(incomplete),
        detail or (incomplete and incomplete.replace("_", " ")),
        _as_bool(is_set),
        clock_error,
        analysed_fraction=fraction,
    )


def _overruns_text(overruns: Sequence[data.Overrun]) -> str | None:
    return json.dumps([[lost.frame, lost.frames] for lost in overruns]) if overruns else None


def _overruns(text: str | None) -> tuple[data.Overrun, ...]:
    return () if text is None else tuple(data.Overrun(*lost) for lost in json.loads(text))


def _as_bool(value: int | None) -> bool | None:
    return None if value is None else bool(value)
