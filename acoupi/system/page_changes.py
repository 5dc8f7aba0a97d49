"""Changes made on the web page of a running sensor: settings and deployments.

They are written by the same commit as setup's, with ``config/applied.json``, through which the
services notice (`acoupi.services.applied`). Changes that affect rendered files (mounts, devices,
a network, limits), or that name another server, are kept in ``config/pending.json`` until
``acoupi web apply`` is run on the host.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from pydantic import BaseModel

from acoupi import clock
from acoupi.commit import changing, commit_files, is_there
from acoupi.config.dumping import dumped, mask
from acoupi.config.names import SENSOR
from acoupi.config.sensor import set_setting, setting_trees
from acoupi.data import Deployment
from acoupi.deployed import standby_file
from acoupi.errors import ConfigurationError, ParameterError
from acoupi.home import using_home
from acoupi.provisioned import MARKER
from acoupi.services.applied import applied_file, applied_path
from acoupi.services.construction import load_program
from acoupi.services.program_hooks import call_hook
from acoupi.stack.rights import addresses_in
from acoupi.stack.settings import Settings
from acoupi.stack.web import is_contained
from acoupi.system import planning
from acoupi.system.config_history import history_files
from acoupi.system.decided import check_decided
from acoupi.system.deployments import (
    end_deployment,
    read_deployment,
    start_deployment,
    undo_deployment,
)
from acoupi.system.pending import PENDING
from acoupi.system.sensor import Sensor, running_sensor
from acoupi.system.state import unnamed_deployment
from acoupi.targets import DEFAULT_TARGET
from acoupi.writing import RenderedFile

__all__ = [
    "Changes",
    "apply",
    "planned",
    "start",
    "stop",
]

logger = logging.getLogger(__name__)

JsonObject = dict[str, Any]

ON_THE_HOST = "acoupi web apply"


@dataclass(frozen=True)
class Changes:
    """The effects of changes of settings."""

    changes: list[JsonObject]
    problems: list[JsonObject]
    services: list[str]
    files: Mapping[Path, RenderedFile]
    """Files to write below ``config/``."""
    host_command: str | None
    """Command to run on the host, because rendered files change; None: not needed."""

    def as_json(self, state: str) -> JsonObject:
        """Return it in the page's form."""
        return {
            "changes": self.changes,
            "problems": self.problems,
            "restarts": self.services if self.changes and self.host_command is None else [],
            "host_command": self.host_command,
            "state": state,
        }


def planned(settings: Settings, given: Mapping[str, Any]) -> Changes:
    """Return the effects of changes, without writing.

    Parameters
    ----------
    settings
        Of the home.
    given
        New values by the names of settings.
    """
    with using_home(settings.home):
        sensor = running_sensor(settings)
        before = sensor.config, sensor.own_config
        after, problems = _with_all(before, given)
        changes = _differences(before, after)
        names = [one.name for one in sensor.services]
        if problems or not changes:
            return Changes(changes, problems, names, {}, None)
        try:
            files, command = _files(settings, sensor, before, after, given)
        except ConfigurationError as error:
            return Changes(changes, [_problem("", error)], names, {}, None)
    return Changes(changes, [], names, files, command)


def _with_all(
    before: tuple[BaseModel, BaseModel], given: Mapping[str, Any]
) -> tuple[tuple[BaseModel, BaseModel], list[JsonObject]]:
    """Return the settings with all changes, in an order in which each is valid."""
    problems, after, left = [], before, dict(given)
    nodes = {one.name: one for tree in setting_trees(type(before[0])) for one in tree.walk()}
    for name in given:
        node = nodes.get(name)
        if name == "" or (node is not None and (node.is_section or node.is_secret)):
            problems.append(_untold(name, is_secret=node is not None and node.is_secret))
            del left[name]
    while left:
        errors: dict[str, ParameterError] = {}
        for name, value in left.items():
            text = value if isinstance(value, str) else json.dumps(value)
            try:
                after = set_setting(*after, name, text, is_json=not isinstance(value, str))
            except ParameterError as error:
                errors[name] = error
        if len(errors) == len(left):
            return after, [*problems, *(_problem(*one) for one in errors.items())]
        left = {name: left[name] for name in errors}
    return after, problems


def _problem(name: str, error: ConfigurationError) -> JsonObject:
    return {"name": name, "message": (error.why or error.message).strip()}


def _untold(name: str, *, is_secret: bool) -> JsonObject:
    what = "it is a secret, and secrets" if is_secret else "it is several settings, which"
    message = f"{what} cannot be set on the page: acoupi config set {name} …"
    return {"name": name, "message": message}


def _differences(
    before: tuple[BaseModel, BaseModel], after: tuple[BaseModel, BaseModel]
) -> list[JsonObject]:
    old, new = _flat(before), _flat(after)
    return [
        {"name": name, "old": old.get(name), "new": new.get(name)}
        for name in dict.fromkeys([*old, *new])
        if old.get(name) != new.get(name)
    ]


