"""Stores of deployments, recordings and detections."""

from acoupi.components.stores.reader import SqliteReader
from acoupi.components.stores.sqlite import SqliteStore

__all__ = ["SqliteReader", "SqliteStore"]
