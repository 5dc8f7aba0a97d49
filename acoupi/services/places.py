"""Where services keep what is neither a setting nor a store of the program."""

from pathlib import Path

from acoupi.stack.settings import Settings

__all__ = ["alarms_file"]


def alarms_file(settings: Settings) -> Path:
    """Return where the alarms of a home are stored; there is none unless they are on."""
    return settings.home / "data" / "alarms.db"
