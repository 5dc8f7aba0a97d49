"""Where deployments, recordings and detections are remembered."""

from acoupi.components.stores.sqlite import SqliteStore

__all__ = ["SqliteStore"]
