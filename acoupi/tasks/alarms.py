"""The task that looks for faults of the sensor and reports them."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, Protocol

from acoupi import data
from acoupi.alarms.episodes import Alarm, judge
from acoupi.alarms.facts import Facts
from acoupi.alarms.limits import Alarms
from acoupi.alarms.rules import RULES
from acoupi.components import types
from acoupi.deferred import DeferredModel

__all__ = ["AlarmContent", "AlarmStore", "Look", "alarm_message", "generate_alarms_task"]

_logger = logging.getLogger(__name__)

Notes = dict[str, Any]
"""What a look leaves for the next one; JSON can hold it."""
Look = Callable[[Mapping[str, Any]], tuple[Facts, Notes]]
"""Finds the facts, given the notes of the last look."""

_WAITING = "waiting"
_DESCRIPTIONS: dict[str, str] = {rule.key: rule.description for rule in RULES}


class AlarmContent(DeferredModel):
    """The content of a message about an alarm."""

    alarm: str
    """Which fault it is, as in the list of alarms."""
    state: Literal["raised", "cleared"]
    """Whether the fault has begun or is over."""
    description: str
    """What the alarm means, in words."""
    detail: str
    """What was found, with its figures."""
    since: str
    """When the fault began, ISO 8601 in UTC."""
    until: str | None
    """When it ended; null where it has begun."""
    device_id: str
    """Id of the device."""


class AlarmStore(Protocol):
    """Where alarms are kept; see `acoupi.components.stores.alarms`."""

    def get_open(self) -> list[Alarm]:
        """Return the alarms that are active, or whose messages have not been made yet."""

    def get_notes(self) -> Notes:
        """Return the notes of the last look."""

    def put_look(self, alarms: Sequence[Alarm], notes: Notes) -> None:
        """Store alarms and notes in one transaction."""


def generate_alarms_task(
    look: Look,
    limits: Alarms,
    store: AlarmStore,
    message_store: types.MessageStore | None,
    device_id: Callable[[], str],
    *,
    logger: logging.Logger = _logger,
) -> Callable[[], None]:
    """Return a task that looks for faults and stores a message when one begins or ends.

    Each message has an id that its alarm determines, so that a crash between two steps makes
    no second one.

    Parameters
    ----------
    look
        Finds the facts.
    limits
        What counts as wrong.
    store
        Keeps the alarms.
    message_store
        Receives the messages; None: nothing is sent, and the alarms are only kept.
    device_id
        Returns the id of the device.
    """

    def alarms_task() -> None:
        """Look for faults, and report those that have started or ended."""
        notes = store.get_notes()
        before = {
            key: datetime.fromisoformat(text) for key, text in notes.get(_WAITING, {}).items()
        }
        facts, new_notes = look(notes)
        active = [one for one in store.get_open() if one.is_active]
        changed, waiting = judge(active, before, facts, limits)
        for one in changed:
            logger.warning("Alarm %s %s: %s", one.key, _state(one), one.detail)
        texts = {key: since.isoformat() for key, since in waiting.items()}
        store.put_look(changed, {**new_notes, _WAITING: texts})
        for one in store.get_open():
            if (told := _told(one, message_store, device_id)) != one:
                store.put_look([told], {})

    return alarms_task


def _state(alarm: Alarm) -> Literal["raised", "cleared"]:
    return "raised" if alarm.is_active else "cleared"


def _told(
    alarm: Alarm, message_store: types.MessageStore | None, device_id: Callable[[], str]
) -> Alarm:
    """Store the missing messages of an alarm; return its new state."""
    if message_store is not None:
        if not alarm.is_told:
            message_store.store_message(alarm_message(alarm, "raised", device_id()))
        if not alarm.is_active and not alarm.is_end_told:
            message_store.store_message(alarm_message(alarm, "cleared", device_id()))
    return replace(alarm, is_told=True, is_end_told=not alarm.is_active)


def alarm_message(
    alarm: Alarm, state: Literal["raised", "cleared"], device_id: str
) -> data.Message:
    """Return the message that an alarm was raised, or cleared."""
    end = alarm.ended_on if state == "cleared" else None
    content = AlarmContent(
        alarm=alarm.key,
        state=state,
        description=_DESCRIPTIONS.get(alarm.key, ""),
        detail=alarm.detail,
        since=alarm.since.isoformat(),
        until=None if end is None else end.isoformat(),
        device_id=device_id,
    )
    return data.Message(
        id=alarm.message_id(state, device_id),
        content=json.dumps(content.model_dump()),
        message_type=data.MessageType.ALARM,
    )
