"""How long nothing is sent to a hub after trouble."""

import datetime

from acoupi import data

__all__ = ["MOST_REFUSED", "Rest", "pause"]

MOST_REFUSED = 3
"""Things that the hub refuses by themselves, after which a pass ends."""
FIRST_REST = 60.0
"""Seconds without a report after trouble; twice as many after each further pass of trouble..."""
LONGEST_REST = 900.0
"""...but no more than this, unless the hub asks for it."""


class Rest:
    """What a worker waits for; one that has just started asks at once: its token may be new."""

    def __init__(self) -> None:
        self._has_asked = False

    def lasts(self, until: datetime.datetime | None, now: datetime.datetime) -> bool:
        """Return whether nothing is to be sent yet."""
        had_asked, self._has_asked = self._has_asked, True
        longest = datetime.timedelta(seconds=data.LONGEST_PAUSE)
        is_early = until is not None and now < until <= now + longest  # later: the clock was set
        return had_asked and is_early


def pause(failures: int, asked: float) -> float:
    """Return the seconds until something is sent again.

    Parameters
    ----------
    failures
        Passes in a row that ended in trouble before this one.
    asked
        Seconds that the hub asks for.

    Examples
    --------
    >>> pause(0, 0), pause(1, 0), pause(9, 0), pause(0, 1000)
    (60.0, 120.0, 900.0, 1000)
    """
    return min(
        max(min(FIRST_REST * 2 ** min(failures, 10), LONGEST_REST), asked), data.LONGEST_PAUSE
    )
