"""The Raspberry Pi."""

import re
import socket
from pathlib import Path

__all__ = ["get_rpi_host_name", "get_rpi_serial_number", "is_rpi"]

CPUINFO = Path("/proc/cpuinfo")
DEVICE_TREE_SERIAL = Path("/sys/firmware/devicetree/base/serial-number")


def is_rpi() -> bool:
    """Return whether the board has a serial number like that of a Raspberry Pi."""
    return _find_serial() is not None


def get_rpi_serial_number() -> str:
    """Return the serial number of the board: 16 hexadecimal digits.

    Raises
    ------
    RuntimeError
        If the board is not a Raspberry Pi.
    """
    serial = _find_serial()
    if serial is None:
        raise RuntimeError("this board has no serial number; is it a Raspberry Pi?")
    return serial


def get_rpi_host_name() -> str:
    """Return the host name of the board."""
    return socket.gethostname()


def _find_serial() -> str | None:
    try:
        found = re.search(
            r"^Serial\s*:\s*([0-9a-fA-F]+)\s*$", CPUINFO.read_text(errors="replace"), re.MULTILINE
        )
        if found and set(found[1]) != {"0"}:
            return found[1]
        model = DEVICE_TREE_SERIAL.with_name("model").read_bytes()
        if b"Raspberry Pi" in model:
            return DEVICE_TREE_SERIAL.read_text(errors="replace").strip("\0\n ") or None
    except OSError:
        pass
    return None
