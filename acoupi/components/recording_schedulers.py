"""When the next recording starts."""

from acoupi import data
from acoupi.components.types import RecordingScheduler

__all__ = ["IntervalScheduler"]


class IntervalScheduler(RecordingScheduler):
    """Starts recordings at a fixed interval.

    Parameters
    ----------
    timeinterval
        Seconds from the start of one recording to the start of the next, 0 or more.

    Examples
    --------
    >>> IntervalScheduler(10).time_until_next_recording()
    10.0
    """

    interval: float

    def __init__(self, timeinterval: float) -> None:
        if timeinterval < 0:
            raise ValueError(f"timeinterval must be 0 seconds or more, not {timeinterval}")
        self.timeinterval = timeinterval
        self.interval = timeinterval

    def time_until_next_recording(self, time: data.AwareDatetime | None = None) -> float:
        """Return the interval, whatever the time."""
        return float(self.timeinterval)
