"""When a worker ends itself to be started again: warmly, after what it is doing."""

import os
from collections.abc import Mapping

from acoupi import data
from acoupi.errors import ConfigurationError, DeviceUnavailableError
from acoupi.services.waiting import Watch
from acoupi.stack.settings import RENEW

__all__ = ["NO_MICROPHONE", "Leaving"]

NO_MICROPHONE = 74
"""Exit code of a recorder that had no microphone for a while."""
PATIENCE_VARIABLE = "ACOUPI_MICROPHONE_PATIENCE"


class Leaving:
    """Says when a worker is to stop, and why.

    A container is given the sound devices that there are when it starts. So a
    recorder that was told how long to be patient (by a variable, in seconds)
    ends itself when its microphone was missing for so long, and finds what was
    plugged in since when it is started again. Hours in which it is not to
    record count too, but it ends only when it wants to record and cannot.

    Parameters
    ----------
    watch
        Of a home that sets itself up; None: it does not.
    environ
        The variables.
    patience
        Seconds without a microphone that the settings of the sensor allow; None: what the
        variable says.

    Raises
    ------
    ConfigurationError
        If the variable is no number of seconds.
    """

    def __init__(
        self,
        watch: Watch | None,
        environ: Mapping[str, str] = os.environ,
        patience: float | None = None,
    ) -> None:
        self._watch = watch
        self._patience = patience or _patience(environ.get(PATIENCE_VARIABLE))
        self._missing_since: float | None = None
        self._misses = False

    def failed(self, error: object) -> None:
        """Note how a task failed."""
        if isinstance(error, DeviceUnavailableError):
            self._misses = True
            if self._missing_since is None:
                self._missing_since = data.monotonic()

    def recorded(self) -> None:
        """Note that there is a microphone."""
        self._missing_since, self._misses = None, False

    def __call__(self) -> tuple[int, str] | None:
        """Return the exit code and why the worker is to stop; None if it need not."""
        if self._watch and (reason := self._watch.changed()):
            return RENEW, reason
        misses, self._misses = self._misses, False
        if self._patience is None or self._missing_since is None or not misses:
            return None
        away = data.monotonic() - self._missing_since
        if away < self._patience:
            return None
        return NO_MICROPHONE, (
            f"there was no microphone for {away:.0f} s (it waits {self._patience:g} s), "
            "and one plugged in since can be seen only from its start"
        )


def _patience(text: str | None) -> float | None:
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if seconds > 0:
        return seconds
    raise ConfigurationError(
        f'{PATIENCE_VARIABLE} cannot be "{text}".',
        f"{PATIENCE_VARIABLE}=600",
        why="it is a number of seconds, greater than 0.",
    )
