"""The people who may read a hub over HTTP, and what each may do there.

A reader sees what was heard, and coordinates rounded to 0.1 degree. A reviewer also hears sound,
whose metadata holds the place, so sees exact coordinates; and gives verdicts on detections. An
operator also sees the free space of each sensor.
"""

import datetime
import secrets
from dataclasses import dataclass

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.errors import HubError, ParameterError
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import check_name
from acoupi.hub.tokens import ROLES, digest_of

__all__ = ["Person", "add_person", "get_people", "withdraw_person"]

_PUT = """
    INSERT INTO person (name, role, token_sha256, added_on_us)
    VALUES (:name, :role, :digest, :now)
    ON CONFLICT (name) DO UPDATE SET role = excluded.role, token_sha256 = excluded.token_sha256
"""


@dataclass(frozen=True)
class Person:
    """Somebody who reads a hub."""

    name: str
    role: str
    has_token: bool
    """Whether the token is still valid."""
    added_on: datetime.datetime


def add_person(database: HubDatabase, name: str, role: str) -> str:
    """Return a new token for a person; it replaces an earlier token and role.

    The hub only keeps its SHA-256.

    Raises
    ------
    ParameterError
        If the name is not valid, or there is no such role.
    """
    check_name(name, "a person", "acoupi hub add-person ana --role reader")
    if role not in ROLES:
        raise ParameterError(
            role,
            f'a person cannot be a "{role}".',
            f"acoupi hub add-person {name} --role {ROLES[0]}",
            why=f"the roles are {', '.join(ROLES)}.",
        )
    token = secrets.token_urlsafe(32)
    now = to_microseconds(data.utc_now())
    values = {"name": name, "role": role, "digest": digest_of(token), "now": now}
    with database.writing() as connection:
        connection.execute(_PUT, values)
    return token


def withdraw_person(database: HubDatabase, name: str) -> None:
    """Stop a person from reading; their verdicts are kept.

    Raises
    ------
    HubError
        If the hub does not know the person.
    """
    with database.writing() as connection:
        found = connection.execute(
            "UPDATE person SET token_sha256 = NULL WHERE name = :name RETURNING row", {"name": name}
        ).fetchone()
    if found is None:
        raise HubError(
            f'this hub has no person "{name}".',
            "acoupi hub people",
            why="they have not been added.",
        )


def get_people(database: HubDatabase) -> list[Person]:
    """Return the people of a hub, by name."""
    with database.reading() as connection:
        return [
            Person(name, role, has_token, from_microseconds(on))
            for name, role, has_token, on in connection.execute(
                "SELECT name, role, token_sha256 IS NOT NULL, added_on_us FROM person ORDER BY name"
            )
        ]
