"""Beginning and ending deployments that variables name, where the program is.

The worker that calls hooks (see `acoupi.services.program_hooks.hook_service`) does it at
its start, in the order of the deployments, and notes in ``data/deployments.json``
which are done. The others wait for it, so that nothing is recorded into the
deployment before.
"""

import json
import logging
import threading
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.data import Deployment
from acoupi.errors import AcoupiError
from acoupi.programs import AcoupiProgram
from acoupi.services.program_hooks import call_hook, hook_service
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack
from acoupi.writing import write_atomic

__all__ = ["settle_deployments"]

logger = logging.getLogger("acoupi.provisioning")

PATIENCE = 60.0
"""Seconds that the others wait; recording matters more than the name it goes under."""
RETRY_FIRST, RETRY_LONGEST = 5.0, 300.0
LOOK_EVERY = 0.2


def settle_deployments(
    settings: Settings,
    name: str,
    stack: Stack,
    program: AcoupiProgram[Any],
    deployments: list[Deployment],
) -> None:
    """Call the hooks that are due, or wait for who does.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of this service.
    stack
        Which services there are.
    program
        Whose hooks are called.
    deployments
        In their order, the current one last.
    """
    ledger = _Ledger(settings.home / "data" / "deployments.json")
    if name == hook_service(stack.workers):
        if not _call_all(ledger, program, deployments):
            retry = threading.Thread(
                target=_retry, args=(ledger, program, deployments), name="hooks", daemon=True
            )
            retry.start()
    elif deployments and not _begun_within(ledger, deployments[-1]):
        logger.warning(
            "The deployment %s has not begun within %.0f s; going on all the same.",
            deployments[-1].name,
            PATIENCE,
        )


class _Ledger:
    """Which hooks were called."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, deployment: Deployment, what: str) -> bool:
        return what in self._read().get(str(deployment.id), [])

    def note(self, deployment: Deployment, what: str) -> None:
        known = self._read()
        known.setdefault(str(deployment.id), []).append(what)
        write_atomic(self._path, json.dumps(known, indent=2) + "\n")

    def _read(self) -> dict[str, list[str]]:
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}


def _call_all(ledger: _Ledger, program: AcoupiProgram[Any], deployments: list[Deployment]) -> bool:
    """Call what is due; return whether nothing is left."""
    is_done = True
    for deployment in deployments:
        is_done &= _call(ledger, program, "start", deployment)
        if deployment.ended_on is not None:
            is_done &= _call(ledger, program, "end", deployment)
    return is_done


def _call(ledger: _Ledger, program: AcoupiProgram[Any], what: Any, deployment: Deployment) -> bool:
    try:
        if ledger.has(deployment, what):
            return True
        seen = deployment.model_copy(update={"ended_on": None}) if what == "start" else deployment
        call_hook(program, what, seen)
        ledger.note(deployment, what)
    except AcoupiError as error:
        logger.error("%s %s", error.message, error.why or "")  # noqa: TRY400 - said in full
        return False
    words = "began" if what == "start" else "ended"
    logger.info("The deployment %s %s.", deployment.name, words)
    return True


def _retry(ledger: _Ledger, program: AcoupiProgram[Any], deployments: list[Deployment]) -> None:
    pause = RETRY_FIRST
    while True:
        threading.Event().wait(pause)
        if _call_all(ledger, program, deployments):
            return
        pause = min(pause * 2, RETRY_LONGEST)


def _begun_within(ledger: _Ledger, deployment: Deployment) -> bool:
    deadline = data.monotonic() + PATIENCE
    while not ledger.has(deployment, "start"):
        if data.monotonic() > deadline:
            return False
        threading.Event().wait(LOOK_EVERY)
    return True
