"""Which process started an analysis: distinguishes a model that kills its process from a power cut.

A model that crashes, or is ended because it hangs, ends a child process of its
worker; the worker itself lives on and starts the next attempt. If the next attempt
is made below another parent, the worker was ended from outside: by a boot, by
somebody who stopped it, or killed with it.
"""

import os
from pathlib import Path

from acoupi.audio.system_clock import read_boot_id
from acoupi.door.caller import caller

__all__ = ["MOST_INTERRUPTIONS", "parent_process"]

MOST_INTERRUPTIONS = 10
"""Attempts ended from outside that do not count; more may be the recording's fault."""

_START_TIME = 22
"""Number of the field of ``/proc/PID/stat`` with the start of a process, since boot."""


def parent_process() -> str | None:
    """Return what names the parent of the process that calls; None if unknown.

    No other process had or will have this name. Behind a call through the door is
    another process than this one.
    """
    if named := caller.get():
        return named
    boot_id, parent = read_boot_id(), os.getppid()
    try:
        text = Path(f"/proc/{parent}/stat").read_text(encoding="utf-8", errors="replace")
        after_name = text.rpartition(")")[2].split()  # begins with field 3
        began = int(after_name[_START_TIME - 3])
    except (OSError, ValueError, IndexError):
        return None
    return f"{boot_id}:{parent}:{began}"
