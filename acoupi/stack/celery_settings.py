"""The settings of Celery: those that can be chosen, and those of published programs."""

from pydantic import Field

from acoupi.deferred import DeferredModel

__all__ = ["CeleryConfig", "CelerySettings"]


class CeleryConfig(DeferredModel):
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


class CelerySettings(DeferredModel):
    """The settings of Celery that can be chosen: ``config/celery.json``.

    Serialisation is not one of them: messages are always JSON.
    """

    broker_url: str | None = None
    """``redis://…``, ``amqp://…`` or another that Celery supports; None: the embedded broker."""
    task_soft_time_limit: int = Field(default=540, gt=0)
    """Seconds after which a task is asked to stop (a slow model on a slow board needs minutes)."""
    task_time_limit: int = Field(default=600, gt=0)
    """Seconds after which it is killed; the length of a recording is not counted."""
    beat_max_loop_interval: int = Field(default=1, gt=0)
    """Longest sleep of beat, seconds."""
