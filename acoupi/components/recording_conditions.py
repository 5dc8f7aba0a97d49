"""Whether to record now; all conditions of a program must hold."""

import datetime
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from acoupi import data, sun
from acoupi.components.types import RecordingCondition, TimeCondition
from acoupi.deployed import deployed_here
from acoupi.errors import StoreError
from acoupi.home import spool_dir
from acoupi.space import SpacePolicy, disk_sizes, existing
from acoupi.windows import (
    DailyWindows,
    SolarWindows,
    Span,
    daily_spans,
    name_of_zone,
    solar_spans,
)

__all__ = [
    "DawnTimeInterval",
    "FollowsTheSun",
    "HasReserve",
    "HasSufficientSpace",
    "IsInInterval",
    "IsInIntervals",
    "is_time_in_interval",
]

logger = logging.getLogger(__name__)

SpaceUnit = Literal["B", "KB", "MB", "GB"]
_POWERS: dict[str, int] = {"B": 0, "KB": 1, "MB": 2, "GB": 3}


def is_time_in_interval(time: datetime.time, interval: data.TimeInterval) -> bool:
    """Return whether a time of day lies in an interval, both ends included.

    Times are compared in whole seconds, so that 23:59:59.5 is still inside an
    interval that ends at 23:59:59. A start after the end wraps past midnight;
    a start equal to the end is the whole day.

    Examples
    --------
    >>> from datetime import time
    >>> night = data.TimeInterval(start=time(19), end=time(7))
    >>> [is_time_in_interval(time(hour), night) for hour in (7, 12, 19, 23)]
    [True, False, True, True]
    """
    time, start, end = (
        each.replace(microsecond=0, tzinfo=None) for each in (time, interval.start, interval.end)
    )
    if start < end:
        return start <= time <= end
    return time >= start or time <= end


class IsInIntervals(TimeCondition):
    """Holds between local times of day, in any of several intervals; none: never.

    Parameters
    ----------
    intervals
        Times of day in `timezone`; see `is_time_in_interval`.
    timezone
        Time zone of the intervals.
    """

    def __init__(self, intervals: list[data.TimeInterval], timezone: datetime.tzinfo) -> None:
        self.intervals = intervals
        self.timezone = timezone

    def spans(self, low: int, high: int) -> list[Span]:
        """Return the parts of [low, high) that lie in an interval, microseconds since 1970."""
        return daily_spans(self.intervals, self.timezone, low, high)

    def plan(self) -> DailyWindows | None:
        """Return the intervals; None if their time zone has no name."""
        name = name_of_zone(self.timezone)
        if name is None:
            return None
        return DailyWindows(intervals=tuple(self.intervals), timezone=name)


class IsInInterval(IsInIntervals):
    """Holds between two local times of day; like `IsInIntervals`."""

    def __init__(self, interval: data.TimeInterval, timezone: datetime.tzinfo) -> None:
        super().__init__([interval], timezone)
        self.interval = interval


class DawnTimeInterval(TimeCondition):
    """Holds around dawn.

    Where there is no dawn for weeks (Tromsø in June) it does not hold: a
    program that must record there needs a time of day as well.

    Parameters
    ----------
    duration
        Minutes before dawn and the same after it, 0 or more.
    timezone
        Its reference city is used where the place is not known; see
        `acoupi.sun.reference_location`.
    location
        Latitude and longitude, degrees. None: where the deployment is.
    get_deployment
        Returns the current deployment (`Store.get_current_deployment`); called
        each time. While the store fails, it is the one that the home says is
        running, else the last known. Not needed if `location` is given.
    """

    event: Literal["dawn", "night", "day"] = "dawn"

    def __init__(
        self,
        duration: float,
        timezone: datetime.tzinfo,
        *,
        location: tuple[float, float] | None = None,
        get_deployment: Callable[[], data.Deployment] | None = None,
    ) -> None:
        if duration < 0:
            raise ValueError(f"duration must be 0 minutes or more, not {duration}")
        self.duration = duration
        self.timezone = timezone
        self.location = sun.Location(*location) if location is not None else None
        self.get_deployment = get_deployment
        self._deployment: data.Deployment | None = None

    def spans(self, low: int, high: int) -> list[Span]:
        """Return the parts of [low, high) around dawn, microseconds since 1970."""
        return solar_spans(self._windows("UTC"), self._find_location(), low, high)

    def plan(self) -> SolarWindows | None:
        """Return the time around dawn; None if the time zone has no name."""
        name = name_of_zone(self.timezone)
        return None if name is None else self._windows(name)

    def _windows(self, timezone: str) -> SolarWindows:
        return SolarWindows(
            event=self.event,
            before=self.duration,
            after=self.duration,
            location=self.location,
            at_deployment=self.get_deployment is not None,
            timezone=timezone,
        )

    def _find_location(self) -> sun.Location:
        if self.location is not None:
            return self.location
        if self.get_deployment is not None:
            try:
                self._deployment = self.get_deployment()
            except StoreError as error:  # recording does not depend on the store
                logger.warning("The store has no location for the time of dawn: %s", error)
                self._deployment = deployed_here().current or self._deployment
        if self._deployment is None:
            return sun.reference_location(self.timezone)
        return sun.deployment_location(self._deployment, self.timezone)


