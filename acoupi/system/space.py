"""The room on a sensor's disks, from its settings and store, without its program."""

from acoupi.components.stores import SqliteStore
from acoupi.components.stores.database import stores_that_only_read
from acoupi.config.disk import policy_of
from acoupi.config.sensor import load_sensor
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.services.space_state import SpaceState, space_state
from acoupi.space import SpacePolicy
from acoupi.stack.configured import answered
from acoupi.stack.settings import Settings
from acoupi.system.reading import store_file, zone_of

__all__ = ["policy_here", "room_of", "store_and_policy"]


def policy_here(settings: Settings) -> SpacePolicy | None:
    """Return the disk policy of a home's sensor, or None.

    Raises
    ------
    AcoupiError
        If its settings cannot be read.
    """
    disk = load_sensor(settings).disk
    if not disk.enabled:
        return None
    return policy_of(disk, answered(settings) or {}, settings.home, zone_of(settings))


def store_and_policy(settings: Settings) -> tuple[SqliteStore, SpacePolicy]:
    """Return the data for `acoupi disk`, without changing anything.

    Raises
    ------
    ConfigurationError
        If this home has no disk policy.
    """
    policy = policy_here(settings)
    if policy is None:
        raise ConfigurationError(
            "this sensor does not delete anything when its disk fills.",
            "acoupi config set sensor.disk.enabled true",
            why="sensor.disk is off; a full disk stops recording.",
        )
    with stores_that_only_read():
        store = SqliteStore(store_file(settings))
    store.hub_audio = load_sensor(settings).hub.sends
    return store, policy


def room_of(settings: Settings) -> SpaceState | None:
    """Return the room of a sensor; None if it has no disk policy, or it cannot be read."""
    try:
        if policy_here(settings) is None:
            return None
        return space_state(*store_and_policy(settings))
    except (AcoupiError, OSError):
        return None  # `program_state` reports errors in the files
