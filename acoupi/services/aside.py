"""Messages that a worker could not read or may not run, kept for a person to look at.

One line of JSON each in ``run/WORKER.aside.jsonl``, beside the pulse of the worker. The file is
bounded, and so are its log lines: a flood of bad messages fills neither disk nor log.
"""

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

from acoupi import clock
from acoupi.opening import open_file

__all__ = ["Aside", "aside_file"]

logger = logging.getLogger(__name__)

MOST_TEXT = 16_384
"""Characters of a message that are kept."""
MOST_BYTES = 500_000
"""Most bytes of the file; a full one is renamed and replaces the previous one."""
SAY_EVERY = 60.0
"""Shortest time between two lines in the log, seconds."""


def aside_file(run_dir: Path, worker: str) -> Path:
    """Return the file of messages that a worker put aside."""
    return run_dir / f"{worker}.aside.jsonl"


class Aside:
    """Keeps messages whose tasks are not run.

    Parameters
    ----------
    path
        The file; None: messages are only logged.
    """

    def __init__(self, path: str | Path | None) -> None:
        self.path = None if path is None else Path(path)
        self._said_on: float | None = None
        self._unsaid = 0

    def put(self, message: Any, queue: str, why: str) -> None:
        """Keep a message, and log this at most once a minute."""
        place = self._keep(_text(message), queue, why)
        self._unsaid += 1
        now = clock.monotonic()
        if self._said_on is not None and now - self._said_on < SAY_EVERY:
            return
        logger.error(
            "%d messages were put aside%s; the last, of the queue %s: %s.",
            self._unsaid,
            place,
            queue,
            why[:200],
        )
        self._said_on, self._unsaid = now, 0

    def _keep(self, text: str, queue: str, why: str) -> str:
        """Write the message; return where, in words. A disk error does not stop a worker."""
        if self.path is None:
            return ""
        line = {
            "on": clock.utc_now().isoformat(),
            "queue": queue[:100],
            "why": why[:400],
            "message": text[:MOST_TEXT],
        }
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError):
                if self.path.lstat().st_size > MOST_BYTES:
                    self._begin_anew()
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            handle = os.open(self.path, flags | os.O_NONBLOCK, 0o600)
            try:
                os.write(handle, json.dumps(line).encode() + b"\n")
            finally:
                os.close(handle)
            return f" in {self.path}"
        return ""

    def _begin_anew(self) -> None:
        assert self.path is not None
        try:
            self.path.replace(f"{self.path}.1")
        except OSError:  # a container that was given this file, and no folder
            handle = open_file(self.path, os.O_WRONLY | os.O_TRUNC)
            os.close(handle)


def _text(message: Any) -> str:
    if isinstance(message, bytes):
        return message.decode(errors="replace")
    if isinstance(message, str):
        return message
    try:
        return json.dumps(message, default=str)
    except (ValueError, TypeError, RecursionError):
        return f"{type(message).__name__}"
