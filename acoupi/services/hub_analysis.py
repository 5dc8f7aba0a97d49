"""Leaves the analysis of a sensor's recordings to its hub, if the settings ask for it."""

from functools import partial
from typing import Any

from acoupi import data
from acoupi.components.types import Store
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.workers import DEFAULT_QUEUE, DETECTION_QUEUE
from acoupi.programs.templates.basic import BasicProgram
from acoupi.services.backlog import impossible

__all__ = ["leave_to_hub", "note_left"]


def leave_to_hub(program: AcoupiProgram[Any], sensor: Any) -> None:
    """Let a program only record, and note for each recording that the hub analyses it.

    Nothing of its model is loaded or run.

    Raises
    ------
    ConfigurationError
        If the hub would not get the sound, or the program has no model for it.
    """
    where, setting = sensor.analysis.where, "sensor.analysis.where"
    refused = partial(impossible, f"{setting} {where}", f"{setting} sensor")
    if sensor.hub.url is None:
        raise refused("the sensor has no hub: set sensor.hub.url and .token")
    if sensor.hub.audio != "all":
        raise refused("the hub does not get all sound: set sensor.hub.audio to all")
    if not isinstance(program, BasicProgram) or not program.get_required_models(program.config):
        raise refused("it has no model that the hub could run")
    if where == "both":
        return
    periodic = (program.app.conf.beat_schedule or {}).values()
    if any(entry.get("options", {}).get("queue") == DETECTION_QUEUE for entry in periodic):
        raise refused("its models also run without a recording")
    store, models = program.store, program.get_required_models(program.config)
    program.leaves_models_out = True

    def leave(recording: data.Recording) -> None:
        """Note that the hub analyses a recording."""
        note_left(store, recording, models)

    for task in program.tasks_of_recordings():
        task.function = leave
    _serve_beside_others(program)


def _serve_beside_others(program: BasicProgram[Any]) -> None:
    """Run this note on the default queue: no worker for models is needed."""
    if DEFAULT_QUEUE not in program.get_queue_names():
        return
    for task in program.tasks.values():
        receivers = [one for one, queue in task.callbacks if queue == DETECTION_QUEUE]
        for one in receivers:
            program.add_task_to_queue(one.name, DEFAULT_QUEUE)
        task.callbacks = [
            (one, DEFAULT_QUEUE if queue == DETECTION_QUEUE else queue)
            for one, queue in task.callbacks
        ]


def note_left(store: Store, recording: data.Recording, models: list[str]) -> None:
    """Note that the hub analyses a recording; earlier outputs of models stay."""
    final = {
        one.name_model
        for one in store.get_analyses([recording])[recording.id]
        if one.state.is_final
    }
    for name in models:
        if name not in final:
            store.end_analysis(
                data.Analysis(
                    recording_id=recording.id,
                    name_model=name,
                    state=data.AnalysisState.HUB,
                    attempts=0,
                    updated_on=data.utc_now(),
                )
            )
