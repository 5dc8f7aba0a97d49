"""The holders of a hub's tokens: sensors, workers that analyse, and people who read."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from acoupi.hub.database import HubDatabase

__all__ = ["ROLES", "Caller", "caller_of", "caller_with", "digest_of"]

ROLES = ("reader", "reviewer", "operator")
"""Roles of people; each may do everything that the earlier ones may."""

_CALLER = """
    SELECT 'sensor', id, row, '' FROM sensor WHERE token_sha256 = :digest
    UNION ALL SELECT 'worker', name, row, program FROM worker WHERE token_sha256 = :digest
    UNION ALL SELECT 'person', name, row, role FROM person WHERE token_sha256 = :digest
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """The sensor, worker or person that makes a request to a hub."""

    kind: Literal["sensor", "worker", "person"]
    name: str
    row: int
    """Its row in the table of its kind."""
    scope: str
    """Role of a person, program of a worker; empty for a sensor."""

    def is_one_of(self, allowed: tuple[str, ...]) -> bool:
        """Return whether it is a sensor, a worker, or a person of one of these roles.

        Examples
        --------
        >>> Caller("person", "ada", 1, "operator").is_one_of(("worker", "reviewer"))
        True
        >>> Caller("person", "bob", 2, "reader").is_one_of(("worker", "reviewer"))
        False
        >>> Caller("worker", "shed", 3, "birds").is_one_of(("worker", "reviewer"))
        True
        """
        if self.kind != "person":
            return self.kind in allowed
        has = ROLES[: ROLES.index(self.scope) + 1] if self.scope in ROLES else ()
        return any(role in allowed for role in has)


def digest_of(token: str) -> bytes:
    """Return the digest of a token that a hub keeps."""
    return hashlib.sha256(token.encode()).digest()


def caller_of(database: HubDatabase, token: str) -> Caller | None:
    """Return the holder of a token; None if there is none.

    Raises
    ------
    HubError
        If the database cannot be read.
    """
    return caller_with(database, digest_of(token))


def caller_with(database: HubDatabase, digest: bytes) -> Caller | None:
    """Return the holder of the token with this digest; see `caller_of`."""
    with database.writing() as connection:
        found = connection.execute(_CALLER, {"digest": digest}).fetchone()
    return None if found is None else Caller(*found)
