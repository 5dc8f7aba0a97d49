"""Containers of a bundle that run one Python module and end."""

import logging
import shlex
from collections.abc import Callable
from pathlib import Path

from acoupi.bundles.engine import TOOK_TOO_LONG, Answer, Engine, compose_command
from acoupi.errors import TargetError
from acoupi.stack.settings import Settings
from acoupi.targets import NOTE
from acoupi.targets.process import script_error

__all__ = ["DOWN_MARGIN", "ask_once", "outcome"]

logger = logging.getLogger(__name__)

PATIENCE = 600.0
DOWN_MARGIN = 60.0
"""Seconds for a container to end, beyond those that its service may take."""


def ask_once(
    engine: Engine, settings: Settings, service: str, *words: str, echo: Callable[[str], object]
) -> Answer:
    """Run a module in a new container like a service's; return the result.

    Parameters
    ----------
    engine, settings
        Where the bundle runs, and of its home.
    service
        The service that the container is like.
    words
        The module, and its arguments.
    echo
        Called with the command line.
    """
    # The time limit is inside: the container would outlive the waiting command.
    limit = ("timeout", "--kill-after=10", f"{PATIENCE:.0f}")
    run = ("run", "--rm", "--no-deps", "-T", service, *limit, "python", "-m", *words)
    command = compose_command(settings, *run)
    echo(shlex.join([one if len(one) < 200 else "..." for one in command]))
    return engine.ask(*command[1:], timeout=PATIENCE + DOWN_MARGIN)


def outcome(answer: Answer, service: str, module: str, called: str) -> str:
    """Return the output of such a module; log its notes.

    Parameters
    ----------
    answer
        Of `ask_once`.
    service, module
        Which ran where, for the error.
    called
        Its name for people.

    Raises
    ------
    AcoupiError
        If it failed: its own error, if it wrote one.
    """
    by_hand = f"acoupi compose run --rm {service} python -m {module} ..."
    if answer.code == TOOK_TOO_LONG:
        raise TargetError(
            f"{called} did not end.", by_hand, why=f"it was killed after {PATIENCE:.0f} s."
        )
    if not answer.is_ok:
        error = script_error(Path(called), answer.err or answer.out, answer.code)
        if error.message == f"{called} failed.":  # not an error of acoupi
            error.help = by_hand
        raise error
    for line in answer.err.splitlines():
        if line.startswith(NOTE):
            logger.warning("%s", line.removeprefix(NOTE))
    return answer.out
