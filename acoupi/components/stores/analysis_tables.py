"""Analyses of recordings by models, and which recordings are skipped; see `acoupi.backlog`."""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

import datetime
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, ClassVar
from uuid import UUID

from acoupi import data
from acoupi.backlog import Backlog, Change, LeftOut, Waiting
from acoupi.components.stores import sql
from acoupi.components.stores.behind_door import MOST_OF_ONE
from acoupi.components.stores.database import Database
from acoupi.components.stores.interruptions import MOST_INTERRUPTIONS, parent_process
from acoupi.components.stores.rows import analysis_of, load_recordings
from acoupi.components.stores.rules import begun, ended, unknown_recordings
from acoupi.components.stores.values import (
    as_blob_list,
    as_id,
    from_microseconds,
    to_microseconds,
)
from acoupi.pace import LAST, Progress

__all__ = ["AnalysisTables", "row_of"]

_DAY = 86_400 * 1_000_000
_FINAL = "('done', 'skipped', 'failed', 'left_out', 'hub')"

# How recording and analysis go; by index, so that it costs little on a full card.
_UNFINISHED = f"""
    SELECT count(*), min(created_on_us) FROM recording r INDEXED BY recording_state
    WHERE r.state = 'captured' AND r.created_on_us >= :since AND NOT EXISTS (
        SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state IN {_FINAL}
    )
"""
_STARTS = """
    SELECT created_on_us FROM recording
    WHERE created_on_us >= :since ORDER BY created_on_us DESC LIMIT :limit
"""
_ENDS = """
    SELECT updated_on_us, name_model FROM analysis INDEXED BY analysis_updated_on
    WHERE updated_on_us >= :since AND state IN ('done', 'skipped', 'failed')
    ORDER BY updated_on_us DESC LIMIT :limit
"""
_HAS_BEGUN = "SELECT EXISTS (SELECT 1 FROM analysis WHERE updated_on_us >= :since)"

_NOT_BEGUN = "NOT EXISTS (SELECT 1 FROM analysis a WHERE a.recording_row = r.row)"

_WAITING = f"""
    SELECT r.id, d.id, r.created_on_us
    FROM recording r INDEXED BY recording_state
        CROSS JOIN deployment d ON d.row = r.deployment_row
    WHERE r.state = 'captured' AND {_NOT_BEGUN}
    ORDER BY r.created_on_us, r.row
"""

_NEWEST = """
    SELECT r.row, r.id FROM recording r INDEXED BY recording_state
    WHERE r.state = 'captured' AND NOT EXISTS (
        SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.name_model = :name_model
    ) AND (SELECT count(*) FROM analysis a WHERE a.recording_row = r.row) < :most
    ORDER BY r.created_on_us DESC, r.row DESC LIMIT 1
"""

# Spans of time with the share of their recordings that is analysed. While one is in force
# (`every` > 1, no end), recordings are taken into it as they come.
_PUT_SPAN = """
    INSERT INTO sampling
        (began_us, ended_us, every, models, made, analysed, reason, decided_on_us)
    VALUES (:since, :until, :every, :models, 0, 0, :reason, :now)
"""
_IN_FORCE = "SELECT row, every, began_us FROM sampling WHERE ended_us IS NULL ORDER BY row DESC"
_END_SPANS = "UPDATE sampling SET ended_us = :now WHERE ended_us IS NULL"
_CONTINUE = """
    INSERT INTO sampling
        (began_us, ended_us, every, models, made, analysed, reason, decided_on_us)
    SELECT :now, NULL, every, models, 0, 0, reason, :now
    FROM sampling WHERE row = :row
"""
_COUNT_SPAN = """
    UPDATE sampling SET
        made = (SELECT count(*) FROM recording WHERE sampling_row = :row),
        analysed = (
            SELECT count(*) FROM recording r WHERE r.sampling_row = :row AND NOT EXISTS (
                SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state = 'left_out'
            )
        )
    WHERE row = :row
"""
_COUNT_ONE = "UPDATE sampling SET made = made + 1, analysed = analysed + :kept WHERE row = :row"

