"""When a worker stops to be restarted, after finishing its tasks."""

import os
from collections.abc import Mapping

from acoupi import data
from acoupi.errors import ConfigurationError, DeviceUnavailableError
from acoupi.services.applied import Changing
from acoupi.stack.settings import RENEW

__all__ = ["NO_MICROPHONE", "RestartPolicy"]

NO_MICROPHONE = 74
"""Exit code of a recorder whose microphone was missing for too long."""
PATIENCE_VARIABLE = "ACOUPI_MICROPHONE_PATIENCE"


class RestartPolicy:
    """Decides when a worker must stop to be restarted, and why.

    A container is given the sound devices that exist when it starts. A recorder
    with ``ACOUPI_MICROPHONE_PATIENCE`` (seconds) therefore stops when its microphone
    has been missing for that long; after the restart it finds devices plugged in
    since. Time off schedule counts, but the recorder stops only after a failed
    attempt to record.

    Parameters
    ----------
    watch
        Notices a new configuration, or None.
    environ
        Environment variables.
    patience
        Seconds without a microphone that the settings of the sensor allow; None: the value
        of the variable.

    Raises
    ------
    ConfigurationError
        If the variable is not a number of seconds.
    """

    def __init__(
        self,
        watch: Changing | None,
        environ: Mapping[str, str] = os.environ,
        patience: float | None = None,
    ) -> None:
        self._watch = watch
        self._patience = patience or _patience(environ.get(PATIENCE_VARIABLE))
        self._missing_since: float | None = None
        self._just_missed = False

    def task_failed(self, error: object) -> None:
        """Note the error of a task."""
        if isinstance(error, DeviceUnavailableError):
            self._just_missed = True
            if self._missing_since is None:
                self._missing_since = data.monotonic()

    def recorded(self) -> None:
        """Note that the microphone works."""
        self._missing_since, self._just_missed = None, False

    def due(self) -> tuple[int, str] | None:
        """Return the exit code and the reason if the worker must stop now."""
        if self._watch and (reason := self._watch.changed()):
            return RENEW, reason
        just_missed, self._just_missed = self._just_missed, False
        if self._patience is None or self._missing_since is None or not just_missed:
            return None
        away = data.monotonic() - self._missing_since
        if away < self._patience:
            return None
        return NO_MICROPHONE, (
            f"there was no microphone for {away:.0f} s (the limit is {self._patience:g} s), "
            "and one plugged in since is only found after a restart"
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
