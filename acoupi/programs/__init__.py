"""Programs: what a sensor does, and in which processes.

Start from a template (`acoupi.programs.templates`), or from `AcoupiProgram`.
Celery is imported with `AcoupiProgram` only.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from acoupi.programs.core.prompts import NoUserPrompt
from acoupi.programs.core.workers import DEFAULT_WORKER_CONFIG, AcoupiWorker, WorkerConfig

if TYPE_CHECKING:
    from acoupi.programs.core.base import AcoupiProgram, ProgramConfig

__all__ = [
    "DEFAULT_WORKER_CONFIG",
    "AcoupiProgram",
    "AcoupiWorker",
    "NoUserPrompt",
    "ProgramConfig",
    "WorkerConfig",
]


def __getattr__(name: str) -> Any:
    if name in ("AcoupiProgram", "ProgramConfig"):
        return getattr(import_module("acoupi.programs.core.base"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
