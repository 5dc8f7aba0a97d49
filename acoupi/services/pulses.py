"""The services as the worker of the default queue sees them: by their pulses.

In containers each service writes its pulse into its own folder, which this worker can read if it
needs to (`acoupi.stack.watching`). The contents are checked: a compromised service may lie
about itself, but must not stop the checks.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from acoupi.printing import printable
from acoupi.stack.pulse import Pulse, read_pulse

__all__ = ["SILENT", "count_restarts", "last_pulses", "not_working"]

SILENT = 20.0
"""Seconds; a service that runs writes its pulse every 5 s."""
_HOUR = timedelta(hours=1)
_MOST = 2**53
_MOST_RESTARTS = 1000
"""Seconds between two looks."""
_SHOWN = 200
"""Longest text from a service about itself, characters."""


def last_pulses(folders: Iterable[Path], names: Sequence[str]) -> dict[str, Pulse]:
    """Return the last pulse of each service that ever had one.

    Parameters
    ----------
    folders
        ``run/``, with the pulses of services that are not containers, and a folder for each
        container.
    """
    found: dict[str, Pulse] = {}
    for name in names:
        places = {place for folder in folders for place in (folder, folder / name)}
        pulses = [
            pulse for place in places if (pulse := read_pulse(place, name)) and _is_one(pulse, name)
        ]
        if pulses:
            found[name] = max(pulses, key=lambda pulse: pulse.pulse_on)
    return found


def _is_one(pulse: Pulse, name: str) -> bool:
    """Return whether the pulse that a service wrote is its own."""
    times, counts = (pulse.started_on, pulse.pulse_on), (pulse.restarts, pulse.done, pulse.failed)
    return (
        pulse.name == name
        and all(isinstance(one, datetime) and one.tzinfo is not None for one in times)
        and all(type(one) is int and 0 <= one < _MOST for one in counts)
        and (pulse.message is None or isinstance(pulse.message, str))
    )


def not_working(pulses: Mapping[str, Pulse], now: datetime) -> dict[str, str]:
    """Return the services that do not work now, and why."""
    found = {}
    for name, pulse in pulses.items():
        silent = (now - pulse.pulse_on).total_seconds()
        if pulse.state == "stopped":
            words = printable(pulse.message or "")[:_SHOWN]
            found[name] = f"stopped: {words}" if words else "stopped"
        elif silent > SILENT:
            found[name] = f"no sign of life since {pulse.pulse_on:%Y-%m-%d %H:%M:%S} UTC"
        elif pulse.state == "waiting for the broker":
            found[name] = pulse.state
    return found


def count_restarts(
    noted: Mapping[str, Any], pulses: Iterable[Pulse], now: datetime, begun: datetime | None
) -> dict[str, Any]:
    """Return when each service was restarted within the last hour.

    Parameters
    ----------
    noted
        The result of the last call.
    begun
        Start of the deployment: services that ended earlier were stopped on purpose.
    """
    found = {}
    for pulse in pulses:
        before = noted.get(pulse.name)
        times = [
            time
            for time in (before or {}).get("times", [])
            if timedelta(0) <= now - datetime.fromisoformat(time) < _HOUR
        ]
        started = pulse.started_on.isoformat()
        if before is not None and before["started"] != started:
            was = datetime.fromisoformat(before["started"])
            if begun is None or begun <= was:
                often = min(max(1, pulse.restarts - before["restarts"]), _MOST_RESTARTS)
                times += [now.isoformat()] * often
        found[pulse.name] = {"started": started, "restarts": pulse.restarts, "times": times}
    return found
