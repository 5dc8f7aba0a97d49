"""Setting a sensor up, starting and stopping it, and reading its state.

Each name is imported from its module when it is first used.
"""

from typing import TYPE_CHECKING

from acoupi.lazy import attach

if TYPE_CHECKING:
    from acoupi.config import *
    from acoupi.services.construction import load_program as load_program
    from acoupi.stack.configured import *
    from acoupi.stack.loading import *
    from acoupi.stack.settings import *
    from acoupi.stack.stack import *
    from acoupi.stack.timezone import *
    from acoupi.system.celery.app import *
    from acoupi.system.deployments import *
    from acoupi.system.files import *
    from acoupi.system.lifecycle import *
    from acoupi.system.planning import *
    from acoupi.system.sensor import *
    from acoupi.system.services import *
    from acoupi.system.state import *
    from acoupi.system.tasks import *
    from acoupi.targets import *

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "acoupi.config": (
            "dump_config get_config_field load_config parse_config_from_args set_config_field "
            "write_config"
        ),
        "acoupi.services.construction": "load_program",
        ".celery.app": "get_celery_app run_celery_command",
        "acoupi.stack.configured": "is_configured require_configured",
        "acoupi.stack.loading": ("available_programs load_config_schema load_program_class"),
        "acoupi.stack.settings": "CeleryConfig CelerySettings Settings",
        "acoupi.stack.stack": "Service Stack stack_for",
        "acoupi.stack.timezone": "get_system_timezone set_system_timezone",
        ".deployments": "end_deployment get_current_deployment start_deployment",
        ".files": "delete_recording get_temp_file_id get_temp_files move_recording",
        ".lifecycle": (
            "purge_queues restart_workers setup_diff setup_program start_program "
            "start_workers stop_program stop_workers write_program_file"
        ),
        ".planning": "SetupRequest",
        ".sensor": "Sensor target_for",
        ".services": (
            "disable_services enable_services services_are_installed start_services "
            "status_services stop_services"
        ),
        ".state": (
            "AcoupiStatus CeleryStatus ProgramState ServicesStatus get_celery_status get_status"
        ),
        ".tasks": "get_task_list profile_task run_task",
        "acoupi.targets": "Target available_targets",
    },
)
