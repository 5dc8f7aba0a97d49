"""Programs to start from: override what differs.

- `BasicProgram` records, and keeps what is worth keeping.
- `MessagingProgram` tells about it, too.
- `DetectionProgram` runs a model on every recording, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from acoupi.programs.templates.configuration import (
    AudioConfiguration,
    BasicProgramConfiguration,
    DetectionProgramConfiguration,
    DetectionsConfiguration,
    MessagingConfig,
    MessagingProgramConfiguration,
    PathsConfiguration,
)

if TYPE_CHECKING:
    from acoupi.programs.templates.basic import BasicProgram
    from acoupi.programs.templates.detection import DetectionProgram
    from acoupi.programs.templates.messaging import MessagingProgram

__all__ = [
    "AudioConfiguration",
    "BasicProgram",
    "BasicProgramConfiguration",
    "DetectionProgram",
    "DetectionProgramConfiguration",
    "DetectionsConfiguration",
    "MessagingConfig",
    "MessagingProgram",
    "MessagingProgramConfiguration",
    "PathsConfiguration",
]

_MODULES = {
    "BasicProgram": "basic",
    "DetectionProgram": "detection",
    "MessagingProgram": "messaging",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
