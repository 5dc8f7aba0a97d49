"""The state of a hub's sensors, from the heartbeats and alarms that they reported."""

import json
from collections.abc import Collection

from acoupi.data import from_microseconds
from acoupi.fleet.judging import KEPT, Fleet
from acoupi.hub.database import LONGEST_STATEMENT, HubDatabase

__all__ = ["put_reported"]

_MESSAGES = """
    SELECT s.id, m.created_on_us, m.content
    FROM sensor s CROSS JOIN (VALUES ('heartbeat'), ('alarm')) AS kind (name)
    CROSS JOIN LATERAL (
        SELECT row, created_on_us, content FROM message
        WHERE sensor_row = s.row AND message_type = kind.name
        ORDER BY created_on_us DESC LIMIT :most
    ) m
    WHERE :only::text[] IS NULL OR s.id = ANY(:only)
    ORDER BY m.row
"""
_TOLD = """
    SELECT s.id, f.version, f.program, f.configuration, f.sections
    FROM settings_in_force f JOIN sensor s ON s.row = f.sensor_row
"""
_SENSORS = "SELECT id, token_sha256 IS NOT NULL, reported_on_us FROM sensor"


def put_reported(
    fleet: Fleet,
    database: HubDatabase,
    *,
    only: Collection[str] | None = None,
    most: int = KEPT,
    longest: float | None = LONGEST_STATEMENT,
) -> None:
    """Put each sensor's newest messages into a fleet; sensors that may report are expected.

    Parameters
    ----------
    only
        Names of sensors; None: all.
    most
        Most heartbeats, and most alarms, of a sensor.
    longest
        As for `HubDatabase.reading`.

    Raises
    ------
    HubError
        If the database cannot be read.
    """
    with database.reading(longest) as connection:
        for name, may_report, reported_on in connection.execute(_SENSORS):
            if may_report and (only is None or name in only):
                fleet.expect(name)
                if reported_on is not None:
                    fleet.report(name, from_microseconds(reported_on))
        for name, version, program, configuration, sections in connection.execute(_TOLD):
            fleet.tell(
                name, version=version, program=program, configuration=configuration or None,
                sections=json.loads(sections),
            )  # fmt: skip
        values = {"most": most, "only": None if only is None else list(only)}
        for name, created_on, content in connection.stream(_MESSAGES, values):
            try:
                said = json.loads(content)
            except (ValueError, RecursionError):
                continue
            fleet.put(said, name=name, created_on=from_microseconds(created_on))
