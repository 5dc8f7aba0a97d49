"""Figures about a hub: its contents, waiting jobs, and workers."""

import datetime
from dataclasses import dataclass

from acoupi import data
from acoupi.data import from_microseconds
from acoupi.hub.database import HubDatabase
from acoupi.hub.schema import VERSION
from acoupi.hub.workers import ProgramWork, get_work

__all__ = ["HubFacts", "hub_facts"]

SILENT = datetime.timedelta(days=1)
"""Silence of a sensor that may report; sensors report at least once an hour."""

_SENSORS = """
    SELECT count(*), count(*) FILTER (
        WHERE token_sha256 IS NOT NULL AND coalesce(reported_on_us, added_on_us) < :since
    ), max(reported_on_us) FROM sensor
"""


@dataclass(frozen=True)
class HubFacts:
    """Figures about a hub from its database."""

    server: str
    """Version of PostgreSQL."""
    tables: int
    """Version of the tables."""
    database_bytes: int
    sensors: int
    silent: int
    """Sensors that may report and have not for a day."""
    reported_on: datetime.datetime | None
    """The time of the latest report of any sensor."""
    jobs: tuple[ProgramWork, ...]

    @property
    def without_worker(self) -> tuple[str, ...]:
        """Programs that have jobs and no worker."""
        return tuple(one.program for one in self.jobs if one.has_nobody)


def hub_facts(database: HubDatabase) -> HubFacts:
    """Read the figures from the database of a hub.

    Raises
    ------
    HubError
        If it does not answer, or is not a hub's.
    """
    now = data.utc_now()
    with database.reading() as connection:
        server = connection.one("SELECT current_setting('server_version')")[0]
        size = connection.one("SELECT pg_database_size(current_database())")[0]
        sensors, silent, last = connection.one(
            _SENSORS, {"since": data.to_microseconds(now - SILENT)}
        )
    return HubFacts(
        server=str(server).partition(" ")[0],
        tables=VERSION,
        database_bytes=int(size),
        sensors=sensors,
        silent=silent,
        reported_on=None if last is None else from_microseconds(last),
        jobs=tuple(get_work(database)),
    )
