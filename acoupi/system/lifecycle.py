"""From a program to a sensor, and from there to a deployment and back.

`set_up` first decides everything (the files and their contents) and only then writes, all or
nothing. `begin` undoes its earlier steps, in reverse order, when a later one fails.

The functions that published programs call take `Settings`; the others take the
`Sensor` that the command line has read.
"""

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Literal

from pydantic import BaseModel

from acoupi import data
from acoupi.bundles.home_folder import adopted_names, check_home
from acoupi.bundles.rendering import (
    TEMPLATES,
    FileDiff,
    check_not_edited,
    compare_files,
    render_tree,
)
from acoupi.commit import changing, commit_files, read_whole
from acoupi.config import Ask
from acoupi.errors import AcoupiError, ConfigurationError, DeploymentError
from acoupi.home import using_home
from acoupi.services.program_hooks import Hook, call_last_hook
from acoupi.stack.loading import load_program_class
from acoupi.stack.pulse import runs_here
from acoupi.stack.settings import PoolType, Settings
from acoupi.stack.web import check_libraries, check_reach, keys_file
from acoupi.system.config_history import history_files
from acoupi.system.decided import check_decided
from acoupi.system.deployments import (
    end_deployment,
    get_current_deployment,
    read_deployment,
    start_deployment,
    undo_deployment,
)
from acoupi.system.planning import Plan, SetupRequest, plan_setup
from acoupi.system.sensor import Sensor
from acoupi.system.state import unnamed_deployment
from acoupi.targets import find_target
from acoupi.writing import PRIVATE, RenderedFile, write_atomic

