"""Which process makes a call, for what a store notes of it; and for whom."""

from contextvars import ContextVar

__all__ = ["caller", "owner_key"]

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""What names the parent of the process behind a call through a door; None: this process calls."""
owner_key: ContextVar[str | None] = ContextVar("owner_key", default=None)
"""What shows that the owner of the sensor asks; None: nobody who is logged in."""
