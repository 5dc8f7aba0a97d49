"""Who has a token of a hub: a sensor, a worker that analyses, or a person who reads."""

import hashlib
from dataclasses import dataclass
from typing import Literal

from acoupi.hub.database import HubDatabase

__all__ = ["ROLES", "Caller", "caller_of", "caller_with", "digest_of"]

ROLES = ("reader", "reviewer", "operator")
"""Of people; each may do all that those before it may."""

_CALLER = """
    SELECT 'sensor', id, row, '' FROM sensor WHERE token_sha256 = :digest
    UNION ALL SELECT 'worker', name, row, program FROM worker WHERE token_sha256 = :digest
    UNION ALL SELECT 'person', name, row, role FROM person WHERE token_sha256 = :digest
"""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks something of a hub."""

    kind: Literal["sensor", "worker", "person"]
    name: str
    row: int
    """In the table of its kind."""
    scope: str
    """Role of a person, program of a worker; empty for a sensor."""

    def is_one_of(self, allowed: tuple[str, ...]) -> bool:
        """Return whether it may do what sensors, workers, or people of some roles may.

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
    """Return what a hub keeps of a token."""
    return hashlib.sha256(token.encode()).digest()


def caller_of(database: HubDatabase, token: str) -> Caller | None:
    """Return who has a token; None if nobody has it.

    Raises
    ------
    HubError
        If the database cannot be read.
    """
    return caller_with(database, digest_of(token))


def caller_with(database: HubDatabase, digest: bytes) -> Caller | None:
    """Return whose token has a digest; as `caller_of`."""
    with database.writing() as connection:
        found = connection.execute(_CALLER, {"digest": digest}).fetchone()
    return None if found is None else Caller(*found)
