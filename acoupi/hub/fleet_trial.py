"""Whether changed settings are good: judged only by what sensors report.

No process runs for it: whenever a sensor asks for its settings, or a person for the progress,
`advance` looks at what arrived since. All of its state is in the database.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from acoupi.data import from_microseconds, to_microseconds
from acoupi.fleet.judging import Fleet, Row
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.fleet_overlays import Overlays
from acoupi.hub.fleet_settings import LOOKED_AT
from acoupi.hub.fleet_standing import InForce, get_standings
from acoupi.hub.heartbeats import put_reported
from acoupi.system.update_verdict import Facts, Verdict, judge

__all__ = ["advance", "changes"]

SWITCH = timedelta(seconds=5)
"""Recordings that start so soon after the switch may have the old settings."""

_OPEN = """
    SELECT d.sensor_row, d.number, d.change_row, d.is_first, d.was_well, d.state = 'good',
        d.offered_on_us, c.minutes
    FROM fleet_document d JOIN fleet_change c ON c.row = d.change_row
    WHERE (d.state = 'offered' OR d.state = 'good' AND c.state IN ('first', 'all')) AND d.number = (
        SELECT max(o.number) FROM fleet_document o
        WHERE o.sensor_row = d.sensor_row AND o.state <> 'waiting'
    )
    ORDER BY d.sensor_row
"""


class _Document(NamedTuple):
    """A document offered to a sensor that is neither good nor undone yet, or..."""

    sensor_row: int
    number: int
    change: int
    is_first: bool
    was_well: bool
    is_good: bool
    """...that is good, while other sensors still try the same change."""
    offered_on_us: int
    minutes: float


def advance(database: HubDatabase, now: datetime) -> None:
    """Confirm, pass on or undo offered settings, by what sensors reported since.

    Raises
    ------
    HubError
        If the database does not answer.
    """
    with database.writing() as connection:
        has = {
            one.sensor: one.number == of.number and not of.is_good for of, one in _open(connection)
        }
    if not has:
        return
    fleet = Fleet(now, judges_effort=False)
    put_reported(fleet, database, only=[one for one in has if has[one]], most=LOOKED_AT)
    heard = {row.sensor: row for row in fleet.rows()}
    with database.writing() as connection:
        connection.execute("LOCK TABLE fleet_change IN EXCLUSIVE MODE")
        for document, sensor in _open(connection):
            _settle(connection, document, sensor, heard.get(sensor.sensor), now)
        _pass_on(connection, now)


def _open(connection: Connection) -> list[tuple[_Document, InForce]]:
    """Return documents that may still be undone, with each sensor's reported settings."""
    documents = [_Document(*found) for found in connection.execute(_OPEN)]
    rows = [one.sensor_row for one in documents]
    sensors = {one.row: one for one in get_standings(connection, rows)}
    return [(one, sensors[one.sensor_row]) for one in documents if one.sensor_row in sensors]


def _settle(
    connection: Connection, document: _Document, sensor: InForce, heard: Row | None, now: datetime
) -> None:
    by, verdict = _verdict(connection, document, sensor, heard, now)
    values: dict[str, Any] = {"row": document.sensor_row, "number": document.number}
    if verdict.is_good:
        connection.execute(
            "UPDATE fleet_document SET state = 'good' WHERE sensor_row = :row AND number = :number"
            " AND state = 'offered'",
            values,
        )
    elif verdict.is_good is False:
        why = f"{sensor.sensor}: {verdict.why.rstrip('.')} (undone by {by})"
        connection.execute(
            "UPDATE fleet_document SET state = 'undone', why = :why"
            " WHERE sensor_row = :row AND number = :number",
            values | {"why": why},
        )
        _undo(connection, document.change, why, now)


def _verdict(
    connection: Connection, document: _Document, sensor: InForce, heard: Row | None, now: datetime
) -> tuple[str, Verdict]:
    """Return who judges whether a sensor is well with a document, and the verdict."""
    if sensor.refused == document.number:
        return f"the sensor {sensor.sensor}", Verdict(False, sensor.why)
    if document.is_good:
        return "the hub", Verdict(True, "")
    patience = timedelta(minutes=document.minutes)
    if sensor.number != document.number or sensor.since is None or sensor.reported_on is None:
        is_late = now > from_microseconds(document.offered_on_us) + patience
        missing = f"it did not report within {document.minutes:g} minutes that they are in force"
        return "the hub", Verdict(False if is_late and document.is_first else None, missing)
    is_last = now > sensor.reported_on + patience
    worse = _worse(document, sensor.since, heard)
    if worse is not None:
        return "the hub", Verdict(False if is_last else None, worse)
    found = judge(_facts(connection, sensor, sensor.since), is_last=is_last)
    within = f" within {document.minutes:g} minutes" if is_last else ""
    return "the hub", found._replace(why=found.why + within)


def _worse(document: _Document, since: datetime, heard: Row | None) -> str | None:
    """Return what is wrong with a sensor that was well before; None if nothing is known.

    A heartbeat from before the switch says nothing about the new settings.
    """
    if not document.was_well or heard is None or heard.state != "unwell":
        return None
    is_new = heard.heartbeat_on is not None and heard.heartbeat_on > since
    return "; ".join(heard.reasons) if is_new else None


