"""The Celery app of a sensor, its tasks registered: what ``app.py`` of a home exposes."""

from typing import Any

from celery import Celery

from acoupi.errors import InvalidProgramError
from acoupi.programs import AcoupiProgram
from acoupi.system.celery.broker import make_app
from acoupi.system.config import load_config
from acoupi.system.configured import read_program_name, require_configured
from acoupi.system.constants import Settings
from acoupi.system.programs import load_program_class
from acoupi.system.targets.process import run_python

__all__ = ["build_program", "construct", "get_celery_app", "make_app", "run_celery_command"]


def build_program(
    settings: Settings, *, worker: str | None = None
) -> tuple[Celery, AcoupiProgram[Any]]:
    """Return the Celery app and the program of a home, its tasks registered.

    Raises
    ------
    NotConfiguredError, ProgramError, ConfigurationError
        If there is no sensor there, or it cannot be used.
    """
    name = read_program_name(settings)
    program_class = load_program_class(name)
    config = load_config(settings.program_config_file, program_class.get_config_schema())
    app = make_app(settings, worker=worker)
    return app, construct(program_class, config, app, name)


def construct(
    program_class: type[AcoupiProgram[Any]], config: Any, app: Celery, name: str
) -> AcoupiProgram[Any]:
    """Return the program, built on an app.

    Raises
    ------
    InvalidProgramError
        If its setup registers tasks that cannot be.
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


def get_celery_app(settings: Settings) -> Celery:
    """Return the Celery app of the configured program, its tasks registered.

    Raises
    ------
    NotConfiguredError, ProgramError, ConfigurationError
        If there is no sensor there, or it cannot be used.
    """
    app, _ = build_program(settings)
    return app


def run_celery_command(
    settings: Settings,
    args: list[str],
    with_app: bool = True,
    quiet: bool = False,
    **kwargs: Any,
) -> Any:
    """Run ``celery ARGS`` on the app of a home; return the completed process.

    Parameters
    ----------
    settings
        Of the home.
    args
        After ``celery``.
    with_app
        Whether to give it the app.
    quiet
        Whether to ask Celery to say less.
    **kwargs
        For `subprocess.run`.
    """
    command = ["-m", "celery"]
    if with_app:
        require_configured(settings)
        command += ["-A", settings.app_name, "--workdir", str(settings.home)]
    if quiet:
        command.append("--quiet")
    return run_python(settings, [*command, *args], **kwargs)
