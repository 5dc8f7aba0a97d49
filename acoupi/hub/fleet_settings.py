"""Changing settings and images of sensors from a hub: checked for all, tried by some first."""

import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from acoupi.data import to_microseconds
from acoupi.errors import ConfigurationError, HubError, ParameterError
from acoupi.fleet.judging import Fleet
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.fleet_checks import Schema, schema_of, value_of
from acoupi.hub.fleet_overlays import BASE, IMAGE, Overlays, nested, place_of, words_of
from acoupi.hub.fleet_standing import InForce, get_standings
from acoupi.hub.heartbeats import put_reported
from acoupi.offers import IMAGE as OF_IMAGES
from acoupi.offers import Envelope, Offer, public_key, sealed
from acoupi.targets import targets_that

__all__ = ["Change", "hub_key", "set_group", "set_image", "set_key", "set_value", "unset_value"]

NAMED = 5
"""Most sensors that are named as unfit to judge a change by."""
LOOKED_AT = 20
"""Newest heartbeats and alarms by which a sensor is judged."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Change:
    """How a change is to be made."""

    private: str
    """The operator's key."""
    now: datetime
    first: int = 1
    """Sensors that try it before the others get it."""
    minutes: float = 60
    """Minutes within which a sensor must be well with it, and have recorded."""


class Offered(NamedTuple):
    """The outcome of a change."""

    first: list[str]
    """Sensors that try it first."""
    others: list[str]
    notes: list[str]
    """Remarks on sensors that were not checked here, or do not follow the hub."""


def hub_key(connection: Connection) -> str | None:
    """Return the operator's public key; None if the hub has none yet."""
    found = connection.execute("SELECT public FROM fleet_key").fetchone()
    return None if found is None else str(found[0])


def set_key(database: HubDatabase, public: str, *, replace: bool = False) -> None:
    """Store the operator's public key at the hub.

    Parameters
    ----------
    replace
        Whether to replace another key; settings signed by that one are no longer given.

    Raises
    ------
    HubError
        If the hub has another key.
    """
    with database.writing() as connection:
        known = hub_key(connection)
        if known not in (None, public) and not replace:
            raise HubError(
                "the hub has another key.",
                "acoupi fleet keys --key FILE   (with that key, or --replace)",
                why=f"its sensors follow the public key {known}.",
            )
        connection.execute("DELETE FROM fleet_key")
        connection.execute("INSERT INTO fleet_key (public) VALUES (:public)", {"public": public})


def set_value(database: HubDatabase, name: str, setting: str, text: str, change: Change) -> Offered:
    """Change a setting for all sensors ("base"), for a group, or for one.

    Raises
    ------
    AcoupiError
        If there is no such group, sensor or setting, one of the sensors cannot have it, no sensor
        can try it, another change is on trial, or the key is not the hub's.
    """
    if setting == IMAGE:
        raise ParameterError(
            setting,
            f'"{IMAGE}" is not a setting.',
            f"acoupi fleet update {name} {text}",
            why="it is the image from which the containers of a sensor run.",
        )

    def changed(overlays: Overlays, sensors: list[InForce]) -> tuple[Overlays, str]:
        place = place_of(name, overlays, [one.sensor for one in sensors])
        schemas = [schema_of(one) for one in _at(place, overlays, sensors)]
        value = value_of(schemas, setting, text)
        what = f"{setting} = {json.dumps(value, ensure_ascii=False)} for {words_of(place)}"
        return overlays.with_value(place, setting, value), what

    return _change(database, changed, change)


def set_image(database: HubDatabase, name: str, image: str, change: Change) -> Offered:
    """Have all sensors ("base"), a group, or one run from an image; see `set_value`.

    Raises
    ------
    AcoupiError
        If one cannot: only sensors in containers that a person set up take images from a hub.
    """
    if not re.fullmatch(OF_IMAGES, image):
        raise ParameterError(
            image,
            f'"{image}" cannot be the name of an image.',
            "acoupi fleet update base ghcr.io/me/sensor@sha256:…",
            why="it is a name for docker pull.",
        )

    def changed(overlays: Overlays, sensors: list[InForce]) -> tuple[Overlays, str]:
        place = place_of(name, overlays, [one.sensor for one in sensors])
        for one in _at(place, overlays, sensors):
            _require_containers(one)
        return overlays.with_value(place, IMAGE, image), f"the image {image} for {words_of(place)}"

    return _change(database, changed, change)


def _takes_images(sensor: InForce) -> bool:
    """Return whether a sensor can get an image from a hub: it runs in containers of its machine."""
    return sensor.target in targets_that(lambda kind: kind.needs_engine)


