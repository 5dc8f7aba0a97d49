"""What keeps a hub from serving, and whom it refuses, for the log of whoever runs it."""

import logging

from acoupi import clock
from acoupi.errors import HubUnavailableError
from acoupi.printing import printable

__all__ = ["Troubles"]

EVERY = 60.0
"""Seconds until the same trouble is told again: every sensor meets it."""
MOST_TOLD = 1000
"""Troubles that are remembered; of more at once, the oldest is forgotten and told again."""
_logger = logging.getLogger(__name__)


class Troubles:
    """Tells each trouble once in a while."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, error: HubUnavailableError) -> None:
        """Log that the database, or the store of the sound, is away or full."""
        if self._is_news(error.message):
            why = f" Why: {error.why}" if error.why else ""
            _logger.warning("%s%s Try: %s", error.message, why, error.help)

    def refuse(self, who: str, status: int, what: str) -> None:
        """Log that somebody is refused: once in a while, however much of theirs is.

        Parameters
        ----------
        who
            Name of a sensor, worker or person; an address where none is known.
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