class FollowsTheSun(DawnTimeInterval):
    """Holds at night, from dusk to dawn, or by day; and a while before and after.

    Where it does not get dark for weeks (in June, north of 60 degrees), there is no night.

    Parameters
    ----------
    part
        "night" or "day".
    margin, timezone, location, get_deployment
        Minutes before it begins and after its end; the others as for `DawnTimeInterval`.
    """

    def __init__(
        self,
        part: Literal["night", "day"],
        margin: float,
        timezone: datetime.tzinfo,
        *,
        location: tuple[float, float] | None = None,
        get_deployment: Callable[[], data.Deployment] | None = None,
    ) -> None:
        super().__init__(margin, timezone, location=location, get_deployment=get_deployment)
        self.event = part


class HasSufficientSpace(RecordingCondition):
    """Holds while a disk has more free space than a limit.

    Parameters
    ----------
    path
        Any path on the disk; it need not exist yet. None: where recordings wait.
    min_space
        The limit, in `unit`, 0 or more; space equal to it is not enough.
    unit
        B, KB, MB or GB.
    binary
        Whether a KB is 1024 bytes rather than 1000.
    """

    refusal = data.EffortState.DISK_FULL
    min_space: int
    """The limit in bytes."""

    def __init__(
        self,
        path: Path | None = None,
        min_space: int = 1024,
        unit: SpaceUnit = "MB",
        binary: bool = False,
    ) -> None:
        if unit not in _POWERS:
            raise ValueError(f"unit must be one of {', '.join(_POWERS)}, not {unit!r}")
        if min_space < 0:
            raise ValueError(f"min_space must be 0 or more, not {min_space}")
        self.path = path
        self.unit = unit
        self.min_space = int(min_space * (1024 if binary else 1000) ** _POWERS[unit])

    def should_record(self) -> bool:
        """Return whether there is space; a disk that cannot be read counts as full."""
        path = existing(Path(self.path) if self.path is not None else spool_dir())
        try:
            free = shutil.disk_usage(path).free
        except OSError as error:
            logger.warning("Cannot read the free space of %s: %s", path, error)
            return False
        return free > self.min_space


class HasReserve(RecordingCondition):
    """Holds while a recording can be made without touching the reserve of the disk.

    With "stop", once it does not hold, it does not until files would no longer be given up.

    Parameters
    ----------
    policy
        Says what the reserve is, and where recordings wait.
    sizes
        Returns the free and the total bytes of the disk of a folder.
    """

    refusal = data.EffortState.DISK_FULL

    def __init__(
        self, policy: SpacePolicy, sizes: Callable[[Path], tuple[int, int]] = disk_sizes
    ) -> None:
        self.policy = policy
        self._sizes = sizes
        self._stopped = False
        self.why: str | None = None
        """Why it does not hold, for the effort ledger."""

    def should_record(self) -> bool:
        """Return whether there is room; a disk that cannot be read counts as full."""
        try:
            self.why = self._missing() or self._full()
        except OSError as error:
            self.why = f"the disk of {self.policy.spool} cannot be read: {error.strerror or error}"
        return self.why is None

    def _missing(self) -> str | None:
        mount = self.policy.missing_mount(self.policy.spool)
        return None if mount is None else f"no disk is mounted at {mount}"

    def _full(self) -> str | None:
        free, total = self._sizes(self.policy.spool)
        marks = self.policy.marks(total)
        limit = marks.act_below if self._stopped else self.policy.needed_to_record
        is_full = free < limit
        self._stopped = is_full and self.policy.on_full == "stop"
        if not is_full:
            return None
        reserve = marks.reserve / 1e6
        return (
            f"only the reserve of {reserve:.0f} MB was free, and no more files could be deleted "
            f"in time (sensor.disk.on_full: {self.policy.on_full})"
        )
