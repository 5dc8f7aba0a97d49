"""Programs: what a sensor does, and in which processes.

Start from a template (`acoupi.programs.templates`), or from `AcoupiProgram`.
Celery is imported with `AcoupiProgram` only.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.programs.core.base import *
    from acoupi.programs.core.prompts import *
    from acoupi.programs.core.workers import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".core.base": "AcoupiProgram ProgramConfig",
        ".core.prompts": "NoUserPrompt",
        ".core.workers": "AcoupiWorker DEFAULT_WORKER_CONFIG WorkerConfig",
    },
)
