"""Log lines about failures of a hub, and about callers that it refuses."""

import logging

from acoupi import clock
from acoupi.errors import HubUnavailableError
from acoupi.printing import printable

__all__ = ["Troubles"]

EVERY = 60.0
"""Seconds before the same problem is logged again: every sensor runs into it."""
MOST_TOLD = 1000
"""Most problems that are remembered; the oldest is forgotten, and then logged again."""
_logger = logging.getLogger(__name__)


class Troubles:
    """Logs each problem now and then."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, error: HubUnavailableError) -> None:
        """Log that the database or the store of sound does not answer or is full."""
        if self._is_news(error.message):
            why = f" Why: {error.why}" if error.why else ""
            _logger.warning("%s%s Try: %s", error.message, why, error.help)

    def refuse(self, who: str, status: int, what: str) -> None:
        """Log that a caller is refused, now and then, however many requests it makes.

        Parameters
        ----------
        who
            Name of a sensor, worker or person; else its address.
        """
        if self._is_news(f"{status} {who}"):
            _logger.warning("%s is refused: HTTP %s: %s", who, status, printable(what))

    def _is_news(self, what: str) -> bool:
        now = clock.monotonic()
        self._told = {known: on for known, on in self._told.items() if now - on < EVERY}
        if what in self._told:
            return False
        if len(self._told) >= MOST_TOLD:
            del self._told[next(iter(self._told))]
        self._told[what] = now
        return True
