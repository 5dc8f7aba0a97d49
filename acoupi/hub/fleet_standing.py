"""What sensors reported about their settings."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.hub.database import Connection, HubDatabase, storable
from acoupi.reports import SettingsReport

__all__ = ["InForce", "get_standings", "get_values", "put_settings"]

_PUT = """
    INSERT INTO settings_in_force AS known (
        sensor_row, program, version, configuration, sections, settings, variables, number,
        since_us, target, refused, why, reported_on_us
    ) VALUES (
        :sensor, :program, :version, :configuration, :sections, :values, :variables, :number,
        :since, :target, :refused, :why, :now
    ) ON CONFLICT (sensor_row) DO UPDATE SET
        program = excluded.program, version = excluded.version,
        configuration = excluded.configuration, sections = excluded.sections,
        settings = excluded.settings, variables = excluded.variables, number = excluded.number,
        since_us = excluded.since_us, target = excluded.target,
        refused = excluded.refused, why = excluded.why,
        reported_on_us = CASE WHEN known.number IS NOT DISTINCT FROM excluded.number
            THEN known.reported_on_us ELSE excluded.reported_on_us END
"""

_STANDINGS = """
    SELECT s.row, s.id, f.program, f.version, f.settings, f.variables, f.number, f.since_us,
        f.target, f.refused, f.why, f.reported_on_us
    FROM sensor s LEFT JOIN settings_in_force f ON f.sensor_row = s.row
    WHERE s.token_sha256 IS NOT NULL AND (:rows::bigint[] IS NULL OR s.row = ANY(:rows))
    ORDER BY s.id
"""


@dataclass(frozen=True, kw_only=True)
class InForce:
    """A sensor that may report, and its reported settings; None: nothing yet."""

    row: int
    sensor: str
    program: str | None
    version: str | None
    values: dict[str, Any]
    variables: list[str]
    number: int | None
    """Number of the document in force; 0: none yet; None: it does not follow the hub."""
    since: datetime | None
    """When the settings came into force, by the sensor's clock."""
    target: str | None
    """Its target, if `acoupi fleet follow` runs beside its services; else None."""
    refused: int
    why: str
    reported_on: datetime | None
    """When the hub first heard that this document is in force."""


def put_settings(connection: Connection, sensor_row: int, report: SettingsReport) -> None:
    """Store what a sensor reports about its settings."""
    values = {
        "sensor": sensor_row,
        "program": report.program,
        "version": report.version,
        "configuration": report.configuration,
        "sections": json.dumps(list(report.sections)),
        "values": storable(json.dumps(report.values, ensure_ascii=False)),
        "variables": json.dumps(list(report.variables)),
        "number": report.in_force,
        "since": report.since and to_microseconds(report.since),
        "target": report.target,
        "refused": report.refused,
        "why": report.why,
        "now": to_microseconds(data.utc_now()),
    }
    connection.execute(_PUT, values)


def get_standings(connection: Connection, rows: list[int] | None = None) -> list[InForce]:
    """Return the sensors that may report, by name; all, or those with these rows."""
    return [_in_force(row) for row in connection.execute(_STANDINGS, {"rows": rows})]


def get_values(database: HubDatabase) -> dict[str, dict[str, Any]]:
    """Return the settings of each sensor that reported them, by dotted name; no secrets."""
    with database.reading() as connection:
        return {one.sensor: one.values for one in get_standings(connection) if one.values}


def _in_force(row: tuple[Any, ...]) -> InForce:
    number, name, program, version, values, variables, document, *rest = row
    since, target, refused, why, on = rest
    return InForce(
        row=number,
        sensor=name,
        program=program,
        version=version,
        values=json.loads(values or "{}"),
        variables=json.loads(variables or "[]"),
        number=document,
        since=since and from_microseconds(since),
        target=target,
        refused=refused or 0,
        why=why or "",
        reported_on=on and from_microseconds(on),
    )
