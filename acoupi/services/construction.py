"""Builds the program of a home on a Celery app."""

import datetime
import logging
from typing import Any
from zoneinfo import ZoneInfo

from celery import Celery
from pydantic import BaseModel

from acoupi.clips import ClipSettings
from acoupi.components.message_stores.outbox import OutboxLimits
from acoupi.components.types import Store
from acoupi.config import load_config
from acoupi.config.sensor import Clips, Outbox, Review, load_sensor
from acoupi.errors import InvalidProgramError
from acoupi.programs import AcoupiProgram
from acoupi.sampling import Sampling
from acoupi.services.broker import load_celery_settings, make_app
from acoupi.services.sensor_tasks import add_sensor_tasks
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.configured import read_program_name, read_steadily
from acoupi.stack.loading import load_program_class
from acoupi.stack.settings import Settings

logger = logging.getLogger(__name__)

__all__ = ["build_program", "construct", "load_program"]


def build_program(
    settings: Settings, *, worker: str | None = None
) -> tuple[Celery, AcoupiProgram[Any]]:
    """Return the Celery app and the program of a home, its tasks registered.

    Raises
    ------
    NotConfiguredError, ProgramError, ConfigurationError
        If the home has no sensor, or it cannot be used.
    """
    name, program_class, config, celery = read_steadily(settings, lambda: _read(settings))
    app = make_app(settings, celery, worker=worker)
    program = construct(program_class, config, app, name)
    sensor = load_sensor(settings)
    _keep_sample(program, sensor.review)
    add_sensor_tasks(program, settings, name, sensor)
    _keep_clips(program, sensor.clips)
    _limit_outbox(program, sensor.outbox)
    return app, program


def _keep_sample(program: AcoupiProgram[Any], review: Review) -> None:
    """Tell the store of a program which recordings are kept for review."""
    store = getattr(program, "store", None)
    if not isinstance(store, Store):
        return
    timezone = getattr(program.config, "timezone", None)
    zone = ZoneInfo(str(timezone)) if timezone else datetime.UTC
    store.sampling = Sampling(review.sample_size, review.quiet_per_night, review.seed, zone)


def _keep_clips(program: AcoupiProgram[Any], clips: Clips) -> None:
    """Tell the store of a program what is kept around detections."""
    store = getattr(program, "store", None)
    if isinstance(store, Store) and store.can_clip:
        store.clips = ClipSettings(clips.enabled, clips.before, clips.after)
    elif clips.enabled:
        program.logger.warning("Whole files are kept: the store of this program knows no clips")


def _limit_outbox(program: AcoupiProgram[Any], outbox: Outbox) -> None:
    """Tell the message store of a program what its destinations may cost."""
    if outbox == Outbox():
        return
    store: Any = getattr(program, "message_store", None)
    if not hasattr(store, "outbox"):
        logger.warning(
            "The settings sensor.outbox are not kept: the program has a message store of its "
            "own, or none"
        )
        return
    ages = outbox.longest_days.model_dump(exclude_none=True)
    store.outbox = OutboxLimits(
        outbox.bytes_per_day,
        outbox.kept_percent / 100,
        outbox.batch_messages,
        {kind: days * 86_400 for kind, days in ages.items()},
    )


def _read(
    settings: Settings,
) -> tuple[str, type[AcoupiProgram[Any]], BaseModel, CelerySettings]:
    name = read_program_name(settings)
    program_class = load_program_class(name)
    config = load_config(settings.program_config_file, program_class.get_config_schema())
    return name, program_class, config, load_celery_settings(settings)


def construct(
    program_class: type[AcoupiProgram[Any]], config: Any, app: Celery, name: str
) -> AcoupiProgram[Any]:
    """Return a program that is built on an app.

    Raises
    ------
    InvalidProgramError
        If its setup registers invalid tasks.
    """
    try:
        program = program_class(program_config=config, app=app)
    except ValueError as error:
        raise InvalidProgramError(
            name,
            f'the program "{name}" cannot be set up.',
            f"look at setup() of {program_class.__name__}",
            why=f"{error}.",
        ) from error
    app.finalize()
    return program


def load_program(settings: Settings) -> AcoupiProgram[Any]:
    """Return the program of this home, built with its configuration.

    Raises
    ------
    NotConfiguredError, ProgramError, ConfigurationError
        If the home has no sensor, or it cannot be used.
    """
    _, program = build_program(settings)
    return program
