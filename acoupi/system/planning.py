"""Planning a setup: everything is decided before anything is written."""

import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

import acoupi
from acoupi.alarms.limits import Alarms
from acoupi.bundles.home_folder import check_home
from acoupi.bundles.rendering import Manifest
from acoupi.config import Ask, Document, config_files, load_answers, parse_config_from_args
from acoupi.config.env_files import read_text, updated_env
from acoupi.config.names import BY_OPTIONS, CELERY, PROGRAM, SENSOR, Wording
from acoupi.config.presets import preset_for, put_over
from acoupi.config.secrets import REFERENCE, SECRETS_FILE
from acoupi.config.sensor import (
    check_is_not_of_sensor,
    check_sections,
    is_about_sensor,
    planned_sensor,
    sensor_files,
    sensor_schema,
    split_document,
)
from acoupi.config.sources import split_options
from acoupi.config.tree import describe
from acoupi.devices import ensure_device_id
from acoupi.devices.timezones import suggest_timezone
from acoupi.errors import ConfigurationError
from acoupi.home import using_home
from acoupi.programs import AcoupiProgram
from acoupi.services.address import check_broker_url
from acoupi.services.alarms import calls_server
from acoupi.services.broker import make_app
from acoupi.services.construction import construct
from acoupi.services.memory_spool import spool_of
from acoupi.services.schedule import schedule_file
from acoupi.services.sensor_tasks import add_sensor_tasks, metrics_file
from acoupi.services.space import check_disks
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.extra_services import with_extra_services
from acoupi.stack.loading import check_plug_ins, check_program_name, load_program_class
from acoupi.stack.settings import Settings
from acoupi.stack.spool import with_memory
from acoupi.stack.stack import Stack, stack_of_program
from acoupi.stack.variables import place_in
from acoupi.stack.watching import with_watcher
from acoupi.stack.web import with_web
from acoupi.system.sensor import Sensor
from acoupi.targets import DEFAULT_TARGET, Target, check_targets, load_target
from acoupi.writing import PRIVATE, RenderedFile

__all__ = ["Plan", "SetupRequest", "plan_setup"]

BROKER_SECRET = CELERY.variable(("broker_url",))
"""Name of a broker's URL with a password in ``secrets.env``."""


@dataclass(frozen=True)
class Plan:
    """The plan of a setup."""

    program_class: type[AcoupiProgram[Any]]
    config: BaseModel
    sensor: BaseModel
    celery: CelerySettings
    stack: Stack
    target: Target
    generated: Mapping[PurePath, RenderedFile]
    """Files that only setup writes, by path below the home."""
    settings_files: Mapping[Path, RenderedFile]
    """Files with answers, which later setups keep: configuration, name, device, secrets."""
    manifest: Manifest
    """The configuration after the setup."""
    previous: Manifest | None
    """The current configuration."""


@dataclass(frozen=True)
class SetupRequest:
    """The parameters of a setup."""

    program_name: str
    """As for `load_program_class`."""
    args: Sequence[str] = ()
    """Options of the configuration (``--recording.duration 3``), of the sensor
    (``--sensor.recorder.microphone_patience 600``) and of Celery (``--celery.…``)."""
    prompt: bool = False
    """Whether to ask for settings that were not given; needs `ask`."""
    target: str | None = None
    """Where it will run; None: as before, else ``process``."""
    file: Path | Document | None = None
    """A configuration file (JSON, YAML or TOML)."""
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    """Where ``ACOUPI_CONFIG__…`` is looked up."""
    broker: str | None = None
    """``redis://…``; "embedded" for the broker without a server; None: as before."""
    ask: Ask | None = None
    """Asks the user one question (see `acoupi.config.Ask`)."""
    config: BaseModel | None = None
    """The whole configuration, already valid; None: from the sources above."""
    sensor: BaseModel | None = None
    """The same for the settings of the sensor (see `acoupi.config.sensor`)."""
    wording: Wording = BY_OPTIONS
    """How errors name settings: as options or variables."""
    force: bool = False
    """Whether to overwrite generated files that were edited by hand."""
    adopts_folder: bool = False
    """Whether a folder with other files may become the home."""
    beside: Mapping[Path, RenderedFile] = field(default_factory=dict)
    """Other files of ``config/`` to write in the same commit."""
    origin: str = "acoupi setup"
    """The command, for the history of the configuration."""
    preset: str | None = None
    """Settings that replace earlier answers and defaults; see `acoupi.config.presets`."""
    keeps_answers: bool = True
    """Whether existing settings of the home are the defaults."""


