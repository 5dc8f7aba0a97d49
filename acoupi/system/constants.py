"""Published names: where things are, and how Celery is set."""

from acoupi.stack.celery_settings import CeleryConfig, CelerySettings
from acoupi.stack.settings import Settings

__all__ = ["CeleryConfig", "CelerySettings", "Settings"]
