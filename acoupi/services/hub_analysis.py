"""Leaves the analysis of what a sensor records to its hub, where the sensor's settings say so."""

import json
from typing import Any

from acoupi import data
from acoupi.components.types import Store
from acoupi.config.dumping import dumped
from acoupi.errors import ConfigurationError
from acoupi.programs import AcoupiProgram
from acoupi.programs.templates.basic import BasicProgram
from acoupi.programs.templates.detection import NOT_ABOUT_DETECTIONS, configuration_digest
from acoupi.reports import ProgramReport

__all__ = ["leave_to_hub", "program_report"]

_SECRET = "\0secret"  # noqa: S105 - stands in the place of one


def program_report(program_class: type[AcoupiProgram[Any]], config: Any) -> ProgramReport:
    """Return a program and its settings as a hub needs them: all that its outputs depend on.

    Secrets, paths and messengers stay here.
    """
    name = program_class.__name__
    settings = _without_secrets(dumped(config, lambda *_: _SECRET))
    own = {key: value for key, value in settings.items() if key not in NOT_ABOUT_DETECTIONS}
    return ProgramReport(
        program=program_class.__module__ + ("" if name == "Program" else f":{name}"),
        settings=json.dumps(own, ensure_ascii=False),
        digest=configuration_digest(config),
    )


def _without_secrets(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_secrets(one) for key, one in value.items() if one != _SECRET}
    if isinstance(value, list):
        return [_without_secrets(one) for one in value if one != _SECRET]
    return value


def leave_to_hub(program: AcoupiProgram[Any], sensor: Any) -> None:
    """Let a program record, and note of each recording that the hub analyses it.

    Nothing of its model is loaded or run.

    Raises
    ------
    ConfigurationError
        If the hub would not get the sound, or the program has no model to leave to it.
    """
    where = sensor.analysis.where
    if where == "sensor":
        return
    if sensor.hub.url is None:
        raise _impossible(program, where, "the sensor has no hub: set sensor.hub.url and .token")
    if sensor.hub.audio != "all":
        raise _impossible(program, where, "the hub gets not all sound: set sensor.hub.audio all")
    if not isinstance(program, BasicProgram) or not program.get_required_models(program.config):
        raise _impossible(program, where, "it has no model that the hub could run")
    if where == "both":
        return
    store, models = program.store, program.get_required_models(program.config)
    program.leaves_models_out = True

    def leave(recording: data.Recording) -> None:
        """Note that the hub is to analyse a recording."""
        note_left(store, recording, models)

    for task in program.tasks_of_recordings():
        task.function = leave


def note_left(store: Store, recording: data.Recording, models: list[str]) -> None:
    """Note that the hub analyses a recording; one that a model has done stays done."""
    for name in models:
        analysis = store.begin_analysis(recording, name)
        if not analysis.state.is_final:
            left = {"state": data.AnalysisState.HUB, "attempts": 0, "error": None}
            store.end_analysis(analysis.model_copy(update=left))


def _impossible(program: AcoupiProgram[Any], where: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"the program {type(program).__name__} cannot have sensor.analysis.where {where}.",
        "acoupi config set sensor.analysis.where sensor",
        why=f"{why}.",
    )
