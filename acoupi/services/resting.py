"""How long to pause after failures before sending to a hub again."""

import datetime

from acoupi import data

__all__ = ["MOST_REFUSED", "Rest", "pause"]

MOST_REFUSED = 3
"""Single refused items after which a run stops."""
FIRST_REST = 60.0
"""Seconds of pause after a failed run, doubled after each further one..."""
LONGEST_REST = 900.0
"""...up to this, unless the hub asks for more."""


class Rest:
    """The pause of a worker; after its start there is none, because its token may be new."""

    def __init__(self) -> None:
        self._has_asked = False

    def lasts(self, until: datetime.datetime | None, now: datetime.datetime) -> bool:
        """Return whether nothing should be sent yet."""
        had_asked, self._has_asked = self._has_asked, True
        longest = datetime.timedelta(seconds=data.LONGEST_PAUSE)
        is_early = until is not None and now < until <= now + longest  # later: the clock was set
        return had_asked and is_early


def pause(failures: int, asked: float) -> float:
    """Return the seconds until the next attempt.

    Parameters
    ----------
    failures
        Failed runs in a row before this one.
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
