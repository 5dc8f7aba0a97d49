"""Which process makes a call, for a store's records; and for whom."""

from contextvars import ContextVar

__all__ = ["caller", "owner_key"]

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""The parent of the process that calls through a door; None: this process calls itself."""
owner_key: ContextVar[str | None] = ContextVar("owner_key", default=None)
"""Key that proves that the owner of the sensor calls; None: not logged in."""
