"""Messages received over MQTT, from sensors that a hub knows and from strangers."""

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from acoupi import data
from acoupi.components.messengers.mqtt_session import Publication
from acoupi.data import from_microseconds, to_microseconds
from acoupi.errors import HubError
from acoupi.hub.database import Connection, HubDatabase, storable_time
from acoupi.hub.messages import MessageRow, put_messages

__all__ = ["Stranger", "get_strangers", "put_publications"]

MOST_STRANGERS = 1000
"""Most strangers kept by name; all others are counted as `OTHERS`."""
OTHERS = "(others)"
LONGEST_NAME = 64

_SEEN = "UPDATE sensor SET reported_on_us = :now WHERE row = ANY(:rows)"
_PUT_STRANGER = """
    INSERT INTO stranger (name, topic, messages, first_on_us, last_on_us)
    SELECT CASE WHEN count(*) < :most OR bool_or(name = :name) THEN :name ELSE :others END,
        :topic, 1, CAST(:now AS BIGINT), CAST(:now AS BIGINT)
    FROM stranger
    ON CONFLICT (name) DO UPDATE SET
        topic = excluded.topic, messages = stranger.messages + 1, last_on_us = excluded.last_on_us
    RETURNING name, messages
"""


@dataclass(frozen=True)
class Stranger:
    """A sender whose messages were not stored, because no sensor has that name."""

    name: str
    topic: str
    """Topic of the last message."""
    messages: int
    """Number of messages."""
    first_on: datetime
    last_on: datetime


def put_publications(database: HubDatabase, publications: Sequence[Publication]) -> list[str]:
    """Store messages, each once; return the names of new strangers.

    The sensor is the one named by a level of the topic, else by the id of its device. A topic that
    names two sensors belongs to neither: whoever may publish below one could speak for the other.
    Publications of a state (online, offline, a figure) are not messages.

    Raises
    ------
    HubError
        If the database cannot store them; then none is stored.
    """
    now = to_microseconds(data.utc_now())
    new: list[str] = []
    known: list[MessageRow] = []
    with database.writing() as connection:
        sensors = _sensors(connection, publications)
        for one in publications:
            if one.is_retained:
                continue
            row = _sensor_of(one, sensors)
            if row is None:
                new += _put_stranger(connection, one, sensors, now)
            else:
                known.append(_message(one, row, now))
        put_messages(connection, known)
        seen = sorted({one.sensor_row for one in known})
        connection.execute(_SEEN, {"rows": seen, "now": now})
    return new


def get_strangers(database: HubDatabase) -> list[Stranger]:
    """Return strangers, the latest first, except those added as sensors since.

    Raises
    ------
    HubError
        If the database cannot be read.
    """
    statement = """
        SELECT name, topic, messages, first_on_us, last_on_us FROM stranger
        WHERE name NOT IN (SELECT id FROM sensor) ORDER BY last_on_us DESC, name
    """
    with database.reading() as connection:
        return [
            Stranger(name, topic, number, from_microseconds(first), from_microseconds(last))
            for name, topic, number, first, last in connection.execute(statement)
        ]


def _sensors(connection: Connection, publications: Iterable[Publication]) -> dict[str, int]:
    names = {name for one in publications for name in _names(one)}
    found = connection.execute(
        "SELECT id, row FROM sensor WHERE id = ANY(:names)", {"names": sorted(names)}
    )
    return dict(found.fetchall())


def _names(one: Publication) -> Iterator[str]:
    """Yield possible names of a message's sensor."""
    yield from one.topic.split("/")
    if device := one.labels.get("device_id"):
        yield device


def _sensor_of(one: Publication, sensors: dict[str, int]) -> int | None:
    named = {sensors[name] for name in one.topic.split("/") if name in sensors}
    if not named:
        return sensors.get(one.labels.get("device_id", ""))
    return named.pop() if len(named) == 1 else None


def _put_stranger(
    connection: Connection, one: Publication, sensors: dict[str, int], now: int
) -> list[str]:
    levels = one.topic.split("/")
    if levels[-1] in _TYPES:
        levels.pop()
    name = one.labels.get("device_id") or levels[-1]
    name = (one.topic if name in sensors else name)[:LONGEST_NAME]
    values = {
        "name": name, "topic": one.topic, "now": now, "most": MOST_STRANGERS, "others": OTHERS,
    }  # fmt: skip
    name, number = connection.one(_PUT_STRANGER, values)
    return [name] if number == 1 else []


_TYPES = frozenset(one.value for one in data.MessageType)


def _message(one: Publication, sensor: int, now: int) -> MessageRow:
    text = one.content.decode(errors="replace")
    said = _document(text)
    time = _time(said.get("sent_on"), now)
    return MessageRow(_id(one, sensor).bytes, sensor, _type(one, said), time, text)


def _document(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _id(one: Publication, sensor: int) -> uuid.UUID:
    """Return the id of a message; if it has none, one made from its topic and content."""
    try:
        return uuid.UUID(one.labels.get("message_id", ""))
    except ValueError:
        return uuid.uuid5(uuid.NAMESPACE_OID, f"{sensor} {one.topic} {one.content.hex()}")


def _type(one: Publication, said: dict[str, Any]) -> str | None:
    last = one.topic.rpartition("/")[2]
    if last in _TYPES:
        return last
    if {"sent_on", "device_id", "status"} <= said.keys():
        return data.MessageType.HEARTBEAT.value
    if {"alarm", "state", "since"} <= said.keys():
        return data.MessageType.ALARM.value
    return None


def _time(said: object, now: int) -> int:
    try:
        time = datetime.fromisoformat(said) if isinstance(said, str) else None
        return now if time is None or time.tzinfo is None else storable_time(time)
    except (ValueError, HubError):
        return now
