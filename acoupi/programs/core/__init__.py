"""The parts that every program is made of.

Celery is imported only with `AcoupiProgram`: a configuration does not need it.
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
        ".base": "AcoupiProgram ProgramConfig",
        ".prompts": "NoUserPrompt",
        ".workers": "AcoupiWorker DEFAULT_WORKER_CONFIG WorkerConfig",
    },
)