_RECORDED = """
    SELECT count(*), count(*) FILTER (WHERE c.is_silent = 1), count(*) FILTER (WHERE EXISTS (
        SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state IN ('done', 'skipped')
    ))
    FROM (
        SELECT r.row FROM deployment w JOIN recording r ON r.deployment_row = w.row
        WHERE w.sensor_row = :sensor AND r.created_on_us >= :since AND r.created_on_us < :until
        ORDER BY r.created_on_us DESC LIMIT :most
    ) r LEFT JOIN capture c ON c.recording_row = r.row
"""
ENDLESS = 2**62


def _facts(connection: Connection, sensor: InForce, since: datetime) -> Facts:
    def counted(since: int, until: int, most: int) -> tuple[int, int, int]:
        values = {"sensor": sensor.row, "since": since, "until": until, "most": most}
        recordings, silent, analysed = connection.one(_RECORDED, values)
        return recordings, silent, analysed

    switch = to_microseconds(since)
    recordings, silent, analysed = counted(to_microseconds(since + SWITCH), ENDLESS, 1000)
    _, last_silent, _ = counted(0, switch, 1)
    _, _, before = counted(0, switch, 20)
    return Facts(
        services=[],
        recordings=recordings,
        silent=silent,
        was_silent=bool(last_silent),
        analyses=analysed,
        needs_analysis=bool(before),
    )


def _undo(connection: Connection, change: int, why: str, now: datetime) -> None:
    """Undo a change everywhere; if all sensors already had it, only where it failed."""
    found = connection.execute(
        "SELECT overlays_before, members_before FROM fleet_change"
        " WHERE row = :change AND state IN ('first', 'all')",
        {"change": change},
    ).fetchone()
    if found is None:
        return
    Overlays(*map(json.loads, found)).write(connection)
    values = {"change": change, "why": why, "now": to_microseconds(now)}
    connection.execute(
        "DELETE FROM fleet_document WHERE change_row = :change AND state = 'waiting'", values
    )
    connection.execute(
        "UPDATE fleet_document SET state = 'undone', why = :why"
        " WHERE change_row = :change AND state IN ('offered', 'good')",
        values,
    )
    connection.execute(
        "UPDATE fleet_change SET state = 'undone', why = :why, ended_on_us = :now"
        " WHERE row = :change",
        values,
    )


_TO_ALL = """
    UPDATE fleet_change c SET state = 'all', all_on_us = :now WHERE state = 'first'
        AND NOT EXISTS (
            SELECT 1 FROM fleet_document d
            WHERE d.change_row = c.row AND d.is_first AND d.state <> 'good'
        )
"""
_OFFER = """
    UPDATE fleet_document d SET state = 'offered', offered_on_us = :now
    FROM fleet_change c WHERE c.row = d.change_row AND c.state = 'all' AND d.state = 'waiting'
"""
_END = """
    UPDATE fleet_change c SET state = 'done', ended_on_us = :now WHERE state = 'all' AND (
        all_on_us + minutes * 60e6 < :now OR NOT EXISTS (
            SELECT 1 FROM fleet_document d WHERE d.change_row = c.row AND d.state <> 'good'
        )
    )
"""


def _pass_on(connection: Connection, now: datetime) -> None:
    """Offer a change to all once the first sensors are well with it; close it once all have it."""
    for statement in (_TO_ALL, _OFFER, _END):
        connection.execute(statement, {"now": to_microseconds(now)})


@dataclass(frozen=True, kw_only=True)
class ChangeRow:
    """The progress of a change."""

    what: str
    state: str
    """first, all, done or undone."""
    why: str
    """Why it was undone."""
    began_on: datetime
    ended_on: datetime | None
    good: int
    """Number of sensors that are well with it."""
    offered: int
    """Number of sensors that are trying it now."""
    waiting: int
    """Number of sensors that get it after these."""
    sensors: list[dict[str, Any]]
    """Sensor's name, state, and why it was undone there."""


_CHANGES = """
    SELECT row, what, state, why, began_on_us, ended_on_us FROM fleet_change
    ORDER BY row DESC LIMIT :most
"""
_DOCUMENTS = """
    SELECT s.id, d.state, d.why, d.number, f.number FROM fleet_document d
    JOIN sensor s ON s.row = d.sensor_row
    LEFT JOIN settings_in_force f ON f.sensor_row = s.row
    WHERE d.change_row = :row ORDER BY s.id
"""


def changes(connection: Connection, most: int) -> Iterator[ChangeRow]:
    """Yield the latest changes, the newest first."""
    for row, what, state, why, began, ended in connection.execute(_CHANGES, {"most": most}):
        found = [
            {"sensor": name, "state": has, "why": said, "number": number, "in_force": in_force}
            for name, has, said, number, in_force in connection.execute(_DOCUMENTS, {"row": row})
        ]
        states = [one["state"] for one in found]
        yield ChangeRow(
            what=what,
            state=state,
            why=why,
            began_on=from_microseconds(began),
            ended_on=ended and from_microseconds(ended),
            good=states.count("good"),
            offered=states.count("offered"),
            waiting=states.count("waiting"),
            sensors=found,
        )
