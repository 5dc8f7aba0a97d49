"""Changes made on the web page that wait for a command on the host."""

import json
from contextlib import suppress
from typing import Any

from acoupi.commit import commit_files, read_whole
from acoupi.stack.settings import Settings

__all__ = ["PENDING", "forget_pending", "pending_of"]

PENDING = "pending.json"
"""The file that keeps them, below ``config/``."""


def pending_of(settings: Settings) -> dict[str, Any] | None:
    """Return the changes that wait for a command on the host; None if none do."""
    path = settings.program_config_file.parent / PENDING
    with suppress(OSError, ValueError, RecursionError):
        found = json.loads(read_whole(path))
        if isinstance(found, dict) and isinstance(found.get("changes"), dict):
            return found
    return None


def forget_pending(settings: Settings) -> None:
    """Remove the waiting changes once they are made. Call this while changing the home."""
    config = settings.program_config_file.parent
    commit_files(config, {}, remove=[config / PENDING])
