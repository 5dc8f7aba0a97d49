"""Tasks of a program: functions that build them from components.

A task is a plain function without arguments, or with a recording; when and where
it runs is decided by the program. Every task may be run twice or be interrupted
at any point: running it again changes nothing that is already done.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.tasks.detection import *
    from acoupi.tasks.heartbeat import *
    from acoupi.tasks.management import *
    from acoupi.tasks.messaging import *
    from acoupi.tasks.recording import *
    from acoupi.tasks.recovery import *
    from acoupi.tasks.schedules import *
    from acoupi.tasks.summary import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        ".detection": "generate_detection_task",
        ".heartbeat": "Heartbeat generate_heartbeat_task",
        ".management": "generate_file_management_task",
        ".messaging": "generate_send_messages_task",
        ".recording": "generate_recording_task",
        ".recovery": "generate_recovery_task",
        ".schedules": "aligned_schedule",
        ".summary": "generate_summariser_task",
    },
)
