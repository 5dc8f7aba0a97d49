"""Settings of the sensor itself, not of its program: ``config/sensor.json``.

Its schema is made of sections: those here, and those of installed packages (entry points
``acoupi.sensor``: the name of a section, and a pydantic model in which every setting has a
default). The file only holds values that differ from the defaults, and may be missing.
"""

import contextlib
import inspect
import json
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, BaseModel, Field, ValidationError, create_model

from acoupi.alarms.limits import Alarms
from acoupi.backlog import Policy
from acoupi.commit import is_there
from acoupi.config.disk import Disk
from acoupi.config.documents import Document, config_files, load_document, parsed_settings
from acoupi.config.dumping import differing, dumped, mask
from acoupi.config.fields import dump_config_field, set_config_field
from acoupi.config.hub import Hub
from acoupi.config.names import PROGRAM, SENSOR, Style, nearest
from acoupi.config.problems import as_error, unknown
from acoupi.config.schemas import SUPPORTED, unsupported_settings
from acoupi.config.tree import ConfigTree, describe
from acoupi.config.web import Web
from acoupi.deferred import DeferredModel
from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.programs.core.prompts import NoUserPrompt
from acoupi.writing import RenderedFile

__all__ = [
    "Metrics",
    "Recorder",
    "check_is_not_of_sensor",
    "check_sections",
    "check_sensor",
    "dump_setting",
    "is_about_sensor",
    "load_sensor",
    "planned_sensor",
    "reading_once",
    "sensor_files",
    "sensor_schema",
    "set_setting",
    "setting_trees",
    "split_document",
    "unread_section_warnings",
]

GROUP = "acoupi.sensor"
LONGEST_DAYS = 36_500
"""A hundred years, as for `messaging.keep_days`."""


class Recorder(DeferredModel):
    """How the recorder runs."""

    microphone_patience: Annotated[float | None, NoUserPrompt] = Field(
        default=None,
        gt=0,
        allow_inf_nan=False,
        description="Seconds without a microphone after which the recorder exits, so that its "
        "container restarts and finds newly plugged-in microphones; none: the value of "
        "ACOUPI_MICROPHONE_PATIENCE, or never.",
    )


class Spool(DeferredModel):
    """Where recordings wait for their analysis: on the disk, or in memory while there is room."""

    memory_mb: Annotated[int, NoUserPrompt] = Field(
        default=0,
        ge=0,
        le=65_536,
        description="Megabytes of memory in which recordings wait for their analysis; when it is "
        "full, they wait on the disk. Recordings in memory are lost in a power cut; 0: all wait on "
        "the disk.",
    )


class Review(DeferredModel):
    """The recordings that are kept as a fair sample, regardless of the saving filters."""

    sample_size: Annotated[int, NoUserPrompt] = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Recordings to keep for review of each model, species and tenth of the score, "
        "drawn at random; 0: none.",
    )
    quiet_per_night: Annotated[int, NoUserPrompt] = Field(
        default=0,
        ge=0,
        le=1_000_000,
        description="Recordings to keep of each night in which nothing was found, drawn at "
        "random; they show what a model misses; 0: none.",
    )
    seed: Annotated[int, NoUserPrompt] = Field(
        default=0, description="Seed of the sample; another number draws another sample."
    )


def _text_file(path: Path) -> Path:
    if path.suffix != ".prom":
        raise ValueError("its name must end with .prom: node_exporter reads no others")
    return path


class Metrics(DeferredModel):
    """Metrics of the sensor for Prometheus, in a text file that node_exporter reads."""

    textfile: Annotated[Path, AfterValidator(_text_file)] | None = Field(
        default=None,
        examples=["data/metrics/acoupi.prom"],
        description="The file, NAME.prom; a relative path is below ACOUPI_HOME; none: off.",
    )
    interval_seconds: float = Field(
        default=60, ge=5, le=3600, description="Seconds between two updates of the file."
    )


class Clips(DeferredModel):
    """Clips: the seconds around detections, kept in place of whole recordings."""

    enabled: bool = Field(
        default=False,
        description="Keep clips around detections; the rest of a recording is deleted once it "
        "was analysed.",
    )
    before: float = Field(
        default=1.0, ge=0, le=600, description="Seconds to keep before a detection."
    )
    after: float = Field(default=1.0, ge=0, le=600, description="Seconds to keep after it.")


