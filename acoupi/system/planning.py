"""What a setup would write: decided as a whole, before anything is written."""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

import acoupi
from acoupi.bundles.rendering import KnownService, Manifest
from acoupi.config import Ask, Document, config_files, load_answers, parse_config_from_args
from acoupi.config.env_files import read_text, updated_env
from acoupi.config.names import BY_OPTIONS, CELERY, PROGRAM, SENSOR, Wording
from acoupi.config.secrets import REFERENCE, SECRETS_FILE
from acoupi.config.sensor import is_about_sensor, sensor_files, sensor_schema, split_document
from acoupi.config.sources import split_options
from acoupi.devices import ensure_device_id
from acoupi.devices.timezones import suggest_timezone
from acoupi.errors import ConfigurationError
from acoupi.home import using_home
from acoupi.programs import AcoupiProgram
from acoupi.services.address import check_broker_url
from acoupi.services.broker import make_app
from acoupi.services.construction import construct
from acoupi.services.schedule import schedule_file
from acoupi.stack.celery_settings import CelerySettings
from acoupi.stack.extra_services import with_extra_services
from acoupi.stack.loading import check_plug_ins, load_program_class
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack, stack_of_program
from acoupi.stack.variables import place_in
from acoupi.targets import DEFAULT_TARGET, Target, load_target
from acoupi.writing import PRIVATE, RenderedFile

__all__ = ["Plan", "plan_setup"]

BROKER_SECRET = CELERY.variable(("broker_url",))
"""What a broker's URL with a password in it is called in ``secrets.env``."""


@dataclass(frozen=True)
class Plan:
    """What a setup would write."""

    program_class: type[AcoupiProgram[Any]]
    config: BaseModel
    sensor: BaseModel
    celery: CelerySettings
    stack: Stack
    target: Target
    generated: Mapping[PurePath, RenderedFile]
    """Files that only setup writes, by their path below the home."""
    settings_files: Mapping[Path, RenderedFile]
    """Files that hold answers, and what outlives a setup: configuration, name, device, secrets."""
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
    file: Path | Document | None = None,
    environ: Mapping[str, str] | None = None,
    broker: str | None = None,
    ask: Ask | None = None,
    config: BaseModel | None = None,
    sensor: BaseModel | None = None,
    wording: Wording = BY_OPTIONS,
) -> Plan:
    """Decide what a setup writes, and write nothing; parameters as for `setup_program`.

    Parameters
    ----------
    wording
        How errors name what the caller writes.
    """
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
            sensor=sensor,
            wording=wording,
        )


def _plan(
    settings: Settings,
    program_name: str,
    args: list[str],
    *,
    prompt: bool,
    target: str | None,
    file: Path | Document | None,
    environ: Mapping[str, str],
    broker: str | None,
    ask: Ask | None,
    config: BaseModel | None,
    sensor: BaseModel | None,
    wording: Wording,
) -> Plan:
    previous = Manifest.read(settings.manifest_file)
    place = load_target(target or (previous.target if previous else DEFAULT_TARGET), settings)
    program_class = load_program_class(program_name, choose=wording.program)
    schema = program_class.get_config_schema()
    check_plug_ins(schema)
    sections = [CELERY.section, *([SENSOR.section] if is_about_sensor(schema) else [])]
    options = split_options(args, sections)
    document = Document.read(file) if isinstance(file, Path) else file
    own, about_sensor = split_document(document, schema)
    celery = _celery_settings(settings, options[CELERY.section], environ, broker, wording)
    if config is None:
        config = parse_config_from_args(
            schema,
            options[""],
            prompt,
            file=own,
            environ=environ,
            previous=load_answers(settings.program_config_file, environ),
            ask=ask,
            names=PROGRAM.in_style(wording.style),
            suggestions={"timezone": suggest_timezone(place_in(environ))},
        )
    if sensor is None:
        sensor = parse_config_from_args(
            sensor_schema(),
            options.get(SENSOR.section, []),
            prompt,
            file=about_sensor,
            environ=environ,
            previous=load_answers(settings.sensor_config_file, environ),
            ask=ask,
            names=SENSOR.in_style(wording.style),
        )
    app = make_app(settings, celery)
    program = construct(program_class, config, app, program_name)
    stack = stack_of_program(program, settings, celery, program_name)
    stack = replace(stack, sensor=None if sensor == type(sensor)() else sensor)
    stack = with_extra_services(stack, settings)
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
            KnownService(one.name, one.role, one.queues, one.stop_grace, one.network)
            for one in stack.services
        ),
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
            **_settings_files(settings, program_name, config, celery, sensor),
            **{settings.home / path: one for path, one in place.kept_files(stack).items()},
        },
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


def _celery_settings(
    settings: Settings,
    args: list[str],
    environ: Mapping[str, str],
    broker: str | None,
    wording: Wording,
) -> CelerySettings:
    names = CELERY.in_style(wording.style)
    previous = load_answers(settings.celery_config_file, environ)
    celery = parse_config_from_args(
        CelerySettings, args, False, environ=environ, previous=previous, names=names
    )
    if broker is not None:
        url = None if broker in ("", "embedded") else broker
        celery = celery.model_copy(update={"broker_url": url})
    check_broker_url(celery.broker_url, choose=wording.broker)
    if celery.task_soft_time_limit >= celery.task_time_limit:
        raise ConfigurationError(
            f"a task cannot be asked to end after {celery.task_soft_time_limit} s "
            f"and be ended after {celery.task_time_limit} s.",
            names.edit(("task_time_limit",), str(celery.task_soft_time_limit + 60)),
            why="it must be asked first: task_soft_time_limit must be less than task_time_limit.",
        )
    return celery


def _settings_files(
    settings: Settings,
    program_name: str,
    config: BaseModel,
    celery: CelerySettings,
    sensor: BaseModel,
) -> dict[Path, RenderedFile]:
    files = config_files(config, settings.program_config_file)
    files |= sensor_files(sensor, settings.sensor_config_file, files)
    files |= _celery_files(settings.celery_config_file, celery, files)
    files[settings.program_name_file] = RenderedFile(f"{program_name}\n")
    if not settings.device_file.exists():
        files[settings.device_file] = _device_file()
    else:
        ensure_device_id(settings.device_file)  # raises if it is broken
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
    """Return the file with the id of this device, written nowhere yet."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "device.json"
        ensure_device_id(path)
        return RenderedFile(path.read_text())
