"""From a program to a sensor, and from there to a deployment and back.

`setup_program` first decides everything (which files, with what in them) and
only then writes, all or nothing. `start_program` undoes, in reverse order,
what it had done when a later step fails.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel

from acoupi import data
from acoupi.bundles.rendering import (
    TEMPLATES,
    FileDiff,
    Manifest,
    check_not_edited,
    compare_files,
    render_tree,
)
from acoupi.config import Ask
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.home import using_home
from acoupi.services.construction import load_program
from acoupi.services.program_hooks import Hook, call_hook
from acoupi.stack.configured import require_configured
from acoupi.stack.loading import load_program_class
from acoupi.stack.pulse import is_locked
from acoupi.stack.settings import PoolType, Settings
from acoupi.system.deployments import (
    end_deployment,
    get_current_deployment,
    remove_deployment,
    start_deployment,
)
from acoupi.system.planning import Plan, plan_setup
from acoupi.targets import Target, find_target, target_for
from acoupi.writing import PRIVATE, RenderedFile, write_atomic, write_files

__all__ = [
    "purge_queues",
    "restart_workers",
    "setup_diff",
    "setup_program",
    "start_program",
    "start_workers",
    "stop_program",
    "stop_workers",
    "write_program_file",
]

logger = logging.getLogger(__name__)

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]


def setup_program(
    settings: Settings,
    program_name: str,
    args: list[str] | None = None,
    prompt: bool = False,
    *,
    target: str | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    broker: str | None = None,
    force: bool = False,
    ask: Ask | None = None,
    config: BaseModel | None = None,
    sensor: BaseModel | None = None,
) -> None:
    """Make a home into a sensor: check everything, then write everything.

    A second setup keeps the answers of the first where it is given no others.

    Parameters
    ----------
    settings
        Where the home is.
    program_name
        As for `load_program_class`.
    args
        Options for the configuration (``--recording.duration 3``); for what belongs to the
        sensor (``--sensor.recorder.microphone_patience 600``); and for Celery (``--celery.…``).
    prompt
        Whether to ask for what was not given; needs `ask`.
    target
        Where it will run; None: as before, else ``process``.
    file
        A configuration file (JSON, YAML or TOML).
    environ
        Where ``ACOUPI_CONFIG__…`` is looked up; None: the environment.
    broker
        ``redis://…``; "embedded" for the one without a server; None: as before.
    force
        Write over generated files that were edited by hand.
    ask
        Asks the user one question (see `acoupi.config.Ask`).
    config
        The whole configuration, valid already; None: from the sources above.
    sensor
        The same of what belongs to the sensor (see `acoupi.config.sensor`).

    Raises
    ------
    AcoupiError
        If anything is wrong. Nothing was written then.
    """
    plan = plan_setup(
        settings,
        program_name,
        args,
        prompt,
        target=target,
        file=file,
        environ=environ,
        broker=broker,
        ask=ask,
        config=config,
        sensor=sensor,
    )
    _check_movable(settings, plan)
    if not force:
        check_not_edited(settings.home, plan.generated, plan.previous)
    obsolete = {
        settings.home / name
        for name in (plan.previous.files if plan.previous else {})
        if PurePath(name) not in plan.generated
    }
    files = {settings.home / path: one for path, one in plan.generated.items()}
    write_files(
        # Last the manifest: it says that the rest is there.
        {**plan.settings_files, **files, settings.manifest_file: plan.manifest.to_file()},
        remove=sorted(obsolete),
        folders=[settings.log_dir, settings.run_dir, settings.home / "data"],
    )
    plan.target.prepare(plan.stack)


def _check_movable(settings: Settings, plan: Plan) -> None:
    """Refuse another target while services run that only the present one can stop."""
    before = plan.previous
    if before is None or before.target == plan.target.name:
        return
    running = [one.name for one in before.services if is_locked(settings.run_dir, one.name)]
    if running:
        raise ConfigurationError(
            f"cannot move the sensor from the target {before.target} to {plan.target.name}.",
            "acoupi deployment stop   (where there is no deployment: "
            f"{find_target(before.target).stop_command}), then again",
            why=f"{', '.join(running)} still run, and setup would remove what stops them.",
        )


def setup_diff(
    settings: Settings,
    program_name: str,
    args: list[str] | None = None,
    prompt: bool = False,
    *,
    target: str | None = None,
    file: Path | None = None,
    environ: Mapping[str, str] | None = None,
    broker: str | None = None,
    ask: Ask | None = None,
) -> list[FileDiff]:
    """Return what `setup_program` would change, and change nothing; secrets are not shown.

    Raises
    ------
    AcoupiError
        If that setup would be refused.
    """
    plan = plan_setup(
        settings,
        program_name,
        args,
        prompt,
        target=target,
        file=file,
        environ=environ,
        broker=broker,
        ask=ask,
    )
    shown: dict[PurePath, RenderedFile] = {
        PurePath(os.path.relpath(path, settings.home)): one
        for path, one in plan.settings_files.items()
        if one.mode != PRIVATE
    }
    return compare_files(settings.home, {**shown, **plan.generated}, plan.previous)


def write_program_file(program_name: str, settings: Settings) -> None:
    """Write ``app.py`` alone; `setup_program` does this and the rest.

    Raises
    ------
    ProgramError
        If there is no such program.
    """
    load_program_class(program_name)
    (rendered,) = render_tree(TEMPLATES, {}, below=("app.py",)).values()
    write_atomic(settings.program_file, rendered.text)


# --- deployments ----------------------------------------------------------------------


@contextmanager
def _undone_by(undo: Callable[[], object], *, if_need_be: bool = False) -> Iterator[None]:
    """Call `undo` if the block fails; if that fails too, say so beside the first error.

    With `if_need_be` there may have been nothing to undo: a failure is then only logged.
    """
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except Exception as second:  # noqa: BLE001 - reported with the first
            if if_need_be:
                logger.info("Nothing to undo, it seems: %s", second)
            else:
                _add_failure(error, second)
        raise


def _add_failure(error: BaseException, second: Exception) -> None:
    reason = getattr(second, "why", None)
    note = f"undoing it failed too: {second}" + (f" {reason}" if reason else "")
    error.add_note(note)
    if isinstance(error, AcoupiError):
        error.why = f"{error.why or ''} ({note})".strip()


def start_program(
    settings: Settings,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
    *,
    echo: Callable[[str], None] | None = None,
) -> None:
    """Begin a deployment: write it down, prepare the program, start the services.

    If a step fails, those before it are undone, last first, and the home is
    as it was.

    Parameters
    ----------
    settings
        Of the home.
    name
        Of the deployment.
    latitude, longitude
        Degrees, WGS 84.
    echo
        Called with each command line that is run for it, if any is.

    Raises
    ------
    AcoupiError
        If one goes on already, or a step fails.
    """
    require_configured(settings)
    target = target_for(settings)
    target.echo = echo or target.echo
    with using_home(settings.home):
        target.check()
        call = _hooks(settings, target)
        before = _previous_file(settings)
        deployment = start_deployment(settings, name, latitude, longitude)
        with _undone_by(lambda: _put_back(settings, before)):
            with _undone_by(lambda: _end_again(call, deployment), if_need_be=True):
                call("start", deployment)
            with (
                _undone_by(lambda: _end_again(call, deployment)),
                _undone_by(target.down),
            ):
                target.up()


def _previous_file(settings: Settings) -> str | None:
    try:
        return settings.deployment_file.read_text()
    except OSError:
        return None


def _put_back(settings: Settings, before: str | None) -> None:
    if before is None:
        remove_deployment(settings)
    else:
        write_atomic(settings.deployment_file, before)


CallHook = Callable[[Hook, data.Deployment], None]


def _hooks(settings: Settings, target: Target) -> CallHook:
    """Return what calls the hooks of the program, where the program is."""
    if target.has_own_python:
        return target.run_hook
    program = load_program(settings)
    return lambda what, deployment: call_hook(program, what, deployment)


def _end_again(call: CallHook, deployment: data.Deployment) -> None:
    """End a deployment in the program's store that has hardly begun."""
    call("end", deployment.model_copy(update={"ended_on": data.utc_now()}))


