"""What a program does: generators of tasks, each put together from components.

A task is a plain function without arguments, or with a recording; how it is
scheduled and where it runs is the program's business. Every task may be run
twice or be cut off anywhere: what is run again changes nothing that was done.
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