# Those that came into a span and are in none yet; one may have been stored after its end. Where
# the clock was set back, into the later one.
_ARRIVED = f"""
    SELECT r.row, max(s.row), s.models, s.reason
    FROM sampling s CROSS JOIN recording r INDEXED BY recording_state
    WHERE s.every > 1 AND (s.ended_us IS NULL OR s.ended_us > :yesterday)
        AND r.state = 'captured' AND r.created_on_us >= s.began_us
        AND (s.ended_us IS NULL OR r.created_on_us < s.ended_us)
        AND r.sampling_row IS NULL AND {_NOT_BEGUN}
    GROUP BY r.row
    ORDER BY r.created_on_us, r.row
"""
_PLACE_IN_SPAN = "SELECT made % every FROM sampling WHERE row = :row"
_TAKE_IN = "UPDATE recording SET sampling_row = :span WHERE row = :row"

_SPANS_WITHIN = """
    SELECT DISTINCT r.sampling_row FROM recording r
    WHERE r.deployment_row = (SELECT row FROM deployment WHERE id = :deployment)
        AND r.created_on_us >= :since AND r.created_on_us < :until
        AND r.sampling_row IS NOT NULL
"""
_TAKE_IN_ALL = """
    UPDATE recording SET sampling_row = :span
    WHERE deployment_row = (SELECT row FROM deployment WHERE id = :deployment)
        AND created_on_us >= :since AND created_on_us < :until
"""
_LEAVE_OUT = """
    INSERT OR IGNORE INTO analysis
        (recording_row, name_model, state, attempts, error, updated_on_us)
    SELECT r.row, m.value, 'left_out', 0, :reason, :now
    FROM recording r CROSS JOIN json_each(:models) m
    WHERE r.row = :row
"""
_ROWS_NOT_BEGUN = f"""
    SELECT r.row FROM recording r
    WHERE r.id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
        AND r.state = 'captured' AND {_NOT_BEGUN}
"""

_FRACTION = """
    SELECT CASE WHEN s.ended_us IS NULL THEN 1.0 / s.every ELSE s.analysed * 1.0 / s.made END
    FROM recording r JOIN sampling s ON s.row = r.sampling_row
    WHERE r.row = :row AND s.made > 0
"""
_SPAN_OF = "SELECT sampling_row FROM recording WHERE row = :row"

_SAMPLED = """
    SELECT d.id, count(*), sum(EXISTS (
        SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state = 'left_out'
    ))
    FROM recording r CROSS JOIN deployment d ON d.row = r.deployment_row
    WHERE r.created_on_us >= :start AND r.created_on_us < :end
    GROUP BY d.id
"""


