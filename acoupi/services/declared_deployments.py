"""Starts and ends the deployments that environment variables declare.

The worker that calls hooks (see `acoupi.services.program_hooks.hook_service`) does so
when it starts, in the order of the deployments, and notes in ``data/deployments.json``
which hooks it has called. It holds a lock on ``data/`` meanwhile, so that an old container
that is being replaced and its successor do not both call one. The other workers wait
for it, so that nothing is recorded into the previous deployment.
"""

import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from acoupi import data
from acoupi.data import Deployment
from acoupi.errors import AcoupiError, ConfigurationError, DeviceError
from acoupi.locks import lock_within
from acoupi.services.program_hooks import call_hook, hook_service
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack
from acoupi.writing import disk_error, write_atomic

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = ["CALLED", "read_called", "settle_deployments"]

logger = logging.getLogger(__name__)

CALLED = "data/deployments.json"
"""Record of called hooks, in the home."""
PATIENCE = 60.0
"""Seconds that the other workers wait; a recording matters more than its deployment."""
LOCK_PATIENCE = 10.0
"""Seconds to wait for another process that calls hooks."""
RETRY_FIRST, RETRY_LONGEST = 5.0, 300.0
LOOK_EVERY = 0.2


def settle_deployments(
    settings: Settings,
    name: str,
    stack: Stack,
    program: "AcoupiProgram[Any]",
    deployments: list[Deployment],
) -> None:
    """Call the hooks that are due, or wait until another worker has called them.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of this service.
    stack
        The services of the sensor.
    program
        The program with the hooks.
    deployments
        In order, the current one last.
    """
    called = _CalledHooks(settings.home / CALLED)
    if name == hook_service(stack.workers):
        with suppress(AcoupiError, OSError):  # each call of a hook logs it
            called.put_damaged_aside()
        if not _call_all(called, program, deployments):
            retry = threading.Thread(
                target=_retry, args=(called, program, deployments), name="hooks", daemon=True
            )
            retry.start()
    elif deployments and not _has_started_in_time(called, deployments[-1]):
        logger.warning(
            "The deployment %s has not started within %.0f s; continuing without it.",
            deployments[-1].name,
            PATIENCE,
        )


class _CalledHooks:
    """Keeps track of which hooks were called."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from calling hooks meanwhile.

        Raises
        ------
        DeviceError
            If another process does so for too long, or after a disk error.
        """
        folder = self._path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise disk_error("read", folder, error) from error
        try:
            if not lock_within(handle, LOCK_PATIENCE):
                raise DeviceError(
                    "cannot start the deployment yet.",
                    "acoupi compose ps   (acoupi tries again)",
                    why=f"another process has held the lock on {folder} for {LOCK_PATIENCE:.0f} s.",
                )
            yield
        finally:
            os.close(handle)

    def has(self, deployment: Deployment, what: str) -> bool:
        return what in read_called(self._path).get(str(deployment.id), [])

    def note(self, deployment: Deployment, what: str) -> None:
        known = read_called(self._path)
        known.setdefault(str(deployment.id), []).append(what)
        write_atomic(self._path, json.dumps(known, indent=2) + "\n")

    def put_damaged_aside(self) -> None:
        """Start afresh if the file is damaged: a hook may be called twice, but none is left out."""
        aside = self._path.with_name(f"{self._path.name}.damaged")
        try:
            read_called(self._path)
        except ConfigurationError as error:
            logger.warning("%s %s It is kept as %s.", error.message, error.why, aside.name)
            self._path.replace(aside)


def read_called(path: Path) -> dict[str, list[str]]:
    """Return which hooks were called, by the id of the deployment.

    Raises
    ------
    AcoupiError
        If the file cannot be read.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {name: what for name, what in content.items() if isinstance(what, list)}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise disk_error("read", path, error) from error
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ConfigurationError(
            f'cannot read "{path}".',
            "restart the services",
            why="it does not list the hooks that were called, so they are called again.",
        ) from error


def _call_all(
    called: _CalledHooks, program: "AcoupiProgram[Any]", deployments: list[Deployment]
) -> bool:
    """Call the hooks that are due; return whether none is left."""
    is_done = True
    for deployment in deployments:
        is_done &= _call(called, program, "start", deployment)
        if deployment.ended_on is not None:
            is_done &= _call(called, program, "end", deployment)
    return is_done


def _call(
    called: _CalledHooks, program: "AcoupiProgram[Any]", what: Any, deployment: Deployment
) -> bool:
    try:
        with called.locked():
            if called.has(deployment, what):
                return True
            is_start = what == "start"
            seen = deployment.model_copy(update={"ended_on": None}) if is_start else deployment
            call_hook(program, what, seen)
            called.note(deployment, what)
    except AcoupiError as error:
        logger.error("%s %s", error.message, error.why or "")  # noqa: TRY400 - it says all
        return False
    words = "started" if what == "start" else "ended"
    logger.info("The deployment %s %s.", deployment.name, words)
    return True


def _retry(
    called: _CalledHooks, program: "AcoupiProgram[Any]", deployments: list[Deployment]
) -> None:
    pause = RETRY_FIRST
    while True:
        threading.Event().wait(pause)
        if _call_all(called, program, deployments):
            return
        pause = min(pause * 2, RETRY_LONGEST)


def _has_started_in_time(called: _CalledHooks, deployment: Deployment) -> bool:
    deadline = data.monotonic() + PATIENCE
    while data.monotonic() <= deadline:
        with suppress(AcoupiError):  # the worker that calls the hooks logs it
            if called.has(deployment, "start"):
                return True
        threading.Event().wait(LOOK_EVERY)
    return False