class BacklogSettings(DeferredModel):
    """What to do when models are slower than the microphone."""

    policy: Policy = Field(
        default="none",
        description="none: recordings wait; thin: every k-th is analysed while too many wait; "
        "newest_first: the oldest are skipped; nightly: models run while nothing is recorded.",
    )
    limit_hours: float = Field(
        default=4, gt=0, le=1000, description="Hours of work for the models that may be waiting."
    )
    keep_files: bool = Field(
        default=False,
        description="Keep the files of recordings that were not analysed for lack of time, "
        "regardless of the saving filters.",
    )


class LongestDays(DeferredModel):
    """Days after which a message of each kind is no longer sent; none: it waits for ever."""

    alarm: float | None = Field(default=None, gt=0, le=LONGEST_DAYS, description="Alarms.")
    deployment: float | None = Field(
        default=None, gt=0, le=LONGEST_DAYS, description="Deployments."
    )
    heartbeat: float | None = Field(default=None, gt=0, le=LONGEST_DAYS, description="Heartbeats.")
    summary: float | None = Field(default=None, gt=0, le=LONGEST_DAYS, description="Summaries.")
    detection: float | None = Field(default=None, gt=0, le=LONGEST_DAYS, description="Detections.")
    recording: float | None = Field(default=None, gt=0, le=LONGEST_DAYS, description="Recordings.")
    other: float | None = Field(
        default=None,
        gt=0,
        le=LONGEST_DAYS,
        description="Messages of a program without a kind.",
    )


class Outbox(DeferredModel):
    """What messages may cost on a metered link."""

    bytes_per_day: int | None = Field(
        default=None,
        ge=10_000,
        description="Most bytes to send to each network destination in a day (UTC), with an "
        "allowance for headers; none: no limit.",
    )
    kept_percent: float = Field(
        default=20,
        ge=0,
        le=90,
        description="Percent of these bytes that only alarms, deployments and heartbeats may use.",
    )
    batch_messages: int = Field(
        default=20,
        ge=1,
        le=50,
        description="Messages sent together where bytes_per_day is set; a power cut wastes at most "
        "the bytes of these.",
    )
    longest_days: LongestDays = Field(
        default_factory=LongestDays,
        description="Days after which a message is no longer sent, by its kind.",
    )


class Analysis(DeferredModel):
    """Where models analyse the sensor's recordings."""

    where: Literal["sensor", "hub", "both"] = Field(
        default="sensor",
        description="sensor: here; hub: at the hub, which gets the sound, and no model is loaded "
        "here; both: here, and again at the hub.",
    )


BUILT_IN: dict[str, type[BaseModel]] = {
    "analysis": Analysis,
    "recorder": Recorder,
    "review": Review,
    "clips": Clips,
    "disk": Disk,
    "hub": Hub,
    "backlog": BacklogSettings,
    "alarms": Alarms,
    "outbox": Outbox,
    "spool": Spool,
    "metrics": Metrics,
    "web": Web,
}
NEVER_ASKED = frozenset({
    "alarms", "analysis", "backlog", "clips", "disk", "hub", "metrics", "outbox", "spool", "web"
})  # fmt: skip
"""Sections that setup does not ask about."""


class SensorPaths(Protocol):
    """The path of the file; see `acoupi.stack.settings.Settings`."""

    sensor_config_file: Path


# ---- the schema


@cache
def sensor_schema() -> type[BaseModel]:
    """Return the schema: each section under its name.

    One of a package that cannot be used is left out: setup says so (`check_sections`), and
    what records goes on.
    """
    installed = {name: one for name, one in _installed_sections() if isinstance(one, type)}
    return _schema_of({**BUILT_IN, **installed})


def check_sections() -> None:
    """Raise if a package brings settings that cannot be used.

    Raises
    ------
    ConfigurationError
        Naming them, and why.
    """
    for _, section in _installed_sections():
        if isinstance(section, ConfigurationError):
            raise section


def _schema_of(sections: Mapping[str, type[BaseModel]]) -> type[BaseModel]:
    fields: dict[str, Any] = {
        name: (
            Annotated[section, NoUserPrompt] if name in NEVER_ASKED else section,
            Field(default_factory=section, description=_first_line(section)),
        )
        for name, section in sorted(sections.items())
    }
    return create_model("Sensor", **fields)


def _first_line(section: type[BaseModel]) -> str | None:
    return (inspect.getdoc(section) or "").partition("\n")[0] or None


def _installed_sections() -> Iterator[tuple[str, type[BaseModel] | ConfigurationError]]:
    names = set(BUILT_IN)
    for point in sorted(entry_points(group=GROUP)):
        try:
            section = _section(point, names)
        except ConfigurationError as error:
            yield point.name, error
        else:
            yield point.name, section
        names.add(point.name)


