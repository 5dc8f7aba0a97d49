"""Where things are, and how Celery is set: `Settings` and `CeleryConfig`."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from acoupi.home import home_dir

__all__ = ["CeleryConfig", "CelerySettings", "PoolType", "Settings"]

PoolType = Literal["threads", "prefork", "eventlet", "gevent", "solo", "processes"]


def _in_home(*parts: str) -> Any:
    """Give a field a default below the home of its own Settings."""
    return Field(default_factory=lambda values: values["home"].joinpath(*parts))


class Settings(BaseSettings):
    """Where everything of one sensor is.

    Every path follows `home`, which follows the variable ``ACOUPI_HOME``;
    each can be moved by itself too, with ``ACOUPI_`` and its name.
    """

    model_config = SettingsConfigDict(env_prefix="ACOUPI_", extra="ignore")

    home: Path = Field(default_factory=home_dir)
    app_name: str = "app"
    program_file: Path = Field(
        default_factory=lambda values: values["home"] / f"{values['app_name']}.py"
    )
    program_name_file: Path = _in_home("config", "name")
    program_config_file: Path = _in_home("config", "program.json")
    celery_config_file: Path = _in_home("config", "celery.json")
    deployment_file: Path = _in_home("config", "deployment.json")
    device_file: Path = _in_home("config", "device.json")
    schedule_file: Path = _in_home("config", "schedule.json")
    secrets_file: Path = _in_home("config", "secrets.env")
    env_file: Path = _in_home("config", "env")
    manifest_file: Path = _in_home(".generated.json")
    run_dir: Path = _in_home("run")
    log_dir: Path = _in_home("log")
    log_level: str = "INFO"
    start_script_path: Path = _in_home("bin", "acoupi-workers-start.sh")
    stop_script_path: Path = _in_home("bin", "acoupi-workers-stop.sh")
    restart_script_path: Path = _in_home("bin", "acoupi-workers-restart.sh")
    beat_script_path: Path = _in_home("bin", "acoupi-beat.sh")
    acoupi_service_file: str = "acoupi.service"
    acoupi_beat_service_file: str = "acoupi-beat.service"
    celery_pool_type: PoolType = "threads"


class CeleryConfig(BaseModel):
    """Celery settings under the names and defaults that published programs know.

    Kept so that code which reads them still runs. A sensor runs on
    `CelerySettings`.
    """

    enable_utc: bool = True
    timezone: str = "UTC"
    broker_url: str = "pyamqp://guest@localhost//"
    broker_connection_retry_on_startup: bool = True
    result_backend: str = "rpc://"
    result_persistent: bool = False
    task_serializer: str = "pickle"
    result_serializer: str = "pickle"
    accept_content: list[str] = Field(default_factory=lambda: ["pickle"])
    task_acks_late: bool = True
    worker_prefetch_multiplier: int = 1
    task_soft_time_limit: int = 30
    """Seconds."""
    task_time_limit: int = 60
    """Seconds."""
    beat_max_loop_interval: int = 1
    """Seconds."""


class CelerySettings(BaseModel):
    """What may be set of Celery: ``config/celery.json``.

    Serialisation is not among it: messages are JSON, and nothing else is read.
    """

    broker_url: str | None = None
    """``redis://…`` or ``redis+socket://…``; None: the embedded broker below ``run/broker``."""
    task_soft_time_limit: int = Field(default=540, gt=0)
    """Seconds after which a task is asked to end (a slow model on a slow board needs minutes)."""
    task_time_limit: int = Field(default=600, gt=0)
    """Seconds after which it is ended."""
    beat_max_loop_interval: int = Field(default=1, gt=0)
    """Longest sleep of beat, seconds."""
