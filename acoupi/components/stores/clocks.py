"""Correction of times that were recorded with a wrong clock, once it is set.

A machine without a battery-backed clock starts in the past, and its clock is set
when it finds the network. All times stored until then are wrong by the same
amount: the monotonic clock has run since the boot, so the difference of the two
offsets (UTC minus monotonic) is the error. One transaction corrects recordings,
notes and, if they began in that time, the deployment and its plans. Each stores the offset of its
time, so that a second run finds nothing to do.
"""

import sqlite3
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from acoupi import data
from acoupi.components import types
from acoupi.components.stores import sql
from acoupi.components.stores.clip_rows import beginning_in
from acoupi.components.stores.database import Database
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.values import as_id
from acoupi.data import NO_POWER, SET_BACK, EffortState

__all__ = ["PUT_NOTE", "ClockTables", "put_clock", "report_with_clock"]

_LEAST_US = 50_000
_CRYSTAL = 100e-6
"""Drift of a clock that nothing sets; a difference within it is not a step."""
_STEP_NOISE_US = 1_500_000

PUT_CLOCK = """
    INSERT OR REPLACE INTO capture_clock
        (recording_row, boot_id, offset_us, corrected_us, is_trusted)
    VALUES (
        (SELECT row FROM recording WHERE id = :recording),
        :boot_id, :offset, :corrected, :is_trusted
    )
"""

CLOCK = "SELECT boot_id, offset_us, corrected_us FROM capture_clock WHERE recording_row = :row"

DOUBTED = """
    SELECT r.row, r.deployment_row, r.created_on_us, k.offset_us
    FROM capture_clock k JOIN recording r ON r.row = k.recording_row
    WHERE k.boot_id = :boot_id AND k.offset_us <> :offset AND NOT k.is_trusted
    ORDER BY r.created_on_us
"""

# Only the latest recordings; there is no index of those with a reliable time.
RIGHT_CLOCK = """
    SELECT k.offset_us, r.created_on_us
    FROM capture_clock k JOIN recording r ON r.row = k.recording_row
    WHERE k.boot_id = :boot_id AND k.is_trusted
        AND k.recording_row > (SELECT max(recording_row) FROM capture_clock) - :most
    ORDER BY k.recording_row DESC LIMIT 1
"""
_LOOKED_AT = 5000

MOVE_RECORDING = "UPDATE recording SET created_on_us = created_on_us + :by WHERE row = :row"

MOVE_CLOCK = """
    UPDATE capture_clock SET
        offset_us = :offset, corrected_us = corrected_us + :by, is_in_file = 0
    WHERE recording_row = :row
"""

SET_ERROR = "UPDATE capture SET clock_error_s = :error WHERE recording_row = :row"

NOTES = """
    SELECT deployment_row, start_us, state, end_us, detail, offset_us FROM effort_note
    WHERE boot_id = :boot_id AND offset_us <> :offset
"""

DELETE_NOTE = """
    DELETE FROM effort_note
    WHERE deployment_row = :deployment_row AND start_us = :start AND state = :state
"""

PUT_NOTE = """
    INSERT INTO effort_note
        (deployment_row, start_us, state, end_us, detail, boot_id, offset_us)
    VALUES (:deployment_row, :start, :state, :end, :detail, :boot_id, :offset)
    ON CONFLICT (deployment_row, start_us, state) DO UPDATE SET
        end_us = excluded.end_us,
        detail = excluded.detail,
        boot_id = excluded.boot_id,
        offset_us = excluded.offset_us
"""

# Of two notes that turn out to begin together the longer one stays.
PUT_LONGER_NOTE = PUT_NOTE + "WHERE excluded.end_us > end_us"

# Gaps and overlaps that steps left in the ledger, but for those between times that stay.
STEPS = """
    FROM effort_note
    WHERE boot_id = :boot_id AND state = 'clock_unknown' AND detail <> :set_back
        AND NOT EXISTS (
            SELECT 1 FROM capture_clock k
            WHERE k.boot_id = :boot_id AND k.is_trusted
                AND abs(abs(k.offset_us - :offset) - (end_us - start_us)) < :noise
        )
"""
HAS_STEPS = "SELECT EXISTS (SELECT 1" + STEPS + ")"
DELETE_STEPS = "DELETE" + STEPS

# For a deployment that only ever had the wrong clock of this boot.
MOVE_DEPLOYMENT = """
    UPDATE deployment SET started_on_us = started_on_us + :by
    WHERE row = :deployment_row AND started_on_us BETWEEN :boot AND :first
        AND NOT EXISTS (
            SELECT 1 FROM recording r LEFT JOIN capture_clock k ON k.recording_row = r.row
            WHERE r.deployment_row = :deployment_row
                AND (k.boot_id IS NULL OR k.boot_id <> :boot_id OR k.corrected_us <> 0)
                AND r.created_on_us < :first
        )
        AND NOT EXISTS (
            SELECT 1 FROM recording r JOIN capture_clock k ON k.recording_row = r.row
            WHERE r.deployment_row = :deployment_row
                AND k.boot_id = :boot_id AND k.is_trusted
                AND r.created_on_us - k.offset_us < :first - :boot
        )
        AND NOT EXISTS (
            SELECT 1 FROM effort_note
            WHERE deployment_row = :deployment_row AND boot_id IS NOT :boot_id
                AND start_us >= started_on_us AND start_us < :first
        )
"""

