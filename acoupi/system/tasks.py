"""Running a task of a program in this process, outside any worker."""

import cProfile
import difflib
import inspect
import logging
import pstats
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from acoupi import data
from acoupi.errors import ParameterError
from acoupi.programs import AcoupiProgram
from acoupi.programs.core.base import ProgramTask
from acoupi.programs.core.messages import classes_of, classes_returned

__all__ = ["Told", "get_task_list", "profile_task", "run_task", "takes_recording", "told"]


def get_task_list(program: AcoupiProgram[Any], include_celery_tasks: bool = False) -> list[str]:
    """Return the names of the tasks of a program, sorted.

    Parameters
    ----------
    program
        Built.
    include_celery_tasks
        Whether to include Celery's own.
    """
    names = set(program.tasks)
    if include_celery_tasks:
        names |= set(program.app.tasks)
    return sorted(names)


def run_task(
    program: AcoupiProgram[Any], task_name: str, recording: data.Recording | None = None
) -> Any:
    """Run a task in this process and return what it returns; callbacks are not sent.

    Parameters
    ----------
    program
        Built.
    task_name
        One of `get_task_list`.
    recording
        For a task that processes a recording (detection).

    Raises
    ------
    ParameterError
        If there is no such task, or it needs a recording and none is given.
    Exception
        The task's own exception.
    """
    return _prepare(program, task_name, recording)()


class Told(logging.Handler):
    """Collects the log of a task that is run by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: list[str] = []
        """Failures that did not stop the task."""
        self.notes: list[str] = []
        """Other warnings."""

    def emit(self, record: logging.LogRecord) -> None:
        """Store a record."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += f": {type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        if record.levelno >= logging.ERROR or getattr(record, "is_failure", False):
            self.failures.append(text)
        elif record.levelno >= logging.WARNING:
            self.notes.append(text)


@contextmanager
def told() -> Iterator[Told]:
    """Yield the log of the block."""
    root, handler = logging.getLogger(), Told()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield handler
    finally:
        root.setLevel(level)
        root.removeHandler(handler)


def profile_task(
    program: AcoupiProgram[Any], task_name: str, recording: data.Recording | None = None
) -> pstats.Stats:
    """Run a task in this process and return where its time went.

    Raises
    ------
    ParameterError
        If there is no such task, or it needs a recording and none is given.
    """
    run = _prepare(program, task_name, recording)
    profile = cProfile.Profile()
    profile.runcall(run)
    return pstats.Stats(profile)


def takes_recording(program: AcoupiProgram[Any], task_name: str) -> bool:
    """Return whether a task processes a recording.

    It is decided by the annotation of its parameter; without one, by the parameter's name, or by
    whether it is a callback of the recording task.

    Raises
    ------
    ParameterError
        If there is no such task.
    """
    function = _function(program, task_name)
    required = _required(function)
    if len(required) != 1:
        return False
    if known := classes_of(function):
        return any(issubclass(one, data.Recording) for one in known.values())
    if required[0].annotation is not inspect.Parameter.empty:
        return "Recording" in str(
            required[0].annotation
        )  # it is a string that cannot be evaluated here
    if required[0].name == "recording":
        return True
    senders = [
        task
        for task in program.tasks.values()
        if any(receiver.name == task_name for receiver, _ in task.callbacks)
    ]
    return any(one.records or _returns_recording(one) for one in senders)


def _returns_recording(task: ProgramTask) -> bool:
    returned = classes_returned(task.function).values()
    return any(issubclass(one, data.Recording) for one in returned)


def _required(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the arguments that a function cannot do without."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]


def _function(program: AcoupiProgram[Any], task_name: str) -> Callable[..., Any]:
    if task_name in program.tasks:
        function: Callable[..., Any] = program.tasks[task_name].function
        return function
    names = get_task_list(program)
    close = difflib.get_close_matches(task_name, names, n=1)
    raise ParameterError(
        task_name,
        f'there is no task "{task_name}".',
        f"acoupi task run {close[0] if close else names[0] if names else 'NAME'}",
        why=f"the tasks are {', '.join(names) or 'none'}.",
    )


def _prepare(
    program: AcoupiProgram[Any], task_name: str, recording: data.Recording | None
) -> Callable[[], Any]:
    function = _function(program, task_name)
    if not _required(function):
        return function
    if not takes_recording(program, task_name):
        raise ParameterError(
            task_name,
            f'the task "{task_name}" cannot be run by hand.',
            "acoupi task list",
            why="it processes the result of another task, which is not a recording.",
        )
    if recording is None:
        raise ParameterError(
            task_name,
            f'the task "{task_name}" needs a recording.',
            f"acoupi task run {task_name} --recording FILE.wav",
            why="it processes a recording, and none was given.",
        )
    return lambda: function(recording)
