"""The sensors of a hub, and the tokens that identify them."""

import datetime
import re
import secrets
from dataclasses import dataclass

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.errors import HubError, ParameterError
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.tokens import digest_of
from acoupi.reports import ReportSequence

__all__ = [
    "Sensor",
    "add_sensor",
    "check_name",
    "get_sensors",
    "locked_row_of",
    "make_token",
    "note_contact",
    "note_reported",
    "withdraw_token",
]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_ADD = """
    INSERT INTO sensor (id, added_on_us) VALUES (:id, :now) ON CONFLICT (id) DO NOTHING
"""

# Unless it does not know what it acknowledged before: then that is asked again until it does.
_NOTE_REPORTED = """
    UPDATE sensor SET known_until_us = :stamp
    WHERE id = :id AND (:after::bigint IS NULL OR known_until_us >= :after::bigint)
"""

_SENSORS = """
    SELECT s.id, s.token_sha256 IS NOT NULL, s.reported_on_us,
        (SELECT count(*) FROM deployment w WHERE w.sensor_row = s.row),
        (
            SELECT count(*) FROM deployment w JOIN recording r ON r.deployment_row = w.row
            WHERE w.sensor_row = s.row
        )
    FROM sensor s ORDER BY s.id
"""


@dataclass(frozen=True)
class Sensor:
    """A sensor, as its hub knows it."""

    name: str
    has_token: bool
    """Whether it has a token, so that it may report."""
    reported_on: datetime.datetime | None
    """When it last reported; None: never."""
    deployments: int
    recordings: int


def add_sensor(database: HubDatabase, name: str) -> None:
    """Add a sensor to a hub; it may be there already.

    Raises
    ------
    ParameterError
        If the name is not valid.
    """
    check_name(name, "a sensor", "acoupi hub add-sensor oak-1")
    with database.writing() as connection:
        connection.execute(_ADD, {"id": name, "now": to_microseconds(data.utc_now())})


def check_name(name: str, what: str, example: str) -> None:
    """Refuse a name that a sensor, worker or person cannot have.

    Raises
    ------
    ParameterError
        If the name is not valid.
    """
    if not _NAME.fullmatch(name):
        raise ParameterError(
            "NAME",
            f'{what} cannot be called "{name}".',
            example,
            why="a name has letters, digits, dots, hyphens and underscores, at most 64.",
        )


def make_token(database: HubDatabase, name: str) -> str:
    """Return a new token for a sensor; an earlier one becomes invalid.

    The hub only keeps its SHA-256.

    Raises
    ------
    HubError
        If the hub does not know the sensor.
    """
    token = secrets.token_urlsafe(32)
    _put_token(database, name, digest_of(token))
    return token


def withdraw_token(database: HubDatabase, name: str) -> None:
    """Stop accepting a sensor's reports; what it reported is kept.

    Raises
    ------
    HubError
        If the hub does not know the sensor.
    """
    _put_token(database, name, None)


def _put_token(database: HubDatabase, name: str, digest: bytes | None) -> None:
    with database.writing() as connection:
        values = {"row": locked_row_of(connection, name), "digest": digest}
        connection.execute("UPDATE sensor SET token_sha256 = :digest WHERE row = :row", values)


def get_sensors(database: HubDatabase) -> list[Sensor]:
    """Return the sensors of a hub, by name."""
    with database.reading() as connection:
        return [
            Sensor(name, has_token, on and from_microseconds(on), deployments, recordings)
            for name, has_token, on, deployments, recordings in connection.execute(_SENSORS)
        ]


def locked_row_of(connection: Connection, name: str) -> int:
    """Lock a sensor, so that one of its reports is stored at a time; return its row.

    Everything that writes a sensor's rows locks this first, which prevents deadlocks.

    Raises
    ------
    HubError
        If the hub does not know it.
    """
    found = connection.execute(
        "SELECT row FROM sensor WHERE id = :id FOR NO KEY UPDATE", {"id": name}
    ).fetchone()
    if found is None:
        raise HubError(
            f'this hub has no sensor "{name}".',
            f"acoupi hub add-sensor {name}",
            why="it has not been added.",
        )
    return int(found[0])


def note_reported(connection: Connection, sensor: str, sequence: ReportSequence) -> bool:
    """Note until when a sensor has reported; return False if the one before is not known here."""
    values = {"id": sensor, "stamp": sequence.stamp_us, "after": sequence.after_us}
    return connection.execute(_NOTE_REPORTED, values).rowcount == 1


def note_contact(connection: Connection, row: int) -> None:
    """Note that a sensor reported now."""
    values = {"row": row, "now": to_microseconds(data.utc_now())}
    connection.execute("UPDATE sensor SET reported_on_us = :now WHERE row = :row", values)
