"""What people say of detections at a hub."""

from acoupi.heard import VerdictRow
from acoupi.hub.database import HubDatabase
from acoupi.hub.taking_in import PUT_VERDICT, verdict_values

__all__ = ["put_verdict"]


def put_verdict(database: HubDatabase, verdict: VerdictRow) -> None:
    """Store what a person says of a detection, or of a whole recording; the same again is none.

    Raises
    ------
    HubError
        If the database cannot be written.
    """
    with database.writing() as connection:
        connection.plain.execute(PUT_VERDICT, verdict_values(verdict))
