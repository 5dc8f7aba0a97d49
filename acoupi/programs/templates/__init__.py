"""Programs to start from: override what should differ.

- `BasicProgram` records, and keeps the recordings that its filters select.
- `MessagingProgram` also sends messages.
- `DetectionProgram` also runs a model on every recording.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.programs.templates.basic import *
    from acoupi.programs.templates.configuration import *
    from acoupi.programs.templates.detection import *
    from acoupi.programs.templates.messaging import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".basic": "BasicProgram",
        ".configuration": (
            "AudioConfiguration BasicProgramConfiguration DetectionProgramConfiguration "
            "DetectionsConfiguration MessagingConfig MessagingProgramConfiguration "
            "PathsConfiguration"
        ),
        ".detection": "DetectionProgram",
        ".messaging": "MessagingProgram",
    },
)