def _flat(both: tuple[BaseModel, BaseModel]) -> JsonObject:
    """Return every value by its dotted name; secrets are masked."""
    program, sensor = both
    found: JsonObject = {}

    def add(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, below in value.items():
                add(f"{name}.{key}" if name else str(key), below)
        else:
            found[name] = value

    add("", dumped(program, mask))
    add(SENSOR.section, dumped(sensor, mask))
    return found


def _files(
    settings: Settings,
    sensor: Sensor,
    before: tuple[BaseModel, BaseModel],
    after: tuple[BaseModel, BaseModel],
    given: Mapping[str, Any],
) -> tuple[dict[Path, RenderedFile], str | None]:
    """Return the files to write, and the command for the host if the stack changes.

    Raises
    ------
    AcoupiError
        If the sensor cannot be set up like this.
    """
    config = settings.program_config_file.parent
    if is_there(config / MARKER):
        return {}, " ".join(_as_variable(type(before[0]), *one) for one in given.items())
    old, new = (_plan(settings, sensor, *both) for both in (before, after))
    check_decided(config, new, {})
    # Secrets are sent to servers: an attacker on the page must not choose these.
    names_others = addresses_in(before[0]) != addresses_in(after[0])
    if old.stack != new.stack or names_others:
        return {}, ON_THE_HOST
    schedule = PurePath(settings.schedule_file.relative_to(settings.home))
    answers = (
        settings.program_name_file,
        settings.program_config_file,
        settings.sensor_config_file,
    )
    files = {path: new.settings_files[path] for path in answers if path in new.settings_files}
    return files | {settings.schedule_file: new.generated[schedule]}, None


def _plan(
    settings: Settings, sensor: Sensor, program: BaseModel, own: BaseModel
) -> "planning.Plan":
    # The stack is the same for every target, and a container does not know the target.
    target = DEFAULT_TARGET if is_contained(settings) else None
    request = planning.SetupRequest(sensor.program_name, config=program, sensor=own, target=target)
    return planning.plan_setup(settings, request)


def _as_variable(schema: type[BaseModel], name: str, value: Any) -> str:
    """Return a setting as its variable, in a home that sets itself up."""
    nodes = {node.name: node for tree in setting_trees(schema) for node in tree.walk()}
    return f"{nodes[name].variable}={value}"


def apply(settings: Settings, given: Mapping[str, Any], by: str) -> JsonObject:
    """Make changes, or keep them until a command is run on the host; return their effects.

    Raises
    ------
    ParameterError
        If one is not possible.
    """
    config = settings.program_config_file.parent
    with changing(config, "the page"):
        found = planned(settings, given)
        if found.problems:
            first = found.problems[0]
            raise ParameterError(
                "",
                f"cannot set {first['name'] or 'this'}.",
                "correct it and apply again",
                why=f"{first['message']}.",
            )
        if not found.changes:
            return found.as_json("applied")
        names = ", ".join(one["name"] for one in found.changes)
        if found.host_command is not None:
            commit_files(config, {config / PENDING: _pending(given, by, found.host_command)})
            logger.warning("%s will be changed by %s: %s", names, by, found.host_command)
            return found.as_json("pending")
        schedule = settings.schedule_file.relative_to(settings.home).as_posix()
        applied = applied_file(by, {schedule: found.files[settings.schedule_file]})
        history = history_files(settings, found.files, f"the page ({by})")
        commit_files(config, {**found.files, **history, applied_path(config): applied})
        logger.warning("%s was changed by %s", names, by)
        return found.as_json("applied")


def _pending(given: Mapping[str, Any], by: str, command: str) -> RenderedFile:
    content = {
        "on": clock.utc_now().isoformat(),
        "by": by,
        "host_command": command,
        "changes": dict(given),
    }
    return RenderedFile(json.dumps(content, indent=2) + "\n")


# Deployments


def start(
    settings: Settings, name: str, latitude: float | None, longitude: float | None, by: str
) -> Deployment:
    """Start a deployment while the services run.

    Raises
    ------
    AcoupiError
        If one is running, its name or place is not valid, or the program cannot start it.
    """
    _refuse_if_declared(settings)
    config = settings.deployment_file.parent
    with using_home(settings.home), changing(config, "the page"):
        deployment = start_deployment(settings, name, latitude, longitude)
        try:
            call_hook(load_program(settings), "start", deployment)
        except BaseException:
            undo_deployment(settings, deployment)
            raise
    logger.warning("The deployment %s was started by %s", name, by)
    return deployment


def stop(settings: Settings, by: str) -> Deployment | None:
    """Stop recording and end the deployment, named or unnamed.

    The services continue to analyse and send. A recording in progress is finished.
    """
    _refuse_if_declared(settings)
    config = settings.deployment_file.parent
    with using_home(settings.home), changing(config, "the page"):
        commit_files(config, {standby_file(settings.deployment_file): RenderedFile("{}\n")})
        last = read_deployment(settings)
        if last is not None and last.ended_on is None:
            ended = end_deployment(settings)
        else:
            unnamed = unnamed_deployment(settings)
            if unnamed is None:
                return None
            ended = unnamed.model_copy(update={"ended_on": clock.utc_now()})
        call_hook(load_program(settings), "end", ended)
    logger.warning("The deployment %s was ended by %s", ended.name, by)
    return ended


def _refuse_if_declared(settings: Settings) -> None:
    if is_there(settings.program_config_file.parent / MARKER):
        raise ConfigurationError(
            "the page cannot start or stop this deployment.",
            "set ACOUPI_DEPLOYMENT__NAME for another one, where the services are run",
            why="this home was set up from variables, which declare its deployments.",
        )
