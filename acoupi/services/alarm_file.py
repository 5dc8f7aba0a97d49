"""The path of the alarm store, which is neither a setting nor a store of the program."""

from pathlib import Path

from acoupi.stack.settings import Settings

__all__ = ["alarms_file"]


def alarms_file(settings: Settings) -> Path:
    """Return the file of a home's alarms; it exists only if they are on."""
    return settings.home / "data" / "alarms.db"
