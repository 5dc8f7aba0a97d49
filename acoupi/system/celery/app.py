"""The Celery app of a sensor with its tasks, which ``app.py`` of a home exposes."""

from typing import Any

from celery import Celery

from acoupi.services.construction import build_program
from acoupi.stack.configured import require_configured
from acoupi.stack.settings import Settings
from acoupi.targets.process import run_python

__all__ = ["get_celery_app", "run_celery_command"]


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
        Arguments after ``celery``.
    with_app
        Whether to pass it the app.
    quiet
        Whether to make Celery's output shorter.
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