def stop_program(settings: Settings, *, echo: Callable[[str], None] | None = None) -> None:
    """End the deployment: stop beat, then the workers, then let the program finish.

    The deployment is ended even if the program cannot finish; that is
    reported all the same.

    Raises
    ------
    AcoupiError
        If there is no deployment, or a service does not stop (the deployment
        goes on then), or the program could not finish.
    """
    require_configured(settings)
    get_current_deployment(settings)
    with using_home(settings.home):
        target = target_for(settings)
        target.echo = echo or target.echo
        target.down()
        deployment = end_deployment(settings)
        _hooks(settings, target)("end", deployment)


# --- workers --------------------------------------------------------------------------


def _target(settings: Settings) -> Target:
    require_configured(settings)
    return target_for(settings)


@contextmanager
def _log_level(level: str | None) -> Iterator[None]:
    """Give the services a log level, for as long as they run."""
    before = os.environ.get("ACOUPI_LOG_LEVEL")
    if level is not None:
        os.environ["ACOUPI_LOG_LEVEL"] = level
    try:
        yield
    finally:
        if level is not None:
            os.environ.pop("ACOUPI_LOG_LEVEL")
            if before is not None:
                os.environ["ACOUPI_LOG_LEVEL"] = before


def start_workers(
    settings: Settings, pool: PoolType = "threads", log_level: LogLevel | None = None
) -> None:
    """Start the workers, without beat.

    Parameters
    ----------
    settings
        Of the home.
    pool
        Accepted for published callers; the program's `AcoupiWorker.pool`
        decides, because not every pool can run every worker.
    log_level
        None: as the settings say.

    Raises
    ------
    TargetError
        If one does not start.
    """
    del pool
    target = _target(settings)
    with _log_level(log_level):
        target.start_workers()


def stop_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop the workers, each after what it is doing; beat goes on.

    Raises
    ------
    TargetError
        If one does not stop.
    """
    target = _target(settings)
    with _log_level(log_level):
        target.stop_workers()


def restart_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop and start the workers.

    Raises
    ------
    TargetError
        If one does not stop or start.
    """
    target = _target(settings)
    with _log_level(log_level):
        target.restart_workers()


def purge_queues(settings: Settings) -> dict[str, int]:
    """Remove what waits in the queues; return how many messages of each that were.

    Recordings are not lost by it: the store knows which wait, and they are
    sent again.

    Raises
    ------
    TargetError
        If the broker does not answer.
    """
    require_configured(settings)
    manifest = Manifest.read(settings.manifest_file)
    queues = {queue for one in manifest.services for queue in one.queues} if manifest else set()
    return target_for(settings).purge(sorted(queues))