# Where its time cannot be right, after now or before the deployment, the wrong clock told it.
MOVE_PLANS = """
    UPDATE OR REPLACE effort_plan SET since_us = since_us + :by
    WHERE deployment_row = :row AND since_us BETWEEN :boot AND :told AND (
        since_us > :now
        OR since_us < (SELECT started_on_us FROM deployment WHERE row = :row)
    )
"""

NOT_IN_FILE = """
    SELECT recording_row FROM capture_clock WHERE NOT is_in_file
    ORDER BY recording_row LIMIT :limit
"""

IN_FILE = """
    UPDATE capture_clock SET is_in_file = 1
    WHERE recording_row = (SELECT row FROM recording WHERE id = :recording)
"""


class ClockTables(types.Store):
    """The part of `SqliteStore` that corrects times."""

    _database: Database

    def correct_times(
        self, clock: data.BootClock, now: float, error_s: float | None = None
    ) -> tuple[int, float]:
        """Correct the times stored in this boot before the clock was set.

        Parameters
        ----------
        clock
            The current clock, which can be trusted.
        now
            Time of the monotonic clock. A difference that the drift of a
            crystal explains (100 ppm) is left alone.
        error_s
            How far the clock may be off now; None: not known.

        Returns
        -------
        int
            Number of recordings whose time was changed.
        float
            Seconds by which the first of them was moved.
        """
        wanted = {"boot_id": clock.boot_id.bytes, "offset": round(clock.offset_s * 1e6)}
        steps = {**wanted, "set_back": SET_BACK, "noise": _STEP_NOISE_US}
        with self._database.reading() as connection:
            (has_steps,) = connection.execute(HAS_STEPS, steps).fetchone()
            found = _doubted(connection, wanted, now) or _notes(connection, wanted, now)
            if not found and not has_steps:
                return 0, 0.0
        with self._database.writing() as connection:
            doubted = _doubted(connection, wanted, now)
            notes = _notes(connection, wanted, now)
            _move_deployments(connection, wanted, doubted, notes)
            _move_plans(connection, wanted, now, doubted, notes)
            for row, _, created_on, offset in doubted:
                by = wanted["offset"] - offset
                connection.execute(MOVE_RECORDING, {"row": row, "by": by})
                connection.execute(MOVE_CLOCK, {"row": row, "by": by, "offset": wanted["offset"]})
                if error_s is not None:
                    age = now - (created_on - offset) / 1e6
                    error = error_s + _CRYSTAL * max(0.0, age)
                    connection.execute(SET_ERROR, {"row": row, "error": error})
            _move_notes(connection, wanted, notes)
            connection.execute(DELETE_STEPS, steps)
        return len(doubted), (wanted["offset"] - doubted[0][3]) / 1e6 if doubted else 0.0

    def correct_late(self, recording: data.Recording) -> bool:
        """Correct the time of a recording that is stored after the clock of its boot was set.

        Returns
        -------
        bool
            Whether that was so, by one of the last recordings of that boot.
        """
        report = recording.capture
        if report is None or report.boot_clock is None or report.clock_synchronised:
            return False
        boot_id = report.boot_clock.boot_id
        values = {"boot_id": boot_id.bytes, "most": _LOOKED_AT}
        with self._database.reading() as connection:
            found = connection.execute(RIGHT_CLOCK, values).fetchone()
        if found is None:
            return False
        offset, time = found
        clock = data.BootClock(boot_id=boot_id, offset_s=offset / 1e6)
        return self.correct_times(clock, (time - offset) / 1e6)[0] > 0

    def get_files_to_correct(self, limit: int) -> list[data.Recording]:
        """Return recordings whose corrected time is not yet in their files."""
        found: list[data.Recording] = []
        with self._database.reading() as connection:
            for (row,) in connection.execute(NOT_IN_FILE, {"limit": limit}).fetchall():
                statement = sql.RECORDINGS_BY_ROW
                recordings = load_recordings(connection, statement, {"rows": f"[{row}]"})
                for recording in recordings.values():
                    recording.capture = self._report(connection, row)
                    found += [recording, *beginning_in(connection, row, recording)]
        return found

    def note_file_corrected(self, recording: data.Recording) -> None:
        """Note that a file holds the corrected time, or never will."""
        with self._database.writing() as connection:
            connection.execute(IN_FILE, {"recording": recording.id.bytes})

    @abstractmethod
    def _report(self, connection: sqlite3.Connection, row: int) -> data.CaptureReport | None:
        """Return how the recording of a row was captured."""


