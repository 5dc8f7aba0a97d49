"""The doors of the sensor: who may call what, who answers, and who goes through one."""

import os
from collections.abc import Mapping
from pathlib import Path

from acoupi.door.client import Door, use_door
from acoupi.door.folders import door_folder, waiting_folder
from acoupi.door.server import DoorServer, Role
from acoupi.door.waiting import WaitingCalls
from acoupi.services.page_door import PageDoor
from acoupi.stack.doors import MODEL, WEB, door_keeper, door_roles
from acoupi.stack.mounting import user_variable
from acoupi.stack.settings import Settings
from acoupi.stack.stack import Stack

__all__ = ["ROLES", "go_through_door", "open_doors", "user_of"]

ROLES: Mapping[str, Role] = {
    MODEL: {
        "metadata": frozenset({
            "begin_analysis",
            "begin_newest_analysis",
            "end_analysis",
            "get_analyses",
            "get_recording_model_outputs",
            "get_recordings",
            "get_recordings_by_path",
            "get_recordings_info_by_path",
            "get_recordings_model_outputs",
            "store_model_output",
        }),
        "messages": frozenset({"store_message"}),
    },
    WEB: {
        "reader": frozenset({
            "analyses",
            "capture",
            "count_detections",
            "count_recordings",
            "detection",
            "detections",
            "detections_in",
            "get_deployments",
            "get_effort",
            "get_models",
            "get_tags",
            "ids_of_detections",
            "ids_of_recordings",
            "recording",
            "recordings",
            "species",
            "verdicts",
        }),
        "sensor": frozenset({
            "add_verdict",
            "apply_settings",
            "effort",
            "find_file",
            "health",
            "metrics",
            "now",
            "plan_settings",
            "read_file",
            "set_password",
            "settings",
            "settings_schema",
            "start_deployment",
            "stop_deployment",
        }),
    },
}  # fmt: skip
"""What each role may call; a model's calls can only change its own outputs."""


def go_through_door(settings: Settings, stack: Stack, name: str) -> bool:
    """Let the stores of this worker make their calls through its door, if it has one.

    Returns
    -------
    bool
        Whether it has one.
    """
    if name not in door_roles(stack):
        return False
    waiting = WaitingCalls(waiting_folder(settings.home, name))
    waiting.clear_parts()
    use_door(Door(_folder(settings, name), waiting))
    return True


def open_doors(settings: Settings, stack: Stack, name: str) -> None:
    """Answer at every door of the sensor, if this worker keeps the stores, until it stops."""
    keeper = door_keeper(stack)
    if keeper is None or keeper.name != name:
        return
    for service, role in door_roles(stack).items():
        if role == WEB:
            PageDoor(_folder(settings, service)).start()
            continue
        waiting = WaitingCalls(waiting_folder(settings.home, service))
        folder, user = _folder(settings, service), user_of(service)
        DoorServer(service, folder, waiting, ROLES[role], user=user).start()


def user_of(service: str) -> int | None:
    """Return the user that calls at a service's door, if the service has its own user."""
    text = os.environ.get(user_variable(service), "")
    return int(text) if text.isdigit() else None


def _folder(settings: Settings, service: str) -> Path:
    """Return the path of a door: not in ``run_dir``, which in a container is one service's."""
    return door_folder(settings.home / "run", service)