class AnalysisTables:
    """The part of `SqliteStore` that holds analyses."""

    _database: Database
    can_leave_out: ClassVar[bool] = True
    backlog: Backlog

    def begin_analysis(self, recording: data.Recording, name_model: str) -> data.Analysis:
        """Note that a model is about to run, and count the attempt.

        An attempt that was ended from outside (see `interruptions`) does not count:
        the new one takes its place. A final analysis is returned as it is, and not
        counted; one of a recording that is left out is final from the beginning.

        Raises
        ------
        MetadataStoreError
            If the recording is not stored.
        """
        with self._database.writing() as connection:
            if self.backlog.policy == "thin":
                _take_in_arrived(connection)
            row = row_of(connection, recording.id, "begin an analysis", recording.path)
            return _begin(connection, row, recording.id, name_model)

    def begin_newest_analysis(
        self, recording: data.Recording, name_model: str
    ) -> tuple[data.Recording, data.Analysis]:
        """Begin the analysis of the newest recording that waits for the model.

        Returns
        -------
        Recording
            That one; `recording` if none waits.
        Analysis
            As `begin_analysis` returns it.
        """
        with self._database.writing() as connection:
            wanted = {"name_model": name_model, "most": MOST_OF_ONE}
            newest = connection.execute(_NEWEST, wanted).fetchone()
            if newest is not None:
                row, id_ = newest
                values = {"rows": f"[{row}]"}
                found = load_recordings(connection, sql.RECORDINGS_BY_ROW, values)[row]
                return found, _begin(connection, row, as_id(id_), name_model)
            row = row_of(connection, recording.id, "begin an analysis", recording.path)
            return recording, _begin(connection, row, recording.id, name_model)

    def end_analysis(self, analysis: data.Analysis) -> None:
        """Note how an analysis ended: its state and error, at the current time.

        A finished analysis stays done, and a final one stays final: a report
        may be late.

        Raises
        ------
        MetadataStoreError
            If the recording is not stored.
        """
        with self._database.writing() as connection:
            row = row_of(connection, analysis.recording_id, "end an analysis")
            stored = _analysis(connection, row, analysis.recording_id, analysis.name_model)
            now = ended(stored, analysis)
            if now is stored:
                return
            connection.execute(sql.PUT_ANALYSIS, _analysis_values(row, now))
            if stored is not None and stored.state is data.AnalysisState.LEFT_OUT:
                (span,) = connection.execute(_SPAN_OF, {"row": row}).fetchone()
                connection.execute(_COUNT_SPAN, {"row": span})

    def get_analyses(self, recordings: Sequence[data.Recording]) -> dict[UUID, list[data.Analysis]]:
        """Return what each model has done with each recording, by recording id."""
        analyses: dict[UUID, list[data.Analysis]] = {recording.id: [] for recording in recordings}
        with self._database.reading() as connection:
            for id_, *columns in connection.execute(sql.ANALYSES, {"ids": as_blob_list(analyses)}):
                recording_id = as_id(id_)
                analyses[recording_id].append(analysis_of(recording_id, tuple(columns)))
        return analyses

    def count_analyses(self) -> dict[data.AnalysisState, int]:
        """Return the number of analyses in each state, 0 included."""
        with self._database.reading() as connection:
            counts = dict(connection.execute(sql.COUNT_ANALYSES).fetchall())
        return {state: counts.get(state.value, 0) for state in data.AnalysisState}

    # The backlog

    def get_progress(
        self, since: datetime.datetime, waiting_since: datetime.datetime | None = None
    ) -> Progress:
        """Return how recording and analysis went since some time.

        Parameters
        ----------
        since
            Recordings and ends of analyses before this time do not count.
        waiting_since
            The same for recordings that wait; None: all that wait.
        """
        begin = 0 if waiting_since is None else to_microseconds(waiting_since)
        values = {"since": to_microseconds(since), "limit": LAST}
        with self._database.reading() as connection:
            waiting, oldest = connection.execute(_UNFINISHED, {"since": begin}).fetchone()
            starts = connection.execute(_STARTS, values).fetchall()
            ends = connection.execute(_ENDS, values).fetchall()
            (has_begun,) = connection.execute(_HAS_BEGUN, values).fetchone()
            in_force = connection.execute(_IN_FORCE).fetchone()
        return Progress(
            waiting=waiting,
            oldest_on=None if oldest is None else from_microseconds(oldest),
            starts=[from_microseconds(start) for (start,) in reversed(starts)],
            ends=[(from_microseconds(end), model) for end, model in reversed(ends)],
            has_begun=bool(has_begun),
            every=in_force[1] if in_force else 1,
        )

    def get_waiting(self) -> list[Waiting]:
        """Return the recordings in the spool that no model has begun to analyse, oldest first."""
        with self._database.reading() as connection:
            return [
                Waiting(as_id(id_), as_id(deployment), from_microseconds(created_on))
                for id_, deployment, created_on in connection.execute(_WAITING)
            ]

    def take_in_arrived(self) -> None:
        """Apply the current policy to recordings that are new since the last time.

        A span that has lasted a day is continued by another one.
        """
        now = to_microseconds(data.utc_now())
        with self._database.writing() as connection:
            _take_in_arrived(connection)
            for row, _, since in connection.execute(_IN_FORCE).fetchall():
                if not 0 <= now - since < _DAY:
                    connection.execute(_END_SPANS, {"now": max(now, since)})
                    connection.execute(_CONTINUE, {"row": row, "now": now})

    def change_sampling(self, change: Change, models: Sequence[str]) -> None:
        """Analyse every n-th recording from now on; 1: all.

        The same again changes nothing.
        """
        now = to_microseconds(data.utc_now())
        with self._database.writing() as connection:
            in_force = connection.execute(_IN_FORCE).fetchone()
            if (in_force[1] if in_force else 1) == change.every:
                return
            _take_in_arrived(connection)
            connection.execute(_END_SPANS, {"now": now})
            if change.every > 1:
                values = {"every": change.every, "until": None, "reason": change.reason}
                _put_span(connection, models, values | {"since": now})

    def leave_out(self, choice: LeftOut, models: Sequence[str]) -> int:
        """Leave out recordings of a span of time that no model has begun; return how many.

        All recordings of that time belong to the span from then on.
        """
        values = {
            "deployment": choice.deployment_id.bytes,
            "since": to_microseconds(choice.start),
            "until": to_microseconds(choice.end),
        }
        now = to_microseconds(data.utc_now())
        with self._database.writing() as connection:
            ids = {"ids": as_blob_list(choice.recordings)}
            rows = [row for (row,) in connection.execute(_ROWS_NOT_BEGUN, ids)]
            if not rows:
                return 0
            before = connection.execute(_SPANS_WITHIN, values).fetchall()
            span = _put_span(connection, models, values | {"every": 1, "reason": choice.reason})
            connection.execute(_TAKE_IN_ALL, values | {"span": span})
            told = {"reason": choice.reason, "models": json.dumps(list(models)), "now": now}
            connection.executemany(_LEAVE_OUT, [told | {"row": row} for row in rows])
            connection.executemany(_COUNT_SPAN, [{"row": row} for (row,) in [*before, (span,)]])
        return len(rows)

    def count_left_out(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> dict[UUID, tuple[int, int]]:
        """Return how many recordings began in [start, end), and how many of them are left out.

        By the id of the deployment.
        """
        values = {"start": to_microseconds(start), "end": to_microseconds(end)}
        with self._database.reading() as connection:
            found = connection.execute(_SAMPLED, values).fetchall()
        return {as_id(id_): (made, left_out) for id_, made, left_out in found}


# Within a transaction


def _begin(
    connection: sqlite3.Connection, row: int, recording_id: UUID, name_model: str
) -> data.Analysis:
    stored = _analysis(connection, row, recording_id, name_model)
    interruptions, is_new = _interruptions(connection, row, stored)
    analysis = begun(stored, recording_id, name_model, was_interrupted=is_new)
    if analysis is not stored:
        values = _analysis_values(row, analysis)
        connection.execute(sql.PUT_ANALYSIS, values)
        by = {"begun_by": parent_process(), "interruptions": interruptions}
        connection.execute(sql.PUT_BEGUN_BY, values | by)
    fraction = connection.execute(_FRACTION, {"row": row}).fetchone()
    if fraction is None:
        return analysis
    return analysis.model_copy(update={"analysed_fraction": fraction[0]})


def _put_span(connection: sqlite3.Connection, models: Sequence[str], values: dict[str, Any]) -> int:
    more = {"models": json.dumps(list(models)), "now": to_microseconds(data.utc_now())}
    row = connection.execute(_PUT_SPAN, values | more).lastrowid
    assert row is not None
    return row


def _take_in_arrived(connection: sqlite3.Connection) -> None:
    """Take recordings into the span that was in force when they began: the first, each k-th."""
    now = to_microseconds(data.utc_now())
    arrived = connection.execute(_ARRIVED, {"yesterday": now - _DAY}).fetchall()
    for row, span, models, reason in arrived:
        (place,) = connection.execute(_PLACE_IN_SPAN, {"row": span}).fetchone()
        connection.execute(_TAKE_IN, {"row": row, "span": span})
        connection.execute(_COUNT_ONE, {"row": span, "kept": place == 0})
        if place:
            values = {"row": row, "models": models, "reason": reason, "now": now}
            connection.execute(_LEAVE_OUT, values)


def row_of(connection: sqlite3.Connection, id_: UUID, action: str, path: object = None) -> int:
    """Return the row of a recording; one that is not stored is refused."""
    row = connection.execute(sql.ROW_OF_RECORDING, {"id": id_.bytes}).fetchone()
    if row is None:
        raise unknown_recordings(action, [(id_, path)])
    return int(row[0])


def _analysis(
    connection: sqlite3.Connection, recording_row: int, recording_id: UUID, name_model: str
) -> data.Analysis | None:
    values = {"recording_row": recording_row, "name_model": name_model}
    row = connection.execute(sql.ANALYSIS, values).fetchone()
    return None if row is None else analysis_of(recording_id, (name_model, *row))


def _interruptions(
    connection: sqlite3.Connection, recording_row: int, stored: data.Analysis | None
) -> tuple[int, bool]:
    """Return how many attempts were ended from outside, and whether the last is a new one."""
    if stored is None or stored.state.is_final:
        return 0, False
    values = {"recording_row": recording_row, "name_model": stored.name_model}
    begun_by, number = connection.execute(sql.BEGUN_BY, values).fetchone()
    is_new = (
        stored.state is data.AnalysisState.RUNNING
        and begun_by is not None
        and parent_process() not in (None, begun_by)
        and number < MOST_INTERRUPTIONS
    )
    return number + is_new, is_new


def _analysis_values(recording_row: int, analysis: data.Analysis) -> dict[str, Any]:
    return {
        "recording_row": recording_row,
        "name_model": analysis.name_model,
        "state": analysis.state.value,
        "attempts": analysis.attempts,
        "error": analysis.error,
        "updated_on": to_microseconds(analysis.updated_on),
    }
