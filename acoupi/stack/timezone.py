"""The time zone of this machine, under the function names that published programs use."""

from zoneinfo import ZoneInfo

from acoupi.devices import clock

__all__ = ["get_system_timezone", "set_system_timezone"]


def get_system_timezone() -> ZoneInfo | None:
    """Return the time zone of this machine; None if it is not set."""
    name = clock.get_system_timezone()
    return None if name is None else ZoneInfo(name)


def set_system_timezone(timezone_str: str) -> bool:
    """Set the time zone of this machine; return whether that worked.

    Parameters
    ----------
    timezone_str
        Its IANA name, as ``Europe/London``.
    """
    return clock.set_system_timezone(timezone_str)
