"""The pending work of a sensor: recordings to process and messages to send."""

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore
from acoupi.config.sensor import load_sensor
from acoupi.data import AwareDatetime
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path
from acoupi.system.reporting import hub_state

__all__ = ["MessagesWaiting", "left_over", "waiting_messages"]


class MessagesWaiting(DeferredModel):
    """The messages that a messenger has yet to send."""

    messenger: str
    waiting: int
    paused_until: AwareDatetime | None = None
    """The server asked for no messages before this time."""
    expired: int = 0
    """Messages that had become too old to be sent."""
    bytes_today: int | None = None
    """Bytes of `bytes_per_day` used today (UTC); None: none, or there is no budget."""
    bytes_per_day: int | None = None

    def words(self) -> str:
        """Describe it.

        Examples
        --------
        >>> MessagesWaiting(messenger="http", waiting=3, expired=1).words()
        'http 3 (1 too old to be sent)'
        """
        notes = []
        if self.paused_until is not None:
            notes.append(f"none before {self.paused_until:%H:%M:%S} UTC, as the server asked")
        if self.expired:
            notes.append(f"{self.expired} too old to be sent")
        if self.bytes_per_day is not None and self.bytes_today is not None:
            today, most = (number / 1000 for number in (self.bytes_today, self.bytes_per_day))
            notes.append(f"{today:.0f} of {most:.0f} kB sent today")
        return f"{self.messenger} {self.waiting}" + (f" ({'; '.join(notes)})" if notes else "")


def waiting_messages(settings: Settings) -> list[MessagesWaiting]:
    """Return what each messenger has yet to send; nothing if that cannot be read."""
    path = configured_path(settings, "messaging.messages_db")
    if path is None:
        return []
    store = SqliteMessageStore(path)
    try:
        counts, pauses = store.count_deliveries(), store.get_pauses()
        spent, budget = store.get_bytes_sent(), load_sensor(settings).outbox.bytes_per_day
    except AcoupiError:
        return []  # `program_state` reports it
    finally:
        store.close()
    return [
        MessagesWaiting(
            messenger=name,
            waiting=states.get("pending", 0),
            paused_until=pauses.get(name),
            expired=states.get("expired", 0),
            bytes_today=spent.get(name),
            bytes_per_day=budget,
        )
        for name, states in counts.items()
    ]


def left_over(settings: Settings) -> list[str]:
    """Return the work left when the services have stopped, one sentence for each kind."""
    found = []
    if pending := _recordings_in_spool(settings):
        found.append(f"{_counted(pending, 'recording')} to be processed by the next start.")
    found += [
        f"{_counted(one.waiting, 'message')} to be sent to {one.messenger} after the next start."
        for one in waiting_messages(settings)
        if one.waiting
    ]
    hub = hub_state(settings)
    sounds = hub.sound.waiting if hub is not None and hub.sound is not None else 0
    if hub is not None and hub.waiting:
        found.append(
            f"{_counted(hub.waiting, 'change')} to be reported to the hub after the next start."
        )
    if sounds:
        found.append(
            f"{_counted(sounds, 'sound file')} to be sent to the hub after the next start."
        )
    return found


def _counted(number: int, what: str) -> str:
    return f"{number} {what} waits" if number == 1 else f"{number} {what}s wait"


def _recordings_in_spool(settings: Settings) -> int:
    path = configured_path(settings, "paths.db_metadata")
    if path is None:
        return 0
    store = SqliteStore(path)
    try:
        return len(store.get_captured_recordings())
    except AcoupiError:
        return 0
    finally:
        store.close()