def _section(point: EntryPoint, names: Collection[str]) -> type[BaseModel]:
    """Return the section of a package.

    Raises
    ------
    ConfigurationError
        If it cannot be used.
    """
    place = f"{point.name} = {point.value}"
    if point.name in names or not point.name.isidentifier() or "__" in point.name:
        taken = point.name in names
        raise _unusable(place, "another section has that name" if taken else "that is not a name")
    try:
        section = point.load()
    except (Exception, SystemExit) as error:  # a package may raise anything
        raise _unusable(place, f"{type(error).__name__}: {error}") from error
    if not (inspect.isclass(section) and issubclass(section, BaseModel)):
        raise _unusable(place, "it is not a pydantic model")
    for one in unsupported_settings(section):
        raise _unusable(place, f"{one.name} is {one.type}; {SUPPORTED}")
    try:
        section()
    except ValidationError as error:
        name = ".".join(map(str, error.errors(include_url=False)[0]["loc"]))
        raise _unusable(place, f"{name} has no default") from error
    return section


def _unusable(place: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f'cannot use the settings "{place}" of an installed package.',
        "correct that package, or pip uninstall it",
        why=f"{' '.join(why.split())}.",
    )


def is_about_sensor(schema: type[BaseModel]) -> bool:
    """Return whether "sensor" means these settings beside a program with that schema.

    A program may have a section of that name; then these can only be given as variables.
    """
    return SENSOR.section not in schema.model_fields


# ---- the file

_planned: ContextVar[BaseModel | None] = ContextVar("planned", default=None)


@contextlib.contextmanager
def planned_sensor(sensor: BaseModel) -> Iterator[None]:
    """Make `load_sensor` return settings that setup plans but has not written yet."""
    token = _planned.set(sensor)
    try:
        yield
    finally:
        _planned.reset(token)


@contextlib.contextmanager
def reading_once(settings: SensorPaths) -> Iterator[None]:
    """Let `load_sensor` read and validate once in a block; what is broken is told each time."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(AcoupiError):
            stack.enter_context(planned_sensor(load_sensor(settings)))
        yield


def load_sensor(settings: SensorPaths) -> Any:
    """Return the settings of the sensor, by section; the defaults if there is no file.

    Sections of packages that are not installed here are left out, and those that cannot be
    used: see `check_sensor`.

    Raises
    ------
    ConfigurationError
        If the file is not valid, with the setting that is wrong.

    Examples
    --------
    >>> from acoupi.stack.settings import Settings
    >>> load_sensor(Settings(home=Path("/nowhere"))).recorder.microphone_patience is None
    True
    """
    if (planned := _planned.get()) is not None:
        return planned
    schema, path = sensor_schema(), settings.sensor_config_file
    if not is_there(path):
        return schema()
    document = Document.read(path)
    try:
        return _loaded(document, schema)
    except ConfigurationError:
        # If the settings of acoupi are right, those of a package must not stop the recorder.
        installed = {
            name: section
            for name, section in _installed_sections()
            if isinstance(section, type) and _is_right(document, name, section)
        }
        return _loaded(document, _schema_of({**BUILT_IN, **installed}))


def check_sensor(settings: SensorPaths) -> None:
    """Raise if settings of the sensor cannot be used, those of packages among them.

    Raises
    ------
    ConfigurationError
        Naming them, and why.
    """
    check_sections()
    if is_there(settings.sensor_config_file):
        _loaded(Document.read(settings.sensor_config_file), sensor_schema())


def _is_right(document: Document, name: str, section: type[BaseModel]) -> bool:
    try:
        _loaded(document, _schema_of({name: section}))
    except ConfigurationError:
        return False
    return True


def _loaded(document: Document, schema: type[BaseModel]) -> BaseModel:
    return load_document(document, schema, names=SENSOR, only=frozenset(schema.model_fields))


def sensor_files(
    sensor: BaseModel, path: Path, others: Mapping[Path, RenderedFile] | None = None
) -> dict[Path, RenderedFile]:
    """Return the files that hold the settings: none if all are defaults and there is no file.

    Parameters
    ----------
    others
        Files that will be written with it; ``secrets.env`` may be among them.
    """
    usual = type(sensor)()
    if sensor == usual and not is_there(path):
        return {}
    unread = _unread_sections(path, type(sensor))
    return config_files(sensor, path, others, names=SENSOR, usual=usual, unread=unread)


def unread_section_warnings(settings: SensorPaths) -> list[str]:
    """Name the sections of the file that nothing here reads: misspelt, or of a missing package."""
    schema = sensor_schema()
    return [
        f'nothing here reads the section "{name}" of {settings.sensor_config_file}'
        f"{_nearest_section(name, schema)}; correct its name, or install the package whose "
        "settings these are."
        for name in _unread_sections(settings.sensor_config_file, schema)
    ]


def _nearest_section(name: str, schema: type[BaseModel]) -> str:
    found = nearest(name, list(schema.model_fields))
    return f' (there is "{found}")' if found else ""


def _unread_sections(path: Path, schema: type[BaseModel]) -> dict[str, Any]:
    """Return the sections of the file that the schema does not have, as they stand there."""
    every = parsed_settings(path)
    return {name: every[name] for name in every if name not in schema.model_fields}


def split_document(
    document: Document | None, schema: type[BaseModel]
) -> tuple[Document | None, Document | None]:
    """Split a document into the program's settings, by its schema, and the sensor's."""
    if document is None or not is_about_sensor(schema):
        return document, None
    return document.without(SENSOR.section), document.section(SENSOR.section)


# ---- both together, as on the command line


def setting_trees(schema: type[BaseModel]) -> list[ConfigTree]:
    """Describe the settings of a program of that schema, and those of the sensor."""
    sensor = [describe(sensor_schema(), SENSOR)] if is_about_sensor(schema) else []
    return [describe(schema), *sensor]


def _split_name(schema: type[BaseModel], name: str) -> tuple[bool, str]:
    """Return whether a setting is the sensor's, and its name there."""
    first, _, rest = name.partition(".")
    is_sensor = first == SENSOR.section and is_about_sensor(schema)
    return is_sensor, rest if is_sensor else name


