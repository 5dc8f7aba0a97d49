"""The board: its identity, its state, and what is plugged into it."""

import json
import logging
import os
import socket
import threading
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from acoupi.commit import read_whole
from acoupi.data import DeviceInfo, derived_id
from acoupi.devices.rpi import get_rpi_serial_number, is_rpi
from acoupi.errors import ConfigurationError
from acoupi.home import home_dir

__all__ = [
    "ensure_device_id",
    "get_device_id",
    "get_device_info",
    "make_device_id",
    "read_device_file",
]

logger = logging.getLogger(__name__)

MACHINE_ID_FILES = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))

_cache: dict[Path, DeviceInfo] = {}
_lock = threading.Lock()


def get_device_id() -> str:
    """Return the id of this device: the same at every start.

    In this order: the id in ``config/device.json`` of ACOUPI_HOME (so that it
    survives a new container and a new board); the serial number of a
    Raspberry Pi; an id derived from that of the operating system; the address
    of the network card.

    Raises
    ------
    ConfigurationError
        If that file is damaged. The other ids cannot replace it: boards that were written
        from one image share the id of the operating system.
    """
    return _read_device_id(home_dir() / "config" / "device.json") or (
        _hardware_id() or derived_id("device", socket.gethostname()).hex[:16]
    )


def get_device_info() -> DeviceInfo:
    """Return a description of the board, read once for each ACOUPI_HOME.

    Never raises: the id is empty if it cannot be read.
    """
    home = home_dir()
    with _lock:
        if home not in _cache:
            try:
                _cache[home] = DeviceInfo(id=get_device_id())
            except Exception:
                logger.exception("cannot read the id of this device")
                return DeviceInfo(id="")
        return _cache[home]


def ensure_device_id(path: Path) -> str:
    """Return the id of this device from a file, writing it there if there is no such file.

    Parameters
    ----------
    path
        ``config/device.json`` of a home; a damaged file stays as it is.

    Raises
    ------
    ConfigurationError
        If the file exists and holds no id, or cannot be written.
    """
    known = _read_device_id(path)
    if known:
        return known
    device_id = _hardware_id() or uuid.uuid4().hex[:16]
    content = json.dumps({"id": device_id}, indent=2) + "\n"
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        new.replace(path)
    except OSError as error:
        with suppress(OSError):
            new.unlink()
        raise ConfigurationError(
            f'cannot write "{path}".',
            f'allow this user to write there: ls -ld "{path.parent}"',
            why=f"{os.strerror(error.errno or 0)}.",
        ) from error
    with _lock:
        _cache.clear()
    return device_id


def read_device_file(path: Path) -> dict[str, str]:
    """Return the ids in ``config/device.json``: ``id``, and ``own`` if that is different.

    Empty if there is no such file.

    Raises
    ------
    ConfigurationError
        If there is one, and it cannot be read or holds something else.
    """
    try:
        content = json.loads(read_whole(path))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(path) from error
    if not isinstance(content, dict) or not (content.get("id") and isinstance(content["id"], str)):
        raise _damaged(path)
    return {name: value for name, value in content.items() if isinstance(value, str) and value}


def _damaged(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f'cannot read the id of this device from "{path}".',
        f'write the id into it that earlier messages have: {{"id": "..."}}, '
        f'or have a new one made: rm "{path}" && acoupi setup',
        why='it should look like {"id": "..."}.',
    )


def make_device_id(known: Mapping[str, str], given: str | None) -> dict[str, str]:
    """Return the content of ``config/device.json`` for a home that sets itself up.

    In a container neither the address of the network card nor the id of the
    operating system belongs to the device, so its own id is made once: the
    serial number of a Raspberry Pi, else a random one.

    Parameters
    ----------
    known
        Its current contents.
    given
        The id that the user chose; None: its own.

    Examples
    --------
    >>> make_device_id({"id": "a1"}, "bats-07")
    {'id': 'bats-07', 'own': 'a1'}
    >>> make_device_id({"id": "bats-07", "own": "a1"}, None)
    {'id': 'a1', 'own': 'a1'}
    """
    own = known.get("own") or known.get("id")
    if own is None:
        own = get_rpi_serial_number() if is_rpi() else uuid.uuid4().hex[:16]
    return {"id": given or own, "own": own}


def _read_device_id(path: Path) -> str | None:
    return read_device_file(path).get("id")


def _hardware_id() -> str | None:
    """Return an id that no other board has, or None."""
    if is_rpi():
        return get_rpi_serial_number()
    for path in MACHINE_ID_FILES:
        try:
            machine_id = path.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            continue
        if len(machine_id) == 32:
            # machine-id(5): the id itself must never be shown.
            return derived_id("device", machine_id).hex[:16]
    node = uuid.getnode()
    # Not a real card: a number that Python made up for this process, or one that Docker gives to
    # the first container of every board.
    return None if node >> 40 & 0b11 else str(node)
