"""What a sensor has still to do: recordings to process and messages to send."""

from pydantic import BaseModel

from acoupi.components.message_stores import SqliteMessageStore
from acoupi.components.stores import SqliteStore
from acoupi.data import AwareDatetime
from acoupi.errors import AcoupiError
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path

__all__ = ["MessagesWaiting", "left_over", "waiting_messages"]


class MessagesWaiting(BaseModel):
    """The messages that a messenger has still to send."""

    messenger: str
    waiting: int
    paused_until: AwareDatetime | None = None
    """The server asked to be sent nothing before."""

    def words(self) -> str:
        """Describe it."""
        text = f"{self.messenger} {self.waiting}"
        if self.paused_until is None:
            return text
        return f"{text} (none before {self.paused_until:%H:%M:%S} UTC, as the server asks)"


def waiting_messages(settings: Settings) -> list[MessagesWaiting]:
    """Return what each messenger has still to send; nothing if that cannot be read."""
    path = configured_path(settings, "messaging.messages_db")
    if path is None:
        return []
    store = SqliteMessageStore(path)
    try:
        counts, pauses = store.count_deliveries(), store.get_pauses()
    except AcoupiError:
        return []  # `program_state` tells it
    finally:
        store.close()
    return [
        MessagesWaiting(
            messenger=name, waiting=states.get("pending", 0), paused_until=pauses.get(name)
        )
        for name, states in counts.items()
    ]


def left_over(settings: Settings) -> list[str]:
    """Return what is left to do when the services have stopped, one sentence for each kind."""
    found = []
    if pending := _recordings_in_spool(settings):
        found.append(f"{_counted(pending, 'recording')} to be processed by the next start.")
    found += [
        f"{_counted(one.waiting, 'message')} to be sent to {one.messenger} after the next start."
        for one in waiting_messages(settings)
        if one.waiting
    ]
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
