"""From a program to a sensor, and from there to a deployment and back.

`setup_program` first decides everything (which files, with what in them) and
only then writes, all or nothing. `start_program` undoes, in reverse order,
what it had done when a later step fails.
"""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal

from pydantic import BaseModel

import acoupi
from acoupi import data
from acoupi.devices import ensure_device_id
from acoupi.errors import AcoupiError, ConfigurationError, DeploymentError, TargetError
from acoupi.home import using_home
from acoupi.programs import AcoupiProgram
from acoupi.system.celery.app import check_broker_url, construct, make_app
from acoupi.system.celery.schedule import schedule_file
from acoupi.system.celery.status import purge_messages
from acoupi.system.config import Ask, config_files, load_answers, parse_config_from_args
from acoupi.system.constants import CelerySettings, PoolType, Settings
from acoupi.system.deployments import (
    end_deployment,
    get_current_deployment,
    remove_deployment,
    start_deployment,
)
from acoupi.system.programs import load_program, load_program_class, require_configured
from acoupi.system.rendering import (
    TEMPLATES,
    FileDiff,
    KnownService,
    Manifest,
    RenderedFile,
    check_not_edited,
    compare_files,
    render_tree,
    write_atomic,
    write_files,
)
from acoupi.system.stack import Stack, stack_of_program
from acoupi.system.targets import DEFAULT_TARGET, Target, load_target, target_for
from acoupi.system.targets.process import ProcessTarget, run_script