def plan_setup(settings: Settings, request: SetupRequest) -> Plan:
    """Decide what a setup writes, and write nothing.

    Raises
    ------
    AcoupiError
        If anything is wrong.
    """
    check_home(settings, adopts=request.adopts_folder)
    # Configurations have default folders below the home.
    with using_home(settings.home):
        return _plan(settings, request)


def _plan(settings: Settings, request: SetupRequest) -> Plan:
    previous = Sensor.at(settings).manifest
    name = request.program_name
    place = load_target(
        request.target or (previous.target if previous else DEFAULT_TARGET), settings
    )
    check_program_name(name)
    program_class = load_program_class(name, choose=request.wording.program)
    schema = program_class.get_config_schema()
    check_plug_ins(schema)
    check_sections()
    check_targets()
    sections = [CELERY.section, *([SENSOR.section] if is_about_sensor(schema) else [])]
    options = split_options(request.args, sections)
    for word in options[""]:
        if word.startswith("--"):
            name_given = word.removeprefix("--").partition("=")[0].replace("-", "_")
            check_is_not_of_sensor(schema, name_given, "option")
    celery = _celery_settings(settings, options[CELERY.section], request)
    is_moved = previous is not None and previous.target != place.name
    config, sensor = _program_and_sensor(
        settings, schema, options, request, place, is_moved=is_moved
    )
    app = make_app(settings, celery)
    program = construct(program_class, config, app, name)
    alarms: Alarms = sensor.alarms  # type: ignore[attr-defined]
    add_sensor_tasks(program, settings, name, sensor)
    if not place.renders_folder:  # the disks of another machine are unknown here
        check_disks(program, sensor.disk)  # type: ignore[attr-defined]
    calls = calls_server(alarms) or sensor.hub.url is not None  # type: ignore[attr-defined]
    stack = stack_of_program(program, settings, celery, name, calls_server=calls)
    stack = replace(stack, sensor=None if sensor == type(sensor)() else sensor)
    stack = with_web(stack, settings, sensor.web)  # type: ignore[attr-defined]
    with planned_sensor(sensor):
        stack = with_extra_services(stack, settings)
    stack = _with_watcher(stack, settings, sensor)
    stack = with_memory(stack, spool_of(program), sensor.spool)  # type: ignore[attr-defined]
    generated = {
        **place.files(stack),
        _below(settings.home, settings.schedule_file): schedule_file(app),
    }
    manifest = Manifest(
        version=acoupi.__version__,
        target=place.name,
        program=name,
        files={path.as_posix(): one.digest for path, one in generated.items()},
        services=stack.services,
        adopted=previous.adopted if previous else (),
    )
    return Plan(
        program_class=program_class,
        config=config,
        sensor=sensor,
        celery=celery,
        stack=stack,
        target=place,
        generated=dict(sorted(generated.items())),
        settings_files={
            **_settings_files(settings, request, config, celery, sensor, target=place),
            **{settings.home / path: one for path, one in place.kept_files(stack).items()},
        },
        manifest=manifest,
        previous=previous,
    )


def _with_watcher(stack: Stack, settings: Settings, sensor: Any) -> Stack:
    """Let the worker of the default queue run the tasks that ``config/sensor.json`` turns on."""
    file = metrics_file(settings, sensor)
    writes = file if sensor.metrics.textfile else None
    sees = sensor.alarms.enabled or file is not None
    return with_watcher(stack, settings, sees_services=sees, writes=writes)


def _program_and_sensor(
    settings: Settings,
    schema: type[BaseModel],
    options: Mapping[str, list[str]],
    request: SetupRequest,
    target: Target,
    *,
    is_moved: bool,
) -> tuple[BaseModel, BaseModel]:
    """Return the settings of the program, and those of the sensor itself."""
    suggestions = {"timezone": suggest_timezone(place_in(request.environ))}
    answers = load_answers(_known(settings.program_config_file, request), request.environ)
    if request.preset is not None:
        answers = put_over(answers, preset_for(request.preset, request.program_name, schema))
    if target.renders_folder:
        # For other machines, this one suggests nothing: each of them sets itself up.
        if is_moved:
            answers = _without_suggested(schema, answers, suggestions)
        suggestions = {}
    file = request.file
    document = Document.read(file) if isinstance(file, Path) else file
    own, about_sensor = split_document(document, schema)
    config, sensor = request.config, request.sensor
    if config is None:
        config = parse_config_from_args(
            schema,
            options[""],
            request.prompt,
            file=own,
            environ=request.environ,
            previous=answers,
            ask=request.ask,
            names=PROGRAM.in_style(request.wording.style, request.program_name),
            suggestions=suggestions,
        )
    if sensor is None:
        sensor = parse_config_from_args(
            sensor_schema(),
            options.get(SENSOR.section, []),
            request.prompt,
            file=about_sensor,
            environ=request.environ,
            previous=load_answers(_known(settings.sensor_config_file, request), request.environ),
            ask=request.ask,
            names=SENSOR.in_style(request.wording.style, request.program_name),
        )
    return config, sensor


