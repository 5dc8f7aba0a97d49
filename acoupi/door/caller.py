"""Which process makes a call, for what a store notes of it."""

from contextvars import ContextVar

__all__ = ["caller"]

caller: ContextVar[str | None] = ContextVar("caller", default=None)
"""What names the parent of the process behind a call through a door; None: this process calls."""
