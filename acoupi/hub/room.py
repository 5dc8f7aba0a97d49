"""The free space of a hub's sensors, from their heartbeats, and what they gave up."""

from collections import defaultdict

from acoupi import data
from acoupi.data import from_microseconds
from acoupi.fleet.judging import Fleet
from acoupi.fleet.room import GivenUpThere, SensorRoom
from acoupi.hub.database import LONGEST_STATEMENT, HubDatabase
from acoupi.hub.heartbeats import put_reported

__all__ = ["rooms_of"]

_GIVEN_UP = """
    SELECT s.id, g.class, count(*), sum(g.duration_s), sum(g.bytes), max(g.given_up_on_us)
    FROM given_up g JOIN recording r ON r.row = g.recording_row
    JOIN deployment w ON w.row = r.deployment_row JOIN sensor s ON s.row = w.sensor_row
    GROUP BY s.id, g.class
"""


def rooms_of(database: HubDatabase, longest: float | None = LONGEST_STATEMENT) -> list[SensorRoom]:
    """Return the room of every sensor: the least first, then those that do not report it.

    Parameters
    ----------
    longest
        As for `HubDatabase.reading`.

    Raises
    ------
    HubError
        If the database cannot be read.
    """
    fleet = Fleet(data.utc_now())
    put_reported(fleet, database, longest=longest)
    gone: defaultdict[str, dict[str, GivenUpThere]] = defaultdict(dict)
    with database.reading(longest) as connection:
        every = [name for (name,) in connection.execute("SELECT id FROM sensor")]
        for name, kind, files, seconds, size, last in connection.execute(_GIVEN_UP):
            gone[name][kind] = GivenUpThere(files, seconds, int(size), from_microseconds(last))
    rooms = {
        one.sensor: SensorRoom(
            one.sensor, one.disk_hours_left, one.heartbeat_on, gone.get(one.sensor, {})
        )
        for one in fleet.rows()
    }
    unheard = {name: SensorRoom(name, None, None, gone.get(name, {})) for name in every}
    return sorted((unheard | rooms).values(), key=_least_first)


def _least_first(one: SensorRoom) -> tuple[bool, float, str]:
    return one.hours_left is None, one.hours_left or 0.0, one.sensor
