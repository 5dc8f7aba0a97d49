"""Running a service that is not a worker: ``python -m acoupi.services.serving NAME MODULE``.

The module has two functions. ``run(settings, stop)`` works until the event
`stop` is set, and returns. ``is_well(settings)`` returns whether it works; it is
called every 5 s, must test what the service is for (a server requests a page from
itself), and must return within some seconds.

The service holds its lock, writes its pulse as long as it is well, logs
to ``log/NAME.log`` and stops when it is asked to, so that every target can
start it, watch it and stop it.
"""

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Protocol, cast

from acoupi.commit import settle
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.services.applied import AppliedWatch
from acoupi.services.logs import configure_logging, note_crash, tell
from acoupi.services.stopping import stop_event
from acoupi.stack.pulse import AlreadyRunningError, PulseFile, ServiceLock
from acoupi.stack.settings import RENEW, Settings
from acoupi.writing import keep_others_out

__all__ = ["home_of", "main"]

logger = logging.getLogger(__name__)

PULSE_EVERY = 5.0
"""Seconds between two pulses of a service that is well."""
LOOK_EVERY = 0.1
"""Seconds between two checks while it is not well."""


class _Module(Protocol):
    """The functions of a service's module."""

    @staticmethod
    def run(settings: Settings, stop: threading.Event) -> None: ...
    @staticmethod
    def is_well(settings: Settings) -> bool: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a service until it is asked to stop; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.services.serving")
    parser.add_argument("name", help="of the service")
    parser.add_argument("module", help="with its functions run and is_well")
    parser.add_argument("--quiet", action="store_true", help="log to the file only")
    options = parser.parse_args(arguments)
    keep_others_out()
    stop = stop_event()
    try:
        os.environ["ACOUPI_SERVICE"] = options.name  # a name for messages to servers
        settings, changed = home_of(options.name, stop, quiet=options.quiet)
        with ServiceLock(settings.run_dir, options.name) as lock:
            pulse = PulseFile(settings.run_dir, options.name)
            pulse.write()
            return _Served(settings, _load(options.module), pulse, lock, stop, changed).run()
    except AcoupiError as error:
        if stop.is_set():
            return 0
        tell(error)
        return error.exit_code
    except Exception:
        note_crash()
        raise


def _load(name: str) -> _Module:
    try:
        module = import_module(name)
    except ImportError as error:
        raise _unusable(name, f"importing it failed: {error}.") from error
    missing = [one for one in ("run", "is_well") if not callable(getattr(module, one, None))]
    if missing:
        raise _unusable(name, f"it has no function {' and no function '.join(missing)}.")
    return cast("_Module", module)


def _unusable(name: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'the service cannot be run from the module "{name}".', "acoupi setup", why=why
    )


def home_of(
    name: str, stop: threading.Event, *, quiet: bool
) -> tuple[Settings, Callable[[], str | None]]:
    """Return the settings of a home that is set up, and what notices changes of them."""
    if not os.environ.get("ACOUPI_PROGRAM"):
        settings = Settings()
        configure_logging(settings, name, quiet=quiet)
        settle(settings.program_config_file.parent)
        return settings, AppliedWatch(settings.program_config_file.parent).changed
    # Heavy, and only needed where a home sets itself up.
    from acoupi.services.provisioned_home import drop_invalid_variables  # noqa: PLC0415
    from acoupi.services.waiting import await_home  # noqa: PLC0415

    drop_invalid_variables(os.environ)
    settings = Settings()
    configure_logging(settings, name, quiet=quiet)
    settle(settings.program_config_file.parent)
    watch = await_home(settings, name, stop=stop.is_set)
    return settings, AppliedWatch(settings.program_config_file.parent, watch).changed


@dataclass
class _Served:
    """A service that runs, and the thread that writes its pulse."""

    settings: Settings
    module: _Module
    pulse: PulseFile
    lock: ServiceLock
    stop: threading.Event
    changed: Callable[[], str | None]
    code: int = 0
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> int:
        watching = threading.Thread(target=self._watch, daemon=True)
        watching.start()
        try:
            self.module.run(self.settings, self.stop)
        finally:
            self.over.set()
            watching.join(PULSE_EVERY)
        if not self.stop.is_set():
            logger.error("%s stopped without being asked to.", self.pulse.pulse.name)
            self.code = 1
        self.pulse.pulse.state = "stopped"
        self.pulse.write()
        return self.code

    def _watch(self) -> None:
        while not self.over.is_set():
            if reason := self._reason_to_end():
                logger.warning("%s stops: %s.", self.pulse.pulse.name, reason)
                self.stop.set()
                return
            well = self._look()
            if well:
                self.pulse.pulse.state = "ready"
                self.pulse.write()
            self.over.wait(PULSE_EVERY if well else LOOK_EVERY)

    def _reason_to_end(self) -> str | None:
        if not self.lock.keep():
            self.code = AlreadyRunningError.exit_code
            return "another process is running it in this home"
        if reason := self.changed():
            self.code = RENEW
        return reason

    def _look(self) -> bool:
        try:
            return self.module.is_well(self.settings)
        except Exception:
            logger.exception("%s cannot tell whether it works.", self.pulse.pulse.name)
            return False


if __name__ == "__main__":
    sys.exit(main())
