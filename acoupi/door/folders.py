"""The folders of a service's door, and of its calls that wait while nothing answers."""

from pathlib import Path

__all__ = ["SOCKET", "door_folder", "waiting_folder"]

SOCKET = "door.sock"
"""Name of the socket in the folder of a door."""


def door_folder(run_dir: Path, service: str) -> Path:
    """Return the folder that holds only the socket of one service.

    The worker that keeps the stores writes it; the service itself only needs to read it.

    Examples
    --------
    >>> str(door_folder(Path("/home/pi/.acoupi/run"), "detection"))
    '/home/pi/.acoupi/run/door/detection'
    """
    return run_dir / "door" / service


def waiting_folder(home: Path, service: str) -> Path:
    """Return the folder that a service writes its calls to while nothing answers.

    Examples
    --------
    >>> str(waiting_folder(Path("/home/pi/.acoupi"), "detection"))
    '/home/pi/.acoupi/waiting/detection'
    """
    return home / "waiting" / service