__all__ = [
    "Plan",
    "plan_setup",
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

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
CELERY_PREFIX = "--celery."
CELERY_VARIABLES = "ACOUPI_CELERY__"
CONFIG_VARIABLES = "ACOUPI_CONFIG__"
PRIVATE = 0o600


@dataclass(frozen=True)
class Plan:
    """What a setup would write."""

    program_class: type[AcoupiProgram[Any]]
    config: BaseModel
    celery: CelerySettings
    stack: Stack
    target: Target
    generated: Mapping[PurePath, RenderedFile]
    """Files that only setup writes, by their path below the home."""
    settings_files: Mapping[Path, RenderedFile]
    """Files that hold answers: configuration, name, device."""
    manifest: Manifest
    """As it will be."""
    previous: Manifest | None
    """As it is."""


def plan_setup(
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
    config: BaseModel | None = None,
) -> Plan:
    """Decide what a setup writes, and write nothing; parameters as for `setup_program`."""
    _check_home(settings.home)
    # Configurations name their default folders below the home.
    with using_home(settings.home):
        return _plan(
            settings,
            program_name,
            list(args or ()),
            prompt=prompt,
            target=target,
            file=file,
            environ=os.environ if environ is None else environ,
            broker=broker,
            ask=ask,
            config=config,
        )


def _plan(
    settings: Settings,
    program_name: str,
    args: list[str],
    *,
    prompt: bool,
    target: str | None,
    file: Path | None,
    environ: Mapping[str, str],
    broker: str | None,
    ask: Ask | None,
    config: BaseModel | None,
) -> Plan:
    previous = Manifest.read(settings.manifest_file)
    place = load_target(target or (previous.target if previous else DEFAULT_TARGET), settings)
    program_class = load_program_class(program_name)
    own, celery_args = _split_args(args)
    celery = _celery_settings(settings, celery_args, environ, broker)
    config = config or parse_config_from_args(
        program_class.get_config_schema(),
        own,
        prompt,
        file=file,
        environ=environ,
        previous=load_answers(settings.program_config_file, environ),
        ask=ask,
    )
    app = make_app(settings, celery)
    program = construct(program_class, config, app, program_name)
    stack = stack_of_program(program, settings, celery, program_name)
    generated = {
        **place.files(stack),
        _below(settings.home, settings.schedule_file): schedule_file(app),
    }
    manifest = Manifest(
        version=acoupi.__version__,
        target=place.name,
        program=program_name,
        files={path.as_posix(): one.digest for path, one in generated.items()},
        services=tuple(
            KnownService(one.name, one.role, one.queues, one.stop_grace) for one in stack.services
        ),
    )
    return Plan(
        program_class=program_class,
        config=config,
        celery=celery,
        stack=stack,
        target=place,
        generated=dict(sorted(generated.items())),
        settings_files=_settings_files(settings, program_name, config, celery),
        manifest=manifest,
        previous=previous,
    )


def _check_home(home: Path) -> None:
    """Raise if the home cannot be one.

    Raises
    ------
    ConfigurationError
        Saying why.
    """
    text = str(home)
    if any(ord(character) < 32 for character in text):
        raise ConfigurationError(
            f"cannot use {text!r} as ACOUPI_HOME.",
            "ACOUPI_HOME=~/.acoupi",
            why="its name holds a line break or another control character.",
        )
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    if not existing.is_dir():
        raise ConfigurationError(
            f'cannot use "{home}" as ACOUPI_HOME.',
            "ACOUPI_HOME=~/.acoupi",
            why=f"{existing} is a file.",
        )


def _below(home: Path, path: Path) -> PurePath:
    if not path.is_relative_to(home):
        raise ConfigurationError(
            f'cannot put "{path.name}" at "{path}".',
            "unset the ACOUPI_ variable that names this path",
            why=f"what setup generates is below {home}.",
        )
    return PurePath(path.relative_to(home))


def _split_args(args: list[str]) -> tuple[list[str], list[str]]:
    """Return the options of the program, and those of Celery without their prefix."""
    own: list[str] = []
    celery: list[str] = []
    for arg in args:
        if arg.startswith(CELERY_PREFIX):
            celery.append(f"--{arg.removeprefix(CELERY_PREFIX)}")
            into = celery
        elif arg.startswith("--"):
            own.append(arg)
            into = own
        else:
            # A value belongs to the option before it.
            (into if own or celery else own).append(arg)
    return own, celery


def _celery_settings(
    settings: Settings, args: list[str], environ: Mapping[str, str], broker: str | None
) -> CelerySettings:
    variables = {
        f"{CONFIG_VARIABLES}{name.removeprefix(CELERY_VARIABLES)}": value
        for name, value in environ.items()
        if name.startswith(CELERY_VARIABLES)
    }
    previous = load_answers(settings.celery_config_file, environ)
    try:
        celery = parse_config_from_args(
            CelerySettings, args, False, environ=variables, previous=previous
        )
    except ConfigurationError as error:
        raise _about_celery(error) from error
    if broker is not None:
        url = None if broker in ("", "embedded") else broker
        celery = celery.model_copy(update={"broker_url": url})
    check_broker_url(celery.broker_url)
    if celery.task_soft_time_limit >= celery.task_time_limit:
        raise ConfigurationError(
            f"a task cannot be asked to end after {celery.task_soft_time_limit} s "
            f"and be ended after {celery.task_time_limit} s.",
            f"--celery.task_time_limit {celery.task_soft_time_limit + 60}",
            why="it must be asked first: task_soft_time_limit must be less than task_time_limit.",
        )
    return celery


def _about_celery(error: ConfigurationError) -> ConfigurationError:
    """Write options as the user wrote them, with their prefix."""

    def prefixed(text: str | None) -> str | None:
        if text is None:
            return None
        return text.replace(CELERY_PREFIX, "--").replace("--", CELERY_PREFIX)

    return ConfigurationError(
        prefixed(error.message) or "", prefixed(error.help), why=prefixed(error.why)
    )


def _settings_files(
    settings: Settings, program_name: str, config: BaseModel, celery: CelerySettings
) -> dict[Path, RenderedFile]:
    files = {
        file.path: RenderedFile(file.text, file.mode)
        for file in config_files(config, settings.program_config_file)
    }
    has_password = "@" in (celery.broker_url or "")
    files[settings.celery_config_file] = RenderedFile(
        celery.model_dump_json(indent=2) + "\n", *([PRIVATE] if has_password else [])
    )
    files[settings.program_name_file] = RenderedFile(f"{program_name}\n")
    if not settings.device_file.exists():
        files[settings.device_file] = _device_file()
    else:
        ensure_device_id(settings.device_file)  # raises if it is broken
    return files


def _device_file() -> RenderedFile:
    """Return the file with the id of this device, written nowhere yet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.json"
        ensure_device_id(path)
        return RenderedFile(path.read_text())


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
        Options for the configuration (``--recording.duration 3``), and for
        Celery with the prefix ``--celery.``.
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
        Asks the user one question (see `acoupi.system.config.Ask`).
    config
        The whole configuration, valid already; None: from the sources above.

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
    )
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
def _undone_by(undo: Callable[[], object]) -> Iterator[None]:
    """Call `undo` if the block fails; if that fails too, say so beside the first error."""
    try:
        yield
    except BaseException as error:
        try:
            undo()
        except Exception as second:  # noqa: BLE001 - reported with the first
            _add_failure(error, second)
        raise


def _add_failure(error: BaseException, second: Exception) -> None:
    note = f"undoing it failed too: {second}"
    error.add_note(note)
    if isinstance(error, AcoupiError):
        error.why = f"{error.why or ''} ({note})".strip()


def start_program(
    settings: Settings,
    name: str,
    latitude: float | None = None,
    longitude: float | None = None,
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

    Raises
    ------
    AcoupiError
        If one goes on already, or a step fails.
    """
    require_configured(settings)
    target = target_for(settings)
    with using_home(settings.home):
        target.check()
        program = load_program(settings)
        before = _previous_file(settings)
        deployment = start_deployment(settings, name, latitude, longitude)
        with _undone_by(lambda: _put_back(settings, before)):
            with _undone_by(lambda: _end_again(program, deployment)):
                _hook("start", deployment, lambda: program.on_start(deployment))
            with (
                _undone_by(lambda: _end_again(program, deployment)),
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


def _end_again(program: AcoupiProgram[Any], deployment: data.Deployment) -> None:
    """End a deployment in the program's store that has hardly begun."""
    program.on_end(deployment.model_copy(update={"ended_on": data.utc_now()}))


def _hook(what: str, deployment: data.Deployment, call: Callable[[], object]) -> None:
    """Call a hook of the program; what it raises becomes an error of ours.

    Raises
    ------
    AcoupiError
        As the program raised it, or a DeploymentError around what it raised.
    """
    try:
        call()
    except AcoupiError:
        raise
    except Exception as error:
        raise DeploymentError(
            f'the program could not {what} the deployment "{deployment.name}".',
            "acoupi --debug deployment status   (or look at the program's own code)",
            why=f"on_{what} raised {type(error).__name__}: {error}",
        ) from error


def stop_program(settings: Settings) -> None:
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
        target_for(settings).down()
        deployment = end_deployment(settings)
        program = load_program(settings)
        _hook("end", deployment, lambda: program.on_end(deployment))


# --- workers --------------------------------------------------------------------------


def _scripts(settings: Settings) -> None:
    """Raise unless the home's services are processes of this machine."""
    require_configured(settings)
    target = target_for(settings)
    if not isinstance(target, ProcessTarget):
        raise TargetError(
            "cannot start or stop workers by themselves.",
            f"acoupi {target.name} --help",
            why=f'this home was set up for the target "{target.name}", which runs them.',
        )


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
    _scripts(settings)
    with _log_level(log_level):
        run_script(settings, settings.start_script_path)


def stop_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop the workers, each after what it is doing; beat goes on.

    Raises
    ------
    TargetError
        If one does not stop.
    """
    _scripts(settings)
    with _log_level(log_level):
        run_script(settings, settings.stop_script_path)


def restart_workers(settings: Settings, log_level: LogLevel | None = None) -> None:
    """Stop and start the workers.

    Raises
    ------
    TargetError
        If one does not stop or start.
    """
    _scripts(settings)
    with _log_level(log_level):
        run_script(settings, settings.restart_script_path)


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
    return purge_messages(settings, sorted(queues))
