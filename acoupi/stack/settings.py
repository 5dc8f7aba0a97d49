"""Where the files of a sensor are: `Settings`; and `CeleryConfig`, imported when used.

Every service imports this module, including beat, which does without pydantic;
so the pydantic models are in a module of their own.
"""

# ruff: noqa: RUF009 - each of these calls makes a field

import os
from dataclasses import dataclass, field, fields, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast, get_args

from acoupi.errors import ParameterError
from acoupi.home import home_dir, without_dots

if TYPE_CHECKING:
    from acoupi.stack.celery_settings import CeleryConfig, CelerySettings

__all__ = [
    "BEAT",
    "BROKER",
    "RENEW",
    "CeleryConfig",
    "CelerySettings",
    "PoolType",
    "Settings",
]

BEAT = "beat"
BROKER = "redis"
"""Names of the services that are not workers."""

RENEW = 76
"""Exit code of a service that must be restarted with a new configuration."""

PoolType = Literal["threads", "prefork", "eventlet", "gevent", "solo", "processes"]


def _in_home(*parts: str) -> Any:
    """Return a field whose default is below the home."""
    return field(default=None, metadata={"parts": parts})


def _usually(text: str) -> Any:
    return field(default=None, metadata={"text": text})


class _ModelFields:
    """The fields as pydantic describes them: published programs use `Settings` as a model."""

    def __get__(self, instance: object, owner: Any) -> dict[str, Any]:
        from pydantic.fields import FieldInfo  # noqa: PLC0415 - services do without

        return {
            one.name: FieldInfo(annotation=cast("Any", one.type), default=one.metadata.get("text"))
            for one in fields(owner)
        }


@dataclass
class Settings:
    """Where all files of one sensor are.

    Every path follows `home`, which follows the variable ``ACOUPI_HOME``; each
    can also be set by a variable, ``ACOUPI_`` and its name.

    Raises
    ------
    ParameterError
        If a variable has a value that is not allowed.
    """

    model_fields = _ModelFields()

    home: Path = _in_home()
    app_name: str = _usually("app")
    program_file: Path = _in_home("{app_name}.py")
    program_name_file: Path = _in_home("config", "name")
    program_config_file: Path = _in_home("config", "program.json")
    sensor_config_file: Path = _in_home("config", "sensor.json")
    celery_config_file: Path = _in_home("config", "celery.json")
    deployment_file: Path = _in_home("config", "deployment.json")
    device_file: Path = _in_home("config", "device.json")
    schedule_file: Path = _in_home("config", "schedule.json")
    secrets_file: Path = _in_home("config", "secrets.env")
    env_file: Path = _in_home("config", "env")
    manifest_file: Path = _in_home(".generated.json")
    run_dir: Path = _in_home("run")
    log_dir: Path = _in_home("log")
    log_level: str = _usually("INFO")
    start_script_path: Path = _in_home("bin", "acoupi-workers-start.sh")
    stop_script_path: Path = _in_home("bin", "acoupi-workers-stop.sh")
    restart_script_path: Path = _in_home("bin", "acoupi-workers-restart.sh")
    beat_script_path: Path = _in_home("bin", "acoupi-beat.sh")
    acoupi_service_file: str = _usually("acoupi.service")
    acoupi_beat_service_file: str = _usually("acoupi-beat.service")
    celery_pool_type: PoolType = _usually("threads")

    def __post_init__(self) -> None:
        self.home = without_dots(Path(self.home or home_dir()))
        for one in fields(self):
            value = getattr(self, one.name)
            if value is None:
                value = os.environ.get(f"ACOUPI_{one.name.upper()}") or self.usual(one.name)
            setattr(self, one.name, Path(value) if "parts" in one.metadata else str(value))
        pools = get_args(PoolType)
        if self.celery_pool_type not in pools:
            raise ParameterError(
                self.celery_pool_type,
                f'ACOUPI_CELERY_POOL_TYPE cannot be "{self.celery_pool_type}".',
                "unset ACOUPI_CELERY_POOL_TYPE",
                why=f"it is one of {', '.join(pools)}.",
            )

    def of_service(self, name: str) -> Self:
        """Return the settings of a service in a container, where it has folders of its own."""
        return replace(self, log_dir=self.log_dir / name, run_dir=self.run_dir / name)

    def usual(self, name: str) -> Path | str:
        """Return the default of a setting, which follows from the home."""
        metadata = {one.name: one.metadata for one in fields(self)}[name]
        if "text" in metadata:
            return str(metadata["text"])
        parts = [part.format(app_name=self.app_name) for part in metadata["parts"]]
        return self.home.joinpath(*parts)

    def model_dump(self) -> dict[str, Any]:
        """Return every setting by its name."""
        return dict(vars(self))

    def model_copy(self, *, update: dict[str, Any]) -> Self:
        """Return a copy with some settings changed."""
        return replace(self, **update)


def __getattr__(name: str) -> Any:
    """Import a model on first use (PEP 562)."""
    if name in ("CeleryConfig", "CelerySettings"):
        return getattr(import_module("acoupi.stack.celery_settings"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
