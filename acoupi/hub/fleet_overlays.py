"""Settings that a hub gives to all sensors, to a group, or to one; the last wins."""

import json
from typing import Any, NamedTuple

from acoupi.errors import ParameterError
from acoupi.hub.database import Connection

__all__ = ["BASE", "IMAGE", "Overlays", "nested", "place_of"]

BASE = "base"
IMAGE = "sensor.image"
"""Stored among the settings without being one: the image of the containers."""


class Overlays(NamedTuple):
    """All settings that a hub gives, and the groups of sensors."""

    settings: dict[str, dict[str, Any]]
    """Values by place ("base", "group/NAME", "sensor/NAME") and setting."""
    groups: dict[str, str]
    """The group of each sensor that is in one."""

    @classmethod
    def read(cls, connection: Connection) -> "Overlays":
        """Read them from the database."""
        settings: dict[str, dict[str, Any]] = {}
        for place, setting, value in connection.execute(
            "SELECT place, setting, value FROM fleet_overlay ORDER BY place, setting"
        ):
            settings.setdefault(place, {})[setting] = json.loads(value)
        members = connection.execute(
            "SELECT s.id, m.name FROM fleet_member m JOIN sensor s ON s.row = m.sensor_row"
        )
        return cls(settings, dict(members.fetchall()))

    def write(self, connection: Connection) -> None:
        """Replace those in the database with these."""
        connection.execute("DELETE FROM fleet_overlay")
        connection.execute("DELETE FROM fleet_member")
        for place, settings in self.settings.items():
            for setting, value in settings.items():
                values = {"place": place, "setting": setting, "value": json.dumps(value)}
                connection.execute(
                    "INSERT INTO fleet_overlay VALUES (:place, :setting, :value)", values
                )
        for sensor, group in self.groups.items():
            connection.execute(
                "INSERT INTO fleet_member SELECT row, :group FROM sensor WHERE id = :sensor",
                {"group": group, "sensor": sensor},
            )

    def of(self, sensor: str) -> dict[str, Any]:
        """Return the settings of a sensor, by dotted name, and `IMAGE`."""
        places = [BASE, f"group/{self.groups.get(sensor)}", f"sensor/{sensor}"]
        return {
            name: value for place in places for name, value in self.settings.get(place, {}).items()
        }

    def with_value(self, place: str, setting: str, value: Any) -> "Overlays":
        """Return these with one value set."""
        there = self.settings.get(place, {}) | {setting: value}
        return self._replace(settings=self.settings | {place: there})

    def without(self, place: str, setting: str) -> "Overlays":
        """Return these without one value.

        Raises
        ------
        ParameterError
            If there is none.
        """
        there = dict(self.settings.get(place, {}))
        if setting not in there:
            raise ParameterError(
                setting,
                f'"{setting}" is not set for {words_of(place)}.',
                "acoupi fleet list",
                why=f"set there: {', '.join(there) or 'nothing'}.",
            )
        del there[setting]
        return self._replace(settings=self.settings | {place: there})

    def with_group(self, name: str, sensors: list[str]) -> "Overlays":
        """Return these with a group of exactly these sensors."""
        others = {one: group for one, group in self.groups.items() if group != name}
        return self._replace(groups=others | dict.fromkeys(sensors, name))


def place_of(name: str, overlays: Overlays, sensors: list[str]) -> str:
    """Return the place that a name means.

    Raises
    ------
    ParameterError
        If there is no such group or sensor.
    """
    groups = set(overlays.groups.values())
    if name == BASE:
        return BASE
    if name in groups:
        return f"group/{name}"
    if name in sensors:
        return f"sensor/{name}"
    raise ParameterError(
        "GROUP",
        f'there is no group and no sensor "{name}".',
        f"acoupi fleet group {name} SENSOR…   (or acoupi hub add-sensor {name})",
        why=f"there are base, {', '.join(sorted({*groups, *sensors})) or 'and no others'}.",
    )


def words_of(place: str) -> str:
    """Return a place in words."""
    kind, _, name = place.partition("/")
    return f"the {kind} {name}" if name else "all sensors"


def nested(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings by dotted name in the form of a configuration file.

    Examples
    --------
    >>> nested({"recording.duration": 5, "sensor.disk.enabled": True})
    {'recording': {'duration': 5}, 'sensor': {'disk': {'enabled': True}}}
    """
    found: dict[str, Any] = {}
    for name, value in settings.items():
        *above, last = name.split(".")
        section = found
        for one in above:
            below = section.get(one)
            section[one] = section = below if isinstance(below, dict) else {}
        section[last] = value
    return found
