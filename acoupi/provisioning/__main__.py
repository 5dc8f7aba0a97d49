"""The service ``setup``: ``python -m acoupi.provisioning``.

It provisions the home, then replaces itself by `acoupi.provisioning.idle`, so
that the imports of the program do not stay in memory. While something is wrong,
it tries again with back-off.

Exit codes: 0 asked to stop; 1 the home cannot be written; 75 another one runs.
"""

import argparse
import faulthandler
import logging
import os
import sys
from collections.abc import Sequence

from acoupi.errors import AcoupiError
from acoupi.provisioned import Provisioned
from acoupi.provisioning.apply import provision
from acoupi.provisioning.following import next_look
from acoupi.provisioning.idle import IDLE_MODULE, become, wait_times
from acoupi.services.logs import configure_logging, tell
from acoupi.services.provisioned_home import drop_invalid_variables
from acoupi.stack.pulse import PulseFile, ServiceLock
from acoupi.stack.settings import Settings
from acoupi.stack.stack import SETUP

__all__ = ["log_outcome", "main"]

logger = logging.getLogger("acoupi.provisioning")

PATIENCE = 600
"""Seconds for one attempt. One that hangs (while a program is imported, say) ends with its
traceback, and is started again."""


def log_outcome(found: Provisioned, *, is_new: bool) -> None:
    """Log the sources of settings, and any fault."""
    if is_new:
        logger.info("The home is set up with the program %s.", found.program)
        for source in found.sources:
            logger.info("Source: %s", source)
        current = found.deployments[-1]
        logger.info("The current deployment is %s, since %s.", current.name, current.started_on)
    elif not found.fault:
        logger.info("Nothing to do: %s, and nothing changed.", found.in_force())
    if found.fault:
        logger.error("%s (%s.)", found.fault.text(), found.in_force())
        if found.fault.help:
            logger.error("Try: %s", found.fault.help)


def _provision(settings: Settings, given: dict[str, str]) -> Provisioned:
    found, is_new = provision(settings, given)
    log_outcome(found, is_new=is_new)
    return found


def _provision_as_service(settings: Settings, given: dict[str, str]) -> Provisioned:
    """Provision, and show the result in the pulse of the service."""
    with ServiceLock(settings.run_dir, SETUP):
        pulse = PulseFile(settings.run_dir, SETUP)
        pulse.pulse.message = "checking the configuration"
        pulse.write()
        found = _provision(settings, given)
        pulse.pulse.state = "degraded" if found.fault else "ready"
        pulse.pulse.message = found.trouble()
        pulse.pulse.last_error = found.fault.text() if found.fault else None
        pulse.write()
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Provision the home, then become the idle service; return an exit code otherwise."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.provisioning")
    parser.add_argument(
        "--once",
        action="store_true",
        help="set the home up and exit; several may run at once",
    )
    parser.add_argument("--failures", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    given = dict(os.environ)
    name = os.environ.get("ACOUPI_SERVICE", SETUP) if options.once else SETUP
    try:
        os.environ["ACOUPI_SERVICE"] = name
        drop_invalid_variables(os.environ)
        settings = Settings()
        configure_logging(settings, name)
        found = (
            _provision(settings, given) if options.once else _provision_as_service(settings, given)
        )
    except AcoupiError as error:
        tell(error)
        return error.exit_code
    faulthandler.cancel_dump_traceback_later()
    if options.once:
        return 2 if found.fault else 0
    failures = options.failures + 1 if found.fault else 0
    wait = next_look(os.environ, found.followed)
    if found.fault:
        wait = min(wait, wait_times(failures))
        logger.info("Trying again in %.0f s.", wait)
    logging.shutdown()
    os.environ.update(given)
    return become(IDLE_MODULE, str(failures), str(wait))


if __name__ == "__main__":
    sys.exit(main())