def check_is_not_of_sensor(schema: type[BaseModel], name: str, style: Style = "plain") -> None:
    """Refuse names of sensor settings without their prefix: "messaging.hub.url".

    Raises
    ------
    ParameterError
        With the right name, "sensor.hub.url".
    """
    if not is_about_sensor(schema):
        return
    way, own = name.split("."), describe(schema, PROGRAM.in_style(style))
    every = describe(sensor_schema(), SENSOR.in_style(style))
    meant = next((node for i in range(len(way)) if (node := every.find(way[i:]))), None)
    if meant is None or own.find(way) is not None:
        return
    section = meant.place[0]
    if section not in {node.place[-1] for node in own.walk()}:
        why = f"{section} is a section of the sensor's settings, not of the program's"
        raise as_error([replace(unknown(own, way), why=why, meant=(meant,))])


def dump_setting(program: BaseModel, sensor: BaseModel, name: str, indent: int = 2) -> str:
    """Return a setting as JSON, or all, with the section "sensor" if it is not the default.

    Raises
    ------
    ParameterError
        If there is no such setting.
    """
    is_sensor, place = _split_name(type(program), name)
    if is_sensor:
        return dump_config_field(sensor, place, indent, names=SENSOR)
    if name or not is_about_sensor(type(program)):
        check_is_not_of_sensor(type(program), name)
        return dump_config_field(program, name, indent)
    usual = dumped(type(sensor)(), mask)
    changed = differing(describe(type(sensor)), dumped(sensor, mask), usual)
    every = dumped(program, mask) | ({SENSOR.section: changed} if changed else {})
    return json.dumps(every, indent=indent, ensure_ascii=False)


def set_setting(
    program: BaseModel,
    sensor: BaseModel,
    name: str,
    value: str,
    *,
    is_json: bool = False,
    command: str = PROGRAM.command,
) -> tuple[BaseModel, BaseModel]:
    """Return both with one setting set; without a name the value is a JSON object of all.

    Parameters
    ----------
    command
        What sets it, for errors.

    Raises
    ------
    ParameterError
        If there is no such setting, or it cannot have that value.
    """
    is_sensor, place = _split_name(type(program), name)
    if is_sensor:
        own = replace(SENSOR, command=command)
        return program, set_config_field(sensor, place, value, is_json, names=own)
    if not name and is_about_sensor(type(program)):
        with contextlib.suppress(ValueError, RecursionError):  # reported below, as for any setting
            every = json.loads(value)
            if isinstance(every, dict) and SENSOR.section in every:
                section = every.pop(SENSOR.section)
                sensor = set_config_field(type(sensor)(), "", section, names=SENSOR)
                return set_config_field(program, "", every), sensor
    check_is_not_of_sensor(type(program), name)
    names = replace(PROGRAM, command=command)
    return set_config_field(program, name, value, is_json, names=names), sensor
