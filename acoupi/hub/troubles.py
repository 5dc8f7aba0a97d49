"""What keeps a hub from serving, for the log of whoever runs it."""

import logging

from acoupi import clock
from acoupi.errors import HubUnavailableError

__all__ = ["Troubles"]

EVERY = 60.0
"""Seconds until the same trouble is told again: every sensor meets it."""
_logger = logging.getLogger(__name__)


class Troubles:
    """Tells each trouble once in a while."""

    def __init__(self) -> None:
        self._told: dict[str, float] = {}

    def tell(self, error: HubUnavailableError) -> None:
        """Log that the database, or the store of the sound, is away or full."""
        now = clock.monotonic()
        last = self._told.get(error.message)
        if last is None or now - last >= EVERY:
            self._told = {what: on for what, on in self._told.items() if now - on < EVERY}
            self._told[error.message] = now
            why = f" Why: {error.why}" if error.why else ""
            _logger.warning("%s%s Try: %s", error.message, why, error.help)
