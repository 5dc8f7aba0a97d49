"""Lets a program leave out what its models have no time for, where the sensor's settings say so."""

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
    """Tell the store of a program the policy, and register the task that follows it.

    Raises
    ------
    ConfigurationError
        If the policy cannot be followed: the program has no such store or no model, nobody
        listens to the default queue, or it records day and night and is to analyse in between.
    """
    if settings.policy == "none":
        return
    less = "thin" if settings.policy == "nightly" else "none"
    policy = "sensor.backlog.policy"
    refused = partial(impossible, f"{policy} {settings.policy}", f"{policy} {less}")
    store, plan = getattr(program, "store", None), plan_of(program)
    models = _models_of(program)
    if not isinstance(store, Store) or not store.can_leave_out:
        raise refused("its store keeps no account of what is left out")
    if not models:
        raise refused("it runs no model on its recordings")
    if settings.policy == "nightly" and not _pauses(plan):
        raise refused("it records day and night, as far as is known")
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
    """Return when a program plans to record; None: not known."""
    ask = getattr(program, "get_capture_plan", None)
    return None if ask is None else ask(program.config)


def _models_of(program: AcoupiProgram[Any]) -> list[str]:
    ask = getattr(program, "get_required_models", None)
    return [] if ask is None else ask(program.config)


def impossible(setting: str, instead: str, why: str) -> ConfigurationError:
    """Return the error for a setting that a program cannot follow, with one that it can."""
    return ConfigurationError(
        f"this program cannot have {setting}.", f"acoupi config set {instead}", why=f"{why}."
    )
