"""The state of the sensor at the top of every page, cached for a few seconds."""

import logging
import threading

from acoupi import clock
from acoupi.errors import AcoupiError
from acoupi.web.sensor import Now, Sensor

__all__ = ["Recent"]

logger = logging.getLogger(__name__)

FOR_S = 5
"""Seconds for which the state is cached."""


class Recent:
    """Remembers the last state of a sensor.

    Parameters
    ----------
    sensor
        The sensor.
    """

    def __init__(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self._lock = threading.Lock()
        self._now: Now | None = None
        self._asked: float | None = None

    def now(self) -> Now | None:
        """Return the state of a few seconds ago; None if the sensor does not answer."""
        with self._lock:
            if self._asked is None or clock.monotonic() - self._asked > FOR_S:
                self._now = self._ask()
                self._asked = clock.monotonic()
            return self._now

    def fresh(self) -> Now:
        """Return the state of this moment.

        Raises
        ------
        AcoupiError
            If the sensor does not answer.
        """
        found = self.sensor.now()
        with self._lock:
            self._now, self._asked = found, clock.monotonic()
        return found

    def timezone(self) -> str:
        """Return the key of the zone of the sensor; UTC while it does not answer."""
        found = self.now()
        return found["timezone"] if found else "UTC"

    def _ask(self) -> Now | None:
        try:
            return self.sensor.now()
        except AcoupiError as error:
            logger.warning("The sensor does not report its state: %s", error.message)
            return None