__all__ = [
    "begin",
    "change_workers",
    "finish",
    "purge_queues",
    "restart_workers",
    "set_up",
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


def set_up(settings: Settings, request: SetupRequest) -> None:
    """Set up a sensor in a home: check everything, then write everything.

    A second setup keeps the answers of the first unless it is given new ones.

    Raises
    ------
    AcoupiError
        If anything is wrong; then nothing was written.
    """
    check_home(settings, adopts=request.adopts_folder)
    adopted = adopted_names(settings)
    config = settings.program_config_file.parent
    with changing(config, "acoupi setup"):
        plan = plan_setup(settings, request)
        _check_movable(settings, plan)
        check_decided(config, plan, request.beside)
        if plan.target.starts_here and not plan.target.renders_folder:
            check_reach(plan.sensor.web, has_keys=keys_file(settings).exists())  # type: ignore[attr-defined]
            if not plan.target.has_own_python:
                check_libraries(plan.sensor.web)  # type: ignore[attr-defined]
        manifest = replace(plan.manifest, adopted=plan.manifest.adopted or adopted)
        if not request.force:
            _check_not_edited(settings, plan)
        obsolete = [
            settings.home / name
            for name in (plan.previous.files if plan.previous else {})
            if PurePath(name) not in plan.generated
        ]
        files = {settings.home / path: one for path, one in plan.generated.items()}
        seen = {mount.source for one in plan.stack.services for mount in one.mounts}
        waiting = sorted(one for one in seen if one.parent == settings.home / "waiting")
        commit_files(
            config,
            {
                **plan.settings_files,
                **request.beside,
                **history_files(settings, plan.settings_files, request.origin),
                **files,
                settings.manifest_file: manifest.to_file(),
            },
            remove=sorted(obsolete),
            folders=[settings.log_dir, settings.run_dir, settings.home / "data", *waiting],
        )
        plan.target.prepare(plan.stack)


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
    """Set up a sensor in a home; see `set_up`, and `SetupRequest` for the parameters.

    Raises
    ------
    AcoupiError
        If anything is wrong; then nothing was written.
    """
    request = SetupRequest(
        program_name,
        args or (),
        prompt,
        target=target,
        file=file,
        environ=os.environ if environ is None else environ,
        broker=broker,
        force=force,
        ask=ask,
        config=config,
        sensor=sensor,
    )
    set_up(settings, request)


def _check_not_edited(settings: Settings, plan: Plan) -> None:
    """Refuse to overwrite files that were edited by hand, or settings from variables.

    A home that set itself up has a schedule that neither setup nor a person wrote.
    """
    before, files = plan.previous, dict(plan.generated)
    if before is not None and not before.files:
        schedule = files.pop(PurePath(settings.schedule_file.relative_to(settings.home)))
        answers = plan.settings_files[settings.program_config_file]
        new = {settings.schedule_file: schedule, settings.program_config_file: answers}
        is_another = any(file.text != read_whole(path) for path, file in new.items())
        if is_another and before.target == plan.target.name:
            raise ConfigurationError(
                f"the settings of the sensor in {settings.home} come from variables.",
                "where the services are run, set ACOUPI_CONFIG__… (in .env), and start them "
                "again; or, to change them here anyway: acoupi setup --force",
                why="it set itself up, and changes made here are lost when the variables change.",
            )
    check_not_edited(settings.home, files, before)


def _check_movable(settings: Settings, plan: Plan) -> None:
    """Refuse another target while services run that only the current one can stop."""
    before = plan.previous
    if before is None or before.target == plan.target.name:
        return
    running = [one.name for one in before.services if runs_here(settings, one.name)]
    if running:
        raise ConfigurationError(
            f"cannot move the sensor from the target {before.target} to {plan.target.name}.",
            "acoupi stop   (where there is no deployment: "
            f"{find_target(before.target).stop_command}), then again",
            why=f"{', '.join(running)} still run, and setup would remove their stop scripts.",
        )


def setup_diff(settings: Settings, request: SetupRequest) -> list[FileDiff]:
    """Return what `set_up` would change, and change nothing; secrets are not shown.

    Raises
    ------
    AcoupiError
        If that setup would be refused.
    """
    plan = plan_setup(settings, request)
    shown: dict[PurePath, RenderedFile] = {
        PurePath(os.path.relpath(path, settings.home)): one
        for path, one in plan.settings_files.items()
        if one.mode != PRIVATE
    }
    return compare_files(settings.home, {**shown, **plan.generated}, plan.previous)


def write_program_file(program_name: str, settings: Settings) -> None:
    """Write only ``app.py``; `setup_program` also writes all other files.

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
    """Call `undo` if the block fails; if that fails too, add it to the first error.

    With `if_need_be` there may be nothing to undo: then a failure is only logged.
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


def begin(
    sensor: Sensor,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
    *,
    echo: Callable[[str], None] | None = None,
) -> data.Deployment:
    """Begin a deployment: record it, prepare the program, start the services.

    If a step fails, those before it are undone, last first, and the home is
    as it was.

    Parameters
    ----------
    sensor
        The sensor.
    name
        Of the deployment.
    latitude, longitude
        Degrees, WGS 84.
    echo
        Called with each command line that is run.

    Raises
    ------
    AcoupiError
        If a deployment is running already, or a step fails.
    """
    settings, target = sensor.settings, sensor.target
    target.echo = echo or target.echo
    with using_home(settings.home):
        target.check()
        call = _hooks(sensor)
        deployment = start_deployment(settings, name, latitude, longitude)
        with _undone_by(lambda: undo_deployment(settings, deployment)):
            with _undone_by(lambda: _end_again(call, deployment), if_need_be=True):
                call("start", deployment)
            with (
                _undone_by(lambda: _end_again(call, deployment)),
                _undone_by(target.down),
            ):
                target.up()
                _check_running(settings, deployment)
    return deployment


def start_program(
    settings: Settings,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
) -> None:
    """Begin a deployment; see `begin`.

    Raises
    ------
    AcoupiError
        If a deployment is running already, or a step fails.
    """
    begin(Sensor.read(settings), name, latitude, longitude)


def _check_running(settings: Settings, deployment: data.Deployment) -> None:
    """Raise if another command ended the deployment while it was starting."""
    now = read_deployment(settings)
    if now is None or now.id != deployment.id or now.ended_on is not None:
        raise DeploymentError(
            f'the deployment "{deployment.name}" did not start.',
            "acoupi status",
            why='another command ("acoupi stop") ended it while it was starting.',
        )


CallHook = Callable[[Hook, data.Deployment], None]


def _hooks(sensor: Sensor) -> CallHook:
    """Return the function that calls the program's hooks, where the program is installed."""
    if sensor.target.has_own_python:
        return sensor.target.run_hook
    program = sensor.program
    return lambda what, deployment: call_last_hook(program, what, deployment)


def _end_again(call: CallHook, deployment: data.Deployment) -> None:
    """End, in the program's store, a deployment that could not start."""
    call("end", deployment.model_copy(update={"ended_on": data.utc_now()}))


def finish(
    sensor: Sensor,
    *,
    echo: Callable[[str], None] | None = None,
    drain: Callable[[], object] | None = None,
) -> data.Deployment | None:
    """End the deployment: stop beat, then the workers, then let the program finish.

    If no deployment was started, end the unnamed one, to which earlier recordings belong. The
    deployment is ended even if the program cannot finish; the error is still raised.

    Parameters
    ----------
    sensor
        The sensor.
    echo
        Called with each command line that is run.
    drain
        Called when only the recorder has stopped, and the deployment has ended; when it returns,
        the other services are stopped. None: all stop at once.

    Returns
    -------
    Deployment
        None if the stopped services had recorded nothing yet.

    Raises
    ------
    AcoupiError
        If there is no deployment and nothing runs, or a service does not stop (then
        the deployment continues), or the program could not finish.
    """
    target = sensor.target
    with using_home(sensor.settings.home):
        target.echo = echo or target.echo
        is_named = _require_deployment(sensor)
        if drain is None:
            target.down()
            return _end(sensor, is_named=is_named)
        target.stop_recorder()
        ended_on = data.utc_now()
        deployment = end_deployment(sensor.settings) if is_named else None
        try:
            drain()
        finally:
            target.down()
            if deployment is None:
                deployment = _end_unnamed(sensor, ended_on)
            else:
                _hooks(sensor)("end", deployment)
    return deployment


def _end(sensor: Sensor, *, is_named: bool) -> data.Deployment | None:
    """End the deployment now, and return it; None if there is none."""
    unnamed = _end_unnamed(sensor, data.utc_now())
    if unnamed is not None or not is_named:
        return unnamed
    deployment = end_deployment(sensor.settings)
    _hooks(sensor)("end", deployment)
    return deployment


def _end_unnamed(sensor: Sensor, ended_on: datetime) -> data.Deployment | None:
    """End the unnamed deployment and return it; None if there is none."""
    # Locked, because a command that names it would also end it.
    with changing(sensor.settings.deployment_file.parent, "acoupi deployment stop"):
        unnamed = unnamed_deployment(sensor.settings)
        if unnamed is None:
            return None
        ended = unnamed.model_copy(update={"ended_on": ended_on})
        _hooks(sensor)("end", ended)
    return ended


def _require_deployment(sensor: Sensor) -> bool:
    """Return whether a deployment was started; refuse if there is nothing to end or to stop.

    A deployment that an interrupted command left open in the store is ended.
    """
    try:
        get_current_deployment(sensor.settings)
    except DeploymentError:
        if unnamed_deployment(sensor.settings) is not None:
            return False
        last = read_deployment(sensor.settings)
        if last is not None:
            _hooks(sensor)("settle", last)
        if not any(one.is_running for one in sensor.target.status()):
            raise
        return False  # nothing has been recorded yet
    return True


def stop_program(settings: Settings) -> None:
    """End the deployment; see `finish`.

    Raises
    ------
    AcoupiError
        If there is no deployment, a service does not stop, or the program
        could not finish.
    """
    finish(Sensor.read(settings))


# --- workers --------------------------------------------------------------------------


@contextmanager
def _log_level(level: str | None) -> Iterator[None]:
    """Give the services that are started in the block a log level."""
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


def change_workers(
    sensor: Sensor, act: Literal["start", "stop", "restart"], log_level: LogLevel | None = None
) -> None:
    """Start, stop or restart the workers, without beat; each first finishes its current task.

    Parameters
    ----------
    sensor
        The sensor.
    act
        "start", "stop" or "restart".
    log_level
        None: as in the settings.

    Raises
    ------
    TargetError
        If one does not stop or start.
    """
    target = sensor.target
    acts = {
        "start": target.start_workers,
        "stop": target.stop_workers,
        "restart": target.restart_workers,
    }
    with _log_level(log_level):
        acts[act]()


def start_workers(
    settings: Settings, pool: PoolType = "threads", log_level: LogLevel | None = None
) -> None:
    """Start the workers; see `change_workers`.

    `pool` is accepted for published callers; the program's `AcoupiWorker.pool`
    decides, because not every pool can run every worker.
    """
    change_workers(Sensor.read(settings), "start", log_level)


def stop_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop the workers; see `change_workers`."""
    change_workers(Sensor.read(settings), "stop", log_level)


def restart_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop and start the workers; see `change_workers`."""
    change_workers(Sensor.read(settings), "restart", log_level)


def purge_queues(settings: Settings) -> dict[str, int]:
    """Empty the queues; return how many messages each had.

    No recording is lost: the store keeps track of waiting recordings, and their tasks are
    ordered again.

    Raises
    ------
    TargetError
        If the broker does not answer.
    """
    sensor = Sensor.read(settings)
    return sensor.target.purge(sensor.queues)
