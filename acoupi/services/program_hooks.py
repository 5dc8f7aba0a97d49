"""Calls ``on_start`` and ``on_end`` of a program when a deployment starts or ends.

Targets that keep the program in containers run
``python -m acoupi.system.hooks start|end|settle DEPLOYMENT`` there; others call `call_last_hook`.
"""

import argparse
import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from acoupi.components.types import Store
from acoupi.data import Deployment
from acoupi.errors import AcoupiError, DeploymentError, StoreError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.services.logs import tell
from acoupi.stack.doors import only_runs_models
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Service

if TYPE_CHECKING:
    from acoupi.programs import AcoupiProgram

__all__ = ["Hook", "call_hook", "call_last_hook", "hook_service", "main", "settle_store"]

logger = logging.getLogger(__name__)

Hook = Literal["start", "end", "settle"]
HUB_TASK = "hub_task"
"""The task that reports to a hub; see `acoupi.services.sensor_tasks`."""


def hook_service(services: Iterable[Service]) -> str | None:
    """Return the service in which hooks are called; None if there are no services.

    It is the worker that sends messages. Workers that run models may not write the stores; they
    and the recorder are used only if there is no other.
    """
    every = sorted(services, key=only_runs_models)
    workers = [one for one in every if one.role == "worker"]
    sending = [one for one in workers if one.network and not only_runs_models(one)]
    tidying = [one for one in workers if DEFAULT_QUEUE in one.queues]
    return next((one.name for one in [*sending, *tidying, *workers, *every]), None)


def call_hook(program: "AcoupiProgram[Any]", what: Hook, deployment: Deployment) -> None:
    """Call ``on_start`` or ``on_end`` of a program; convert its errors to AcoupiError.

    Raises
    ------
    AcoupiError
        The one that the program raised, or a DeploymentError with the cause.
    """
    if what == "settle":
        settle_store(program)
        return
    hook = program.on_start if what == "start" else program.on_end
    try:
        if what == "end":
            _store_if_missing(program, deployment)
        hook(deployment)
    except AcoupiError:
        raise
    except Exception as error:
        raise DeploymentError(
            f'the program could not {what} the deployment "{deployment.name}".',
            "acoupi --debug deployment status   (or check the program's own code)",
            why=f"on_{what} raised {type(error).__name__}: {error}",
        ) from error


def call_last_hook(program: "AcoupiProgram[Any]", what: Hook, deployment: Deployment) -> None:
    """Call a hook when no service of the sensor is running.

    The hub is told at once that a deployment has ended: otherwise it would only hear of that after
    the next start, and count all time until then as missed.

    Raises
    ------
    AcoupiError
        See `call_hook`; never for a failure to reach the hub, which then hears after the next
        start.
    """
    call_hook(program, what, deployment)
    report = program.tasks.get(HUB_TASK) if what == "end" else None
    if report is not None:
        try:
            report.function()
        except Exception:
            logger.exception("The hub was not told of the end of the deployment")


def _store_if_missing(program: "AcoupiProgram[Any]", deployment: Deployment) -> None:
    """Let a program end a deployment that is missing in its store.

    Its start was cut short, or the store was set aside and is new.
    """
    store = getattr(program, "store", None)
    if isinstance(store, Store) and all(one.id != deployment.id for one in store.get_deployments()):
        store.store_deployment(deployment)


def settle_store(program: "AcoupiProgram[Any]") -> None:
    """Bring a program's store into line with the running deployment by the home's file.

    A failure is only logged: the worker still starts, and
    recovery tries again.
    """
    settle = getattr(getattr(program, "store", None), "settle_deployments", None)
    if settle is None:
        return
    try:
        for one in settle():
            logger.warning("The deployment %s had been left open; it has been ended now.", one.name)
    except StoreError as error:
        logger.warning("The deployments could not be settled: %s %s", error, error.why or "")


def main(arguments: Sequence[str] | None = None) -> int:
    """Call a hook of the program of this home; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m acoupi.system.hooks")
    parser.add_argument("what", choices=["start", "end", "settle"])
    parser.add_argument("deployment", help="as JSON")
    options = parser.parse_args(arguments)
    try:
        deployment = Deployment.model_validate_json(options.deployment)
        from acoupi.services.construction import load_program  # noqa: PLC0415 - Celery

        call_last_hook(load_program(Settings()), options.what, deployment)
    except AcoupiError as error:
        tell(error)
        return error.exit_code
    return 0
