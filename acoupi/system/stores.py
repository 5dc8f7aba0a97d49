"""The stores of a home, healed by a command; services do so by themselves."""

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.components.stores.healing import Healing
from acoupi.home import using_home
from acoupi.services.healing import Healer, Kept
from acoupi.services.sensor_state import alarms_file
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path, healings_here

__all__ = ["heal_stores", "healings_here"]


def heal_stores(settings: Settings) -> list[Healing]:
    """Set aside what is damaged, and fill a new file; return what was done.

    Raises
    ------
    AcoupiError
        If the home is not set up.
    """
    metadata = configured_path(settings, "paths.db_metadata")
    messages = configured_path(settings, "messaging.messages_db")
    alarms = alarms_file(settings)
    kept = Kept(
        None if metadata is None else SqliteStore(metadata),
        None if messages is None else SqliteMessageStore(messages),
        SqliteAlarmStore(alarms) if alarms.exists() else None,
        configured_path(settings, "paths.tmp_audio"),
        configured_path(settings, "paths.recordings"),
    )
    with using_home(settings.home):
        return Healer(kept).heal()
