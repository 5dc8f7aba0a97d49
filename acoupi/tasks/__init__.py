"""Tasks of a program: functions that build them from components.

A task is a plain function without arguments, or with a recording; when and where
it runs is decided by the program. Every task may be run twice or be interrupted
at any point: running it again changes nothing that is already done.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acoupi.tasks.detection import generate_detection_task
    from acoupi.tasks.heartbeat import Heartbeat, generate_heartbeat_task
    from acoupi.tasks.management import generate_file_management_task
    from acoupi.tasks.messaging import generate_send_messages_task
    from acoupi.tasks.recording import generate_recording_task
    from acoupi.tasks.recovery import generate_recovery_task
    from acoupi.tasks.schedules import aligned_schedule
    from acoupi.tasks.summary import generate_summariser_task

__all__ = [
    "Heartbeat",
    "aligned_schedule",
    "generate_detection_task",
    "generate_file_management_task",
    "generate_heartbeat_task",
    "generate_recording_task",
    "generate_recovery_task",
    "generate_send_messages_task",
    "generate_summariser_task",
]

_MODULES = {
    "Heartbeat": "heartbeat",
    "aligned_schedule": "schedules",
    "generate_detection_task": "detection",
    "generate_file_management_task": "management",
    "generate_heartbeat_task": "heartbeat",
    "generate_recording_task": "recording",
    "generate_recovery_task": "recovery",
    "generate_send_messages_task": "messaging",
    "generate_summariser_task": "summary",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562): most callers need only a few."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
