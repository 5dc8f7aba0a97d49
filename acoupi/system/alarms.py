"""The alarms of a sensor, from the file in which its services store them."""

from datetime import datetime

from acoupi.alarms.episodes import Alarm, suspect_spans
from acoupi.alarms.rules import RULES
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.stores.database import stores_that_only_read
from acoupi.data import AwareDatetime, utc_now
from acoupi.deferred import DeferredModel
from acoupi.services.alarm_file import alarms_file
from acoupi.stack.settings import Settings

__all__ = ["AlarmState", "active_alarms", "alarm_store", "every_alarm", "suspect_times"]

_DESCRIPTIONS: dict[str, str] = {rule.key: rule.description for rule in RULES}


class AlarmState(DeferredModel):
    """One alarm."""

    alarm: str
    """Its name."""
    description: str
    detail: str
    since: AwareDatetime
    until: AwareDatetime | None
    """None while it is active."""

    @classmethod
    def of(cls, alarm: Alarm) -> "AlarmState":
        """Return an alarm in words."""
        return cls(
            alarm=alarm.key,
            description=_DESCRIPTIONS.get(alarm.key, ""),
            detail=alarm.detail,
            since=alarm.since,
            until=alarm.ended_on,
        )


def alarm_store(settings: Settings) -> SqliteAlarmStore | None:
    """Return the alarms of a home, for reading; None if it has never looked for faults."""
    path = alarms_file(settings)
    if not path.exists():
        return None
    with stores_that_only_read():
        return SqliteAlarmStore(path)


def active_alarms(settings: Settings) -> list[AlarmState]:
    """Return the alarms that are active, the oldest first.

    Raises
    ------
    AlarmStoreError
        If they cannot be read.
    """
    store = alarm_store(settings)
    return [] if store is None else [AlarmState.of(one) for one in store.get_active()]


def suspect_times(settings: Settings) -> list[tuple[datetime, datetime]]:
    """Return when the microphone was deaf by its own trend; in order, without overlap.

    Raises
    ------
    AlarmStoreError
        If the alarms cannot be read.
    """
    store = alarm_store(settings)
    return [] if store is None else suspect_spans(store.get_alarms(), utc_now())


def every_alarm(settings: Settings, since: datetime | None = None) -> list[AlarmState]:
    """Return the alarms since a time, including past ones, the oldest first.

    Raises
    ------
    AlarmStoreError
        If they cannot be read.
    """
    store = alarm_store(settings)
    return [] if store is None else [AlarmState.of(one) for one in store.get_alarms(since)]
