"""Lets a program skip recordings when its models are too slow, if the settings ask for it."""

from datetime import timedelta
from functools import partial
from typing import Any

from acoupi import data
from acoupi.backlog import Backlog, has_pauses
from acoupi.components.types import Store
from acoupi.config.sensor import BacklogSettings
from acoupi.effort import CapturePlan
from acoupi.errors import ConfigurationError
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.tasks.backlog import generate_backlog_task

__all__ = ["impossible", "limit_backlog"]

INTERVAL = timedelta(minutes=1)


def limit_backlog(program: AcoupiProgram[Any], settings: BacklogSettings) -> None:
    """Give the policy to a program's store, and register the task that applies it.

    Raises
    ------
    ConfigurationError
        If the policy is not possible: the program has no suitable store or no model, no worker
        has the default queue, or it records day and night, leaving no time to analyse.
    """
    if settings.policy == "none":
        return
    less = "thin" if settings.policy == "nightly" else "none"
    policy = "sensor.backlog.policy"
    refused = partial(impossible, f"{policy} {settings.policy}", f"{policy} {less}")
    store, plan = getattr(program, "store", None), plan_of(program)
    models = _models_of(program)
    if not isinstance(store, Store) or not store.can_leave_out:
        raise refused("its store does not keep track of skipped recordings")
    if not models:
        raise refused("it runs no model on its recordings")
    if settings.policy == "nightly" and not _pauses(plan):
        raise refused("it seems to record day and night")
    store.backlog = Backlog(settings.policy, settings.limit_hours, settings.keep_files, plan)
    task = generate_backlog_task(store, models, program.logger.getChild("backlog"))
    try:
        program.add_task(function=task, schedule=INTERVAL, queue=DEFAULT_QUEUE)
    except ValueError as error:
        raise refused(str(error)) from error


def _pauses(plan: CapturePlan | None) -> bool:
    now = data.utc_now()
    anywhere = data.Deployment(name="", started_on=now)
    return plan is not None and has_pauses(plan, anywhere, now)


def plan_of(program: AcoupiProgram[Any]) -> CapturePlan | None:
    """Return when a program plans to record; None: unknown."""
    ask = getattr(program, "get_capture_plan", None)
    return None if ask is None else ask(program.config)


def _models_of(program: AcoupiProgram[Any]) -> list[str]:
    ask = getattr(program, "get_required_models", None)
    return [] if ask is None else ask(program.config)


def impossible(setting: str, instead: str, why: str) -> ConfigurationError:
    """Return the error for a setting that a program cannot follow, with one that it can."""
    return ConfigurationError(
        f"this program cannot use {setting}.", f"acoupi config set {instead}", why=f"{why}."
    )