def _require_containers(sensor: InForce) -> None:
    """Raise unless a hub can let a sensor run from another image."""
    if _takes_images(sensor):
        return
    why, remedy = "it has not reported that it follows this hub", "acoupi fleet follow   (there)"
    if sensor.target is not None:
        why = f'it runs on the target "{sensor.target}", from the installed package'
        remedy = "acoupi help moving-and-updating"
    elif sensor.number is not None:
        why = "it sets itself up from variables, and its image is chosen where it is deployed"
        remedy = "a balena release, or the image in its Kubernetes or Compose files"
    raise ConfigurationError(
        f"the sensor {sensor.sensor} cannot get an image from the hub.", remedy, why=f"{why}."
    )


def unset_value(database: HubDatabase, name: str, setting: str, change: Change) -> Offered:
    """Withdraw a setting; see `set_value`."""

    def changed(overlays: Overlays, sensors: list[InForce]) -> tuple[Overlays, str]:
        place = place_of(name, overlays, [one.sensor for one in sensors])
        return overlays.without(place, setting), f"{setting} unset for {words_of(place)}"

    return _change(database, changed, change)


def set_group(database: HubDatabase, name: str, sensors: list[str], change: Change) -> Offered:
    """Make a group of exactly these sensors; see `set_value`."""

    def changed(overlays: Overlays, known: list[InForce]) -> tuple[Overlays, str]:
        names = {one.sensor for one in known}
        if unknown := sorted(set(sensors) - names):
            place_of(unknown[0], overlays._replace(groups={}), sorted(names))
        if name == BASE or name in names:
            raise ParameterError(
                "NAME",
                f'a group cannot be called "{name}".',
                f"acoupi fleet group {name}-group …",
                why="that is the name of all sensors, or of one of them.",
            )
        return overlays.with_group(name, sensors), f"the group {name}: {', '.join(sensors)}"

    return _change(database, changed, change)


def _at(place: str, overlays: Overlays, sensors: list[InForce]) -> list[InForce]:
    """Return the sensors that a place covers."""
    kind, _, name = place.partition("/")
    if kind == "group":
        return [one for one in sensors if overlays.groups.get(one.sensor) == name]
    return [one for one in sensors if kind == BASE or one.sensor == name]


Changed = Callable[[Overlays, list[InForce]], tuple[Overlays, str]]


def _change(database: HubDatabase, changed: Changed, change: Change) -> Offered:
    well = _well(database, change.now)
    with database.writing() as connection:
        connection.execute("LOCK TABLE fleet_change IN EXCLUSIVE MODE")
        _require_key(connection, change.private)
        _require_none(connection)
        sensors = get_standings(connection)
        before = Overlays.read(connection)
        after, what = changed(before, sensors)
        wanted = {one.sensor: _Wanted.of(after, one) for one in sensors}
        concerned = [
            one for one in sensors if not wanted[one.sensor].is_in(_newest(connection, one, HAD))
        ]
        schemas = [schema_of(one) for one in concerned]
        for schema in schemas:
            schema.check(wanted[schema.sensor.sensor].settings)
        after.write(connection)
        if not concerned:
            return Offered([], [], [])
        first = _first(connection, concerned, well, change)
        row = _put_change(connection, what, before, change)
        for one in concerned:
            values = _signed(connection, one, wanted[one.sensor], change)
            is_first = one.sensor in first
            values |= {
                "change": row,
                "state": "offered" if is_first else "waiting",
                "is_first": is_first,
                "was_well": one.sensor in well,
                "offered_on": to_microseconds(change.now) if is_first else None,
            }
            connection.execute(_PUT, values)
    names = [one.sensor for one in concerned]
    return Offered(
        first,
        [name for name in names if name not in first],
        [note for one in schemas for note in _notes(one)],
    )


class _Wanted(NamedTuple):
    """The settings that a sensor should have."""

    settings: dict[str, Any]
    """By dotted name."""
    image: str | None

    @classmethod
    def of(cls, overlays: Overlays, sensor: InForce) -> "_Wanted":
        settings = overlays.of(sensor.sensor)
        image = settings.pop(IMAGE, None)
        return cls(settings, image if _takes_images(sensor) else None)

    def is_in(self, offer: Offer) -> bool:
        return (nested(self.settings), self.image) == (offer.settings, offer.image)


def _notes(one: Schema) -> Iterator[str]:
    if one.model is None:
        yield f"{one.sensor.sensor} could not be checked here: {one.why}."
    if one.sensor.number is None:
        yield f"{one.sensor.sensor} has not reported that it follows this hub."


def _well(database: HubDatabase, now: datetime) -> set[str]:
    fleet = Fleet(now, judges_effort=False)
    put_reported(fleet, database, most=LOOKED_AT)
    return {row.sensor for row in fleet.rows() if row.state == "well"}


def _require_key(connection: Connection, private: str) -> None:
    known = hub_key(connection)
    if known is None:
        raise HubError(
            "this hub has no key for settings.",
            "acoupi fleet keys",
            why="settings must be signed, and the hub has no public key yet.",
        )
    if public_key(private) != known:
        raise HubError(
            "the hub refuses a signature by another key.",
            "acoupi fleet set … --key FILE",
            why=f"its sensors follow the public key {known}.",
        )


