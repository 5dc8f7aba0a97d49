"""How much room the sensors of a fleet have for their sound, and what they gave up for it."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GivenUpThere", "SensorRoom"]


@dataclass(frozen=True, slots=True)
class GivenUpThere:
    """What a sensor gave up of one class of files."""

    files: int
    seconds: float
    bytes: int
    last_on: datetime.datetime


@dataclass(frozen=True, slots=True)
class SensorRoom:
    """The room of a sensor, by its last heartbeat."""

    sensor: str
    hours_left: float | None
    """Until its disk is full; None: it was not sent."""
    heartbeat_on: datetime.datetime | None
    given_up: Mapping[str, GivenUpThere]
    """By the class of the files; see `acoupi.space.FileClass`."""