def _without_suggested(
    schema: type[BaseModel], answers: Mapping[str, Any], suggestions: Mapping[str, str]
) -> dict[str, Any]:
    """Return the answers without those that this machine suggested for itself."""
    suggested = {
        str(member.place[-1]): suggestions.get(member.suggested)
        for member in describe(schema).members
        if member.suggested is not None
    }
    return {
        name: value
        for name, value in answers.items()
        if name not in suggested or value != suggested[name]
    }


def _known(path: Path, request: SetupRequest) -> Path:
    """Return the path of earlier answers, or one without any."""
    return path if request.keeps_answers else path.parent / "none" / path.name


def _below(home: Path, path: Path) -> PurePath:
    if not path.is_relative_to(home):
        raise ConfigurationError(
            f'cannot put "{path.name}" at "{path}".',
            "unset the ACOUPI_ variable that names this path",
            why=f"generated files must be below {home}.",
        )
    return PurePath(path.relative_to(home))


def _celery_settings(settings: Settings, args: list[str], request: SetupRequest) -> CelerySettings:
    environ, broker = request.environ, request.broker
    names = CELERY.in_style(request.wording.style)
    previous = load_answers(_known(settings.celery_config_file, request), environ)
    if broker is not None:
        previous.pop("broker_url", None)
    celery = parse_config_from_args(
        CelerySettings, args, False, environ=environ, previous=previous, names=names
    )
    if broker is not None:
        url = None if broker in ("", "embedded") else broker
        celery = celery.model_copy(update={"broker_url": url})
    check_broker_url(celery.broker_url, choose=request.wording.broker)
    if celery.task_soft_time_limit >= celery.task_time_limit:
        raise ConfigurationError(
            f"a task cannot be asked to stop after {celery.task_soft_time_limit} s "
            f"and be killed after {celery.task_time_limit} s.",
            names.edit(("task_time_limit",), str(celery.task_soft_time_limit + 60)),
            why="it must be asked first: task_soft_time_limit must be less than task_time_limit.",
        )
    return celery


def _settings_files(
    settings: Settings,
    request: SetupRequest,
    config: BaseModel,
    celery: CelerySettings,
    sensor: BaseModel,
    *,
    target: Target,
) -> dict[Path, RenderedFile]:
    unanswered = [
        str(member.place[-1])
        for member in describe(type(config)).members
        if member.suggested is not None and member.place[-1] not in config.model_fields_set
    ]
    files = config_files(
        config,
        _known(settings.program_config_file, request),
        leave_out=unanswered if target.renders_folder else (),
    )
    files |= sensor_files(sensor, _known(settings.sensor_config_file, request), files)
    files |= _celery_files(_known(settings.celery_config_file, request), celery, files)
    if not request.keeps_answers:
        files = {path.parent.with_name(path.name): one for path, one in files.items()}
    files[settings.program_name_file] = RenderedFile(f"{request.program_name}\n")
    if not settings.device_file.exists():
        files[settings.device_file] = _device_file()
    elif request.keeps_answers:
        ensure_device_id(settings.device_file)  # raises if it is not valid
    return files


def _celery_files(
    path: Path, celery: CelerySettings, others: Mapping[Path, RenderedFile]
) -> dict[Path, RenderedFile]:
    """Return the file with the Celery settings, and the secrets if the broker has a password."""
    content = celery.model_dump(mode="json")
    secret = {}
    if celery.broker_url and "@" in celery.broker_url:
        secret[BROKER_SECRET] = celery.broker_url
        content["broker_url"] = {REFERENCE: BROKER_SECRET}
    files = {path: RenderedFile(json.dumps(content, indent=2) + "\n")}
    beside = path.parent / SECRETS_FILE
    old = others[beside].text if beside in others else read_text(beside)
    new = updated_env(old, secret, remove={BROKER_SECRET})
    if new != old:
        files[beside] = RenderedFile(new, PRIVATE)
    return files


def _device_file() -> RenderedFile:
    """Return the file with the id of this device, without writing it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.json"
        ensure_device_id(path)
        return RenderedFile(path.read_text())
