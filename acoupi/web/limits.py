"""How often one visitor may ask, and how often a password may be wrong."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from acoupi import clock

__all__ = ["Attempts", "Rate"]

logger = logging.getLogger(__name__)

MOST_VISITORS = 1000
"""Most addresses that are remembered; then the oldest is forgotten."""
SAY_EVERY = 60.0
"""Seconds between two lines about one thing in the log."""


@dataclass
class Rate:
    """Limits requests of each address: a burst, then a rate a second.

    Parameters
    ----------
    burst, per_second
        How many.
    """

    burst: float = 200.0
    per_second: float = 30.0
    now: Callable[[], float] = clock.monotonic
    _left: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)
    _said: float = -SAY_EVERY

    def allows(self, address: str) -> bool:
        """Count a request of an address; return whether to accept it."""
        now = self.now()
        left, at = self._left.pop(address, (self.burst, now))
        left = min(self.burst, left + (now - at) * self.per_second)
        allowed = left >= 1
        self._left[address] = (left - 1 if allowed else left, now)
        if len(self._left) > MOST_VISITORS:
            self._left.popitem(last=False)
        if not allowed and now - self._said >= SAY_EVERY:
            self._said = now
            logger.warning("Too many requests from %s; it must wait.", address)
        return allowed


@dataclass
class Attempts:
    """Limits wrong passwords: after a few, everybody has to wait, longer each time.

    There is one password, and addresses are cheap: they are counted together.
    """

    free: int = 5
    first_wait: float = 30.0
    longest_wait: float = 3600.0
    now: Callable[[], float] = clock.monotonic
    _wrong: int = 0
    _until: float = -1.0

    def wait(self) -> float:
        """Return the seconds until the next attempt is accepted; 0: now."""
        return max(0.0, self._until - self.now())

    def failed(self, address: str) -> None:
        """Count a wrong password."""
        self._wrong += 1
        logger.warning("A wrong password for the page, from %s (%d so far).", address, self._wrong)
        if self._wrong >= self.free:
            seconds = self.first_wait * 2.0 ** min(self._wrong - self.free, 20)
            self._until = self.now() + min(seconds, self.longest_wait)

    def forget(self) -> None:
        """Reset the count, after the right password or by the command line."""
        self._wrong, self._until = 0, -1.0
