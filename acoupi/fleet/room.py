"""The room of a fleet's sensors for recordings, and the files they deleted for it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GivenUpThere", "SensorRoom"]


@dataclass(frozen=True, slots=True)
class GivenUpThere:
    """Files of one class that a sensor deleted."""

    files: int
    seconds: float
    bytes: int
    last_on: datetime.datetime


@dataclass(frozen=True, slots=True)
class SensorRoom:
    """The room of a sensor, by its last heartbeat."""

    sensor: str
    hours_left: float | None
    """Hours until its disk is full; None: it was not sent."""
    heartbeat_on: datetime.datetime | None
    given_up: Mapping[str, GivenUpThere]
    """Deleted files by class; see `acoupi.space.FileClass`."""
