"""Setting a sensor up, starting and stopping it, and reading its state.

Each name is imported from its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from acoupi.config import (
        dump_config,
        get_config_field,
        load_config,
        parse_config_from_args,
        set_config_field,
        write_config,
    )
    from acoupi.services.construction import load_program
    from acoupi.stack.configured import is_configured, require_configured
    from acoupi.stack.loading import (
        available_programs,
        load_config_schema,
        load_program_class,
    )
    from acoupi.stack.settings import CeleryConfig, CelerySettings, Settings
    from acoupi.stack.stack import Service, Stack, stack_for
    from acoupi.stack.timezone import get_system_timezone, set_system_timezone
    from acoupi.system.celery.app import get_celery_app, run_celery_command
    from acoupi.system.deployments import (
        end_deployment,
        get_current_deployment,
        start_deployment,
    )
    from acoupi.system.files import (
        delete_recording,
        get_temp_file_id,
        get_temp_files,
        move_recording,
    )
    from acoupi.system.lifecycle import (
        purge_queues,
        restart_workers,
        setup_diff,
        setup_program,
        start_program,
        start_workers,
        stop_program,
        stop_workers,
        write_program_file,
    )
    from acoupi.system.planning import SetupRequest
    from acoupi.system.sensor import Sensor, target_for
    from acoupi.system.services import (
        disable_services,
        enable_services,
        services_are_installed,
        start_services,
        status_services,
        stop_services,
    )
    from acoupi.system.state import (
        AcoupiStatus,
        CeleryStatus,
        ProgramState,
        ServicesStatus,
        get_celery_status,
        get_status,
    )
    from acoupi.system.tasks import get_task_list, profile_task, run_task
    from acoupi.targets import Target, available_targets

_MODULES = {
    "acoupi.stack.timezone": ["get_system_timezone", "set_system_timezone"],
    "acoupi.system.celery.app": ["get_celery_app", "run_celery_command"],
    "acoupi.config": [
        "dump_config",
        "get_config_field",
        "load_config",
        "parse_config_from_args",
        "set_config_field",
        "write_config",
    ],
    "acoupi.stack.settings": ["CeleryConfig", "CelerySettings", "Settings"],
    "acoupi.system.deployments": [
        "end_deployment",
        "get_current_deployment",
        "start_deployment",
    ],
    "acoupi.system.files": [
        "delete_recording",
        "get_temp_file_id",
        "get_temp_files",
        "move_recording",
    ],
    "acoupi.system.lifecycle": [
        "purge_queues",
        "restart_workers",
        "setup_diff",
        "setup_program",
        "start_program",
        "start_workers",
        "stop_program",
        "stop_workers",
        "write_program_file",
    ],
    "acoupi.stack.configured": ["is_configured", "require_configured"],
    "acoupi.stack.loading": [
        "available_programs",
        "load_config_schema",
        "load_program_class",
    ],
    "acoupi.services.construction": ["load_program"],
    "acoupi.system.services": [
        "disable_services",
        "enable_services",
        "services_are_installed",
        "start_services",
        "status_services",
        "stop_services",
    ],
    "acoupi.stack.stack": ["Service", "Stack", "stack_for"],
    "acoupi.system.state": [
        "AcoupiStatus",
        "CeleryStatus",
        "ProgramState",
        "ServicesStatus",
        "get_celery_status",
        "get_status",
    ],
    "acoupi.targets": ["Target", "available_targets"],
    "acoupi.system.planning": ["SetupRequest"],
    "acoupi.system.sensor": ["Sensor", "target_for"],
    "acoupi.system.tasks": ["get_task_list", "profile_task", "run_task"],
}
_HOME_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "AcoupiStatus",
    "CeleryConfig",
    "CelerySettings",
    "CeleryStatus",
    "ProgramState",
    "Sensor",
    "Service",
    "ServicesStatus",
    "Settings",
    "SetupRequest",
    "Stack",
    "Target",
    "available_programs",
    "available_targets",
    "delete_recording",
    "disable_services",
    "dump_config",
    "enable_services",
    "end_deployment",
    "get_celery_app",
    "get_celery_status",
    "get_config_field",
    "get_current_deployment",
    "get_status",
    "get_system_timezone",
    "get_task_list",
    "get_temp_file_id",
    "get_temp_files",
    "is_configured",
    "load_config",
    "load_config_schema",
    "load_program",
    "load_program_class",
    "move_recording",
    "parse_config_from_args",
    "profile_task",
    "purge_queues",
    "require_configured",
    "restart_workers",
    "run_celery_command",
    "run_task",
    "services_are_installed",
    "set_config_field",
    "set_system_timezone",
    "setup_diff",
    "setup_program",
    "stack_for",
    "start_deployment",
    "start_program",
    "start_services",
    "start_workers",
    "status_services",
    "stop_program",
    "stop_services",
    "stop_workers",
    "target_for",
    "write_config",
    "write_program_file",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