def put_clock(connection: sqlite3.Connection, recording: data.Recording) -> None:
    """Store the clock behind the time of a recording, if that is known."""
    report = recording.capture
    if report is None or report.boot_clock is None:
        return
    values = {
        "recording": recording.id.bytes,
        "boot_id": report.boot_clock.boot_id.bytes,
        "offset": round(report.boot_clock.offset_s * 1e6),
        "corrected": round(report.clock_corrected_s * 1e6),
        "is_trusted": report.clock_synchronised is True,
    }
    connection.execute(PUT_CLOCK, values)


def report_with_clock(
    connection: sqlite3.Connection, row: int, report: data.CaptureReport
) -> data.CaptureReport:
    """Return a report with the clock of its recording."""
    found = connection.execute(CLOCK, {"row": row}).fetchone()
    if found is None:
        return report
    boot_id, offset, corrected = found
    clock = data.BootClock(boot_id=as_id(boot_id), offset_s=offset / 1e6)
    return report.model_copy(update={"boot_clock": clock, "clock_corrected_s": corrected / 1e6})


Row = tuple[Any, ...]


def _is_step(by: int, time: int, offset: int, now: float) -> bool:
    """Return whether a difference is more than the drift of a crystal explains."""
    age = max(0.0, now - (time - offset) / 1e6)
    return abs(by) > _LEAST_US + _CRYSTAL * age * 1e6


def _doubted(connection: sqlite3.Connection, wanted: dict[str, Any], now: float) -> list[Row]:
    return [
        row
        for row in connection.execute(DOUBTED, wanted)
        if _is_step(wanted["offset"] - row[3], row[2], row[3], now)
    ]


def _notes(connection: sqlite3.Connection, wanted: dict[str, Any], now: float) -> list[Row]:
    return [
        row
        for row in connection.execute(NOTES, wanted)
        if _is_step(wanted["offset"] - row[5], row[3], row[5], now)
    ]


def _move_deployments(
    connection: sqlite3.Connection,
    wanted: dict[str, Any],
    doubted: Sequence[Row],
    notes: Sequence[Row],
) -> None:
    """Move the start of deployments that began with the wrong clock."""
    firsts: dict[int, tuple[int, int]] = {}
    times = [(row, time, offset) for _, row, time, offset in doubted]
    # Only one end of a step is from the new clock.
    told = [note for note in notes if note[2] != EffortState.CLOCK_UNKNOWN or note[4] == SET_BACK]
    times += [(row, start, offset) for row, start, *_, offset in told]
    for row, time, offset in times:
        firsts[row] = min(firsts.get(row, (time, offset)), (time, offset))
    for row, (first, offset) in firsts.items():
        values = {"deployment_row": row, "boot": offset, "first": first}
        by = wanted["offset"] - offset
        connection.execute(MOVE_DEPLOYMENT, {**wanted, **values, "by": by})


def _move_plans(
    connection: sqlite3.Connection,
    wanted: dict[str, Any],
    now: float,
    doubted: Sequence[Row],
    notes: Sequence[Row],
) -> None:
    """Move when a plan began to hold, where a wrong clock of this boot told it."""
    clocks = {(row, offset) for _, row, _, offset in doubted}
    clocks |= {(row, offset) for row, *_, offset in notes}
    for row, offset in clocks:
        right, since_boot = wanted["offset"], round(now * 1e6)
        values = {"boot": offset, "told": offset + since_boot, "now": right + since_boot}
        connection.execute(MOVE_PLANS, {**values, "row": row, "by": right - offset})


def _move_notes(
    connection: sqlite3.Connection, wanted: dict[str, Any], notes: Sequence[Row]
) -> None:
    """Move notes. For a note from before the boot, only times from its clock are moved."""
    keys = [
        {"deployment_row": row, "start": start, "state": state} for row, start, state, *_ in notes
    ]
    connection.executemany(DELETE_NOTE, keys)
    for row, *note, offset in notes:
        start, state, end, detail = _moved(note, wanted["offset"] - offset, offset)
        moved = {"start": start, "state": state, "end": end, "detail": detail}
        if start < end:
            connection.execute(PUT_LONGER_NOTE, {"deployment_row": row, **moved, **wanted})


def _moved(note: Sequence[Any], by: int, boot: int) -> Row:
    """Return the start, state, end and detail of a note by the right clock."""
    start, state, end, detail = note
    if detail == SET_BACK and start + by > end:
        return end, EffortState.NOT_RUNNING.value, start + by, NO_POWER
    if detail == SET_BACK:
        return start + by, state, end, detail
    is_of_before = start < boot or detail == NO_POWER
    return start if is_of_before else start + by, state, end + by, detail