def _require_none(connection: Connection) -> None:
    found = connection.execute(
        "SELECT what FROM fleet_change WHERE state IN ('first', 'all')"
    ).fetchone()
    if found is not None:
        raise HubError(
            "another change is on trial.",
            "acoupi fleet set --status",
            why=f"only one change at a time is tried: {found[0]}.",
        )


# A sensor's current settings: from its last document, or those before if it was undone.
HAD, GOOD = ["offered", "good", "undone"], ["good", "undone"]
_LAST = """
    SELECT CASE state WHEN 'undone' THEN undo_document ELSE document END
    FROM fleet_document WHERE sensor_row = :row AND state = ANY(:states)
    ORDER BY number DESC LIMIT 1
"""


def _newest(connection: Connection, sensor: InForce, states: list[str]) -> Offer:
    """Return a sensor's newest document in one of these states; an empty one if none."""
    values = {"row": sensor.row, "states": states}
    found = connection.execute(_LAST, values).fetchone()
    if found is None:
        return Offer(sensor=sensor.sensor, number=0, minutes=1, settings={})
    return Offer.model_validate_json(found[0])


_RECORDED = """
    SELECT 1 FROM deployment w JOIN recording r ON r.deployment_row = w.row
    WHERE w.sensor_row = :row AND r.created_on_us >= :since LIMIT 1
"""


def _first(
    connection: Connection, concerned: list[InForce], well: set[str], change: Change
) -> list[str]:
    """Return the sensors that try a change first.

    Raises
    ------
    ConfigurationError
        If there are too few sensors to judge it by.
    """
    found = {one.sensor: _obstacle(connection, one, well, change) for one in concerned}
    able = [name for name, what in found.items() if what is None]
    wanted = min(change.first, len(concerned))
    if len(able) < wanted:
        named = [f"{name} {what}" for name, what in found.items() if what is not None]
        more = f", and {len(named) - NAMED} more" if len(named) > NAMED else ""
        raise ConfigurationError(
            "there would be too few sensors to judge this change by.",
            "acoupi fleet follow (on the sensor), acoupi fleet status, or --minutes 1440 where "
            "they record only at night",
            why=f"{wanted} should try it first, but {', '.join(named[:NAMED])}{more}.",
        )
    return able[:wanted]


def _obstacle(
    connection: Connection, sensor: InForce, well: set[str], change: Change
) -> str | None:
    """Return why a sensor cannot try a change; None if it can."""
    if sensor.number is None:
        return "does not follow the hub"
    if sensor.sensor not in well:
        return "is not well"
    since = to_microseconds(change.now - timedelta(minutes=change.minutes))
    if connection.execute(_RECORDED, {"row": sensor.row, "since": since}).fetchone() is None:
        return f"recorded nothing within {change.minutes:g} minutes"
    return None


def _put_change(connection: Connection, what: str, before: Overlays, change: Change) -> int:
    (row,) = connection.one(
        "INSERT INTO fleet_change"
        " (what, minutes, state, began_on_us, overlays_before, members_before)"
        " VALUES (:what, :minutes, 'first', :now, :overlays, :members) RETURNING row",
        {
            "what": what,
            "minutes": change.minutes,
            "now": to_microseconds(change.now),
            "overlays": json.dumps(before.settings),
            "members": json.dumps(before.groups),
        },
    )
    return int(row)


_PUT = """
    INSERT INTO fleet_document (
        sensor_row, number, change_row, state, is_first, was_well, offered_on_us,
        document, signature, undo_document, undo_signature
    ) VALUES (
        :sensor, :number, :change, :state, :is_first, :was_well, :offered_on,
        :document, :signature, :undo_document, :undo_signature
    )
"""


def _signed(
    connection: Connection, sensor: InForce, wanted: _Wanted, change: Change
) -> dict[str, Any]:
    """Sign the settings for a sensor, and those to return to if they are undone."""
    number = _next_number(connection, sensor)
    good = _newest(connection, sensor, GOOD)

    def offer(number: int, settings: dict[str, Any], image: str | None) -> Envelope:
        made = Offer(
            sensor=sensor.sensor,
            number=number,
            minutes=change.minutes,
            settings=settings,
            image=image,
        )
        return sealed(change.private, made)

    new = offer(number, nested(wanted.settings), wanted.image)
    undo = offer(number + 1, good.settings, good.image)
    return {
        "sensor": sensor.row,
        "number": number,
        "document": new.document,
        "signature": new.signature,
        "undo_document": undo.document,
        "undo_signature": undo.signature,
    }


def _next_number(connection: Connection, sensor: InForce) -> int:
    """Return a number higher than any signed for a sensor so far, or in force there."""
    (last,) = connection.one(
        "SELECT coalesce(max(number), -1) FROM fleet_document WHERE sensor_row = :row",
        {"row": sensor.row},
    )
    return max(int(last) + 2, (sensor.number or 0) + 1, sensor.refused + 1)
