"""How services wait for a home that sets itself up, and then watch its configuration."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from pathlib import Path

from acoupi import data
from acoupi.commit import is_there, version_of
from acoupi.errors import ConfigurationError, NotConfiguredError
from acoupi.provisioned import MARKER, Provisioned, read_provisioned
from acoupi.services.provisioned_home import (
    SECRET_PREFIXES,
    can_provision,
    config_dir,
    drop_secrets,
)
from acoupi.stack.configured import is_configured
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.stack.settings import Settings
from acoupi.stack.stack import BEAT

__all__ = ["Watch", "await_home"]

logger = logging.getLogger(__name__)

LOOK_EVERY = 0.25
PULSE_EVERY = 5.0
SAY_EVERY = 30.0
TRY_EVERY = 5.0
PROVISIONING = "acoupi.provisioning"
PROVISION_PATIENCE = 660.0
"""Seconds; the process exits earlier by itself, with a traceback."""
FAULTY = 2
"""Exit code when the sources contain a mistake, which that process has logged."""
PATIENCE = 600.0
PATIENCE_VARIABLE = "ACOUPI_SETUP_PATIENCE"


class Watch:
    """Notices when another configuration is in force.

    Parameters
    ----------
    config
        The folder ``config/``.
    known
        The configuration that was in force when the service started.
    """

    def __init__(self, config: Path, known: Provisioned) -> None:
        self._path = config / MARKER
        self.known = known
        # None yet: it may have changed since `known` was read.
        self._seen: tuple[int, int] | None = None

    def changed(self) -> str | None:
        """Return why the service must be restarted; None if it need not."""
        stamp = version_of(self._path)
        if stamp == self._seen:
            return None
        now = _readable(self._path.parent)
        if now is None:  # it cannot be read; the next call tries again
            return None
        self._seen = stamp
        if now.provisioned_on == self.known.provisioned_on:
            return None
        return f"configuration {now.generation} is in force in place of {self.known.generation}"


def await_home(
    settings: Settings,
    name: str,
    *,
    environ: MutableMapping[str, str] = os.environ,
    stop: Callable[[], bool] = lambda: False,
) -> Watch | None:
    """Wait until the home is set up; set it up if no other service does.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of the service that waits.
    environ
        Variables. Those that hold settings are removed, because the home has the settings in
        force. So are secrets that are withheld from this service.
    stop
        Returns whether to stop waiting.

    Returns
    -------
    Watch
        None if this home does not set itself up, or a person set it up.

    Raises
    ------
    NotConfiguredError
        If that takes too long; the error says what is missing.
    """
    if not environ.get("ACOUPI_PROGRAM"):
        drop_secrets(settings, name, environ)
        return None
    config = config_dir(settings)
    with ServiceLock(settings.run_dir, name):
        known = _Wait(settings, name, environ, stop).until_ready()
    drop_secrets(settings, name, environ)
    if known is None:
        return None
    for variable in [one for one in environ if one.startswith(SECRET_PREFIXES)]:
        del environ[variable]
    return Watch(config, known)


class _Wait:
    """Waits on behalf of one service."""

    def __init__(
        self,
        settings: Settings,
        name: str,
        environ: MutableMapping[str, str],
        stop: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._name = name
        self._config = config_dir(settings)
        self._environ = environ
        self._stop = stop
        self._pulse = PulseFile(settings.run_dir, name)
        # Beat is small and imports no program.
        self._provisions = name != BEAT and can_provision(settings)
        self._patience = _seconds(environ.get(PATIENCE_VARIABLE), PATIENCE)
        self._written = self._said = self._tried = -SAY_EVERY

    def until_ready(self) -> Provisioned | None:
        """Return the configuration in force, once there is one.

        None if a person set the home up: that is not overwritten.
        """
        began = data.monotonic()
        if self._is_by_hand():
            logger.warning(
                "ACOUPI_PROGRAM is ignored: %s was set up by hand. "
                "`python -m acoupi.provisioning` would set it up from variables.",
                self._settings.home,
            )
            return None
        while True:
            if self._provisions and data.monotonic() - self._tried >= TRY_EVERY:
                self._provision()
            reason = self._missing()
            known = _readable(self._config)
            if reason is None and known is not None:
                return known
            waited = data.monotonic() - began
            if waited > self._patience or self._stop():
                raise self._gave_up(reason or "", waited)
            self._say(reason or "")
            threading.Event().wait(LOOK_EVERY)

    def _is_by_hand(self) -> bool:
        """Return whether a person set the sensor up."""
        return is_configured(self._settings) and not is_there(self._config / MARKER)

    def _missing(self) -> str | None:
        """Return what is missing, or None."""
        known = _readable(self._config)
        if known is not None and known.generation == 0 and known.fault:
            return f"{self._config} to be set up, but: {known.fault.text()}"
        if known is None or known.generation == 0 or not is_configured(self._settings):
            return f"{self._config} to be set up"
        password = self._environ.get("ACOUPI_BROKER_PASSWORD_FILE")
        if password and not _has_text(Path(password)):
            return f"the broker to leave a password in {password}"
        return None

    def _provision(self) -> None:
        """Set the home up in a separate process, so that its imports do not stay here."""
        self._tried = data.monotonic()
        environ = (
            os.environ
            | self._environ
            | {
                "ACOUPI_HOME": str(self._settings.home),
                "ACOUPI_SERVICE": self._name,
            }
        )
        command = [sys.executable, "-m", PROVISIONING, "--once"]
        try:
            done = subprocess.run(command, env=environ, timeout=PROVISION_PATIENCE, check=False)
        except subprocess.TimeoutExpired:
            logger.error("Setting the home up took longer than %d s.", PROVISION_PATIENCE)  # noqa: TRY400
            return
        if done.returncode not in (0, FAULTY):
            logger.error("Setting the home up ended with exit code %d.", done.returncode)
        found = _readable(self._config)
        self._provisions = found is None or found.generation == 0

    def _say(self, reason: str) -> None:
        now = data.monotonic()
        if now - self._said >= SAY_EVERY or reason != self._pulse.pulse.message:
            logger.info("Waiting for %s.", reason)
            self._said = now
        if now - self._written >= PULSE_EVERY or reason != self._pulse.pulse.message:
            self._pulse.pulse.message = reason
            self._pulse.write()
            self._written = now

    def _gave_up(self, reason: str, waited: float) -> NotConfiguredError:
        return NotConfiguredError(
            f"there is no sensor in {self._settings.home} yet.",
            "look at the log of the service that sets it up: docker compose logs setup",
            why=f"this service waited {waited:.0f} s for {reason}.",
        )


def _readable(config: Path) -> Provisioned | None:
    """Return the stored state; None if there is none, or if it must be renewed by setup."""
    with suppress(ConfigurationError):
        return read_provisioned(config)
    return None


def _has_text(path: Path) -> bool:
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def _seconds(text: str | None, default: float) -> float:
    try:
        return float(text) if text else default
    except ValueError:
        return default
