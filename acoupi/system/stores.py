"""Healing the stores of a home by a command; services also do this themselves."""

from dataclasses import replace

from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.healings import Healing
from acoupi.errors import AcoupiError
from acoupi.home import using_home
from acoupi.services.healing import Healer, Kept, alarms_of, kept_by
from acoupi.stack.settings import Settings
from acoupi.system.home_files import configured_path, healings_here
from acoupi.system.sensor import Sensor

__all__ = ["heal_stores", "healings_here"]


def heal_stores(settings: Settings) -> list[Healing]:
    """Set damaged stores aside, and fill new ones; return what was done.

    If the program is not installed here, a damaged message store is left to the services.

    Raises
    ------
    AcoupiError
        If the home is not set up.
    """
    with using_home(settings.home):
        return Healer(_kept(settings)).heal()


def _kept(settings: Settings) -> Kept:
    metadata = configured_path(settings, "paths.db_metadata")
    messages = configured_path(settings, "messaging.messages_db")
    kept = Kept(
        None if metadata is None else SqliteStore(metadata),
        None if messages is None else SqliteMessageStore(messages),
        alarms_of(settings),
        configured_path(settings, "paths.tmp_audio"),
        configured_path(settings, "paths.recordings"),
    )
    try:
        by_program = kept_by(Sensor.read(settings).program, settings)
    except AcoupiError:
        # Only the image has the program, which is needed to make messages again.
        return replace(kept, message_store=None)
    return replace(kept, builders=by_program.builders, plan=by_program.plan)
