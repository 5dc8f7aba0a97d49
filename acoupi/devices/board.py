"""The temperature and supply voltage of the board."""

from contextlib import suppress
from pathlib import Path

__all__ = ["board_temperature", "has_low_voltage"]

SYS = Path("/sys/class")


def board_temperature() -> float | None:
    """Return the highest temperature that the kernel reports, degrees Celsius; None if none."""
    found = []
    for place in SYS.glob("thermal/thermal_zone*/temp"):
        with suppress(OSError, ValueError):  # a zone may be off
            found.append(int(place.read_text()) / 1000)
    return max(found, default=None)


def has_low_voltage() -> bool | None:
    """Return whether a Raspberry Pi has too low a supply voltage now; None if unknown.

    The kernel's driver ``rpi_volt`` reports it since Linux 4.20.
    """
    for place in SYS.glob("hwmon/hwmon*/name"):
        with suppress(OSError, ValueError):
            if place.read_text().strip() == "rpi_volt":
                return int(place.with_name("in0_lcrit_alarm").read_text()) != 0
    return None
