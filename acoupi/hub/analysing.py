"""Analysing one recording away from its sensor, with the code that the sensor itself runs.

The program is built with the sensor's settings, on stores of its own that are empty before each
recording; its detection task does the rest. So ids, states and attempts are those of the sensor.
"""

import contextlib
import json
import shutil
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any
from uuid import UUID

from celery import Celery
from pydantic import BaseModel, ValidationError

from acoupi import data
from acoupi.errors import InvalidProgramError
from acoupi.hub.jobs import Assignment, JobResult
from acoupi.programs import AcoupiProgram
from acoupi.programs.templates.basic import BasicProgram
from acoupi.programs.templates.detection import NOT_ABOUT_DETECTIONS, configuration_digest
from acoupi.programs.templates.digests import plain_settings
from acoupi.reports import MessageReport, OutputReport, ProgramReport
from acoupi.services.construction import construct

__all__ = ["Analyser"]

NOT_READ_HERE = (*NOT_ABOUT_DETECTIONS, "microphone")
"""Sections of settings whose paths are not checked: nothing is recorded here."""
MOST_BUILT = 4
"""Sets of settings for which a built program is kept, with its model."""


class Analyser:
    """Analyses recordings with one program and the settings of any sensor.

    Parameters
    ----------
    program_class
        The program.
    home
        ACOUPI_HOME of this process, with its stores; empty at first.
    files
        Folders of which the settings of a sensor may name a file, such as weights.
    """

    def __init__(
        self, program_class: type[AcoupiProgram[Any]], home: Path, files: tuple[Path, ...] = ()
    ) -> None:
        self._program_class, self._home, self._files = program_class, home, files
        self._built = lru_cache(MOST_BUILT)(self._build)

    def analyse(self, job: Assignment, sound: Path, claim: UUID) -> JobResult:
        """Return the outputs of the program's models for a recording.

        Raises
        ------
        AcoupiError
            If the program cannot be built with these settings.
        """
        program = self._built(job.program)
        recording = job.recording.model_copy(update={"path": sound, "capture": job.capture})
        try:
            return _run(program, recording, job.attempt, claim)
        finally:
            self._empty(program)

    def _build(self, report: ProgramReport) -> BasicProgram[Any]:
        name = report.program
        schema = self._program_class.get_config_schema()
        try:
            config = schema.model_validate(json.loads(report.settings))
        except (ValueError, ValidationError) as error:
            raise _unusable(name, " ".join(str(error).split())[:300]) from error
        if configuration_digest(config) != report.digest:
            raise _unusable(name, "they mean something else in the version that is installed here")
        self._check_files(name, config)
        app = Celery("acoupi-analysis", set_as_current=False, broker="memory://")
        app.conf.update(task_always_eager=True, task_eager_propagates=True)
        program = construct(self._program_class, config, app, name)
        if not isinstance(program, BasicProgram):
            raise _unusable(name, "it does not use a program template, so its models are not known")
        program.validate_dirs(config)
        return program

    def _check_files(self, name: str, config: BaseModel) -> None:
        """Refuse settings that would make this machine read any file for a sensor."""
        settings = plain_settings(config)
        for path in _paths({k: v for k, v in settings.items() if k not in NOT_READ_HERE}):
            if not any(Path(path).resolve().is_relative_to(one.resolve()) for one in self._files):
                raise _unusable(name, f"they name {path}, which is in no folder of --files")

    def _empty(self, program: BasicProgram[Any]) -> None:
        """Forget a recording: the same one may come again."""
        for store in (program.store, getattr(program, "message_store", None)):
            with contextlib.suppress(AttributeError):
                store.close()  # type: ignore[union-attr]
        for entry in self._home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        program.validate_dirs(program.config)


def _paths(value: Any) -> list[PurePath]:
    if isinstance(value, PurePath):
        return [value]
    inside = value.values() if isinstance(value, dict) else value
    return [path for one in inside for path in _paths(one)] if isinstance(
        value, dict | list | tuple
    ) else []  # fmt: skip


def _run(
    program: BasicProgram[Any], recording: data.Recording, attempt: int, claim: UUID
) -> JobResult:
    store, messages = program.store, getattr(program, "message_store", None)
    store.store_deployment(recording.deployment)
    store.store_recording(recording)
    if attempt > 1:
        for name in program.get_required_models(program.config):
            store.end_analysis(_earlier(recording, name, attempt - 1))
    with contextlib.suppress(Exception):  # it is in the analysis
        program.resend(recording)
    [(_, outputs)] = store.get_recordings([recording.id])
    unsent = () if messages is None else messages.get_unsent_messages()
    return JobResult(
        claim=claim,
        analyses=store.get_analyses([recording])[recording.id],
        outputs=[OutputReport.of(one) for one in outputs],
        messages=[MessageReport.of(one) for one in unsent],
    )


def _earlier(recording: data.Recording, name: str, attempts: int) -> data.Analysis:
    return data.Analysis(
        recording_id=recording.id,
        name_model=name,
        state=data.AnalysisState.RETRY,
        attempts=attempts,
        updated_on=data.utc_now(),
    )


def _unusable(name: str, why: str) -> InvalidProgramError:
    return InvalidProgramError(
        name,
        f'the program "{name}" cannot be built with the settings of this sensor.',
        "install the same version as on the sensor",
        why=f"{why}.",
    )
