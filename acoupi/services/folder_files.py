"""The embedded broker: messages as files in a folder, for a sensor without redis.

It resembles kombu's own filesystem transport, with three differences that a
sensor needs:

- A message appears whole or not at all (written under another name and
  renamed), and one that a worker took is kept until the worker has
  acknowledged it. A worker that is killed finds its messages again when it
  starts, at most `MAX_CRASHES` times.
- Consumers are woken through a named pipe and need not poll.
- Everything may be deleted while it is running; the folders are made again.

Layout, below ``run/broker``::

    queues/QUEUE/TIME-ID.msg            waiting
    taken/WORKER/QUEUE/TIME-ID.msg      being worked on
    wake/QUEUE/WORKER.fifo              pipe that wakes a consumer
"""

import contextlib
import json
import logging
import os
import shutil
from pathlib import Path
from urllib.parse import quote, unquote
from uuid import uuid4

from acoupi import clock
from acoupi.opening import open_binary
from acoupi.services.aside import Aside
from acoupi.services.envelopes import MOST_BYTES, count_crash, read_message

__all__ = [
    "MAX_CRASHES",
    "broker_folder",
    "messages",
    "put",
    "queue_folder",
    "read_start",
    "reclaim",
    "safe",
    "wake_consumers",
    "wake_folder",
]

logger = logging.getLogger(__name__)

MAX_CRASHES = 3
"""A message is put aside after its worker has died this often while handling it."""
SUFFIX = ".msg"


def broker_folder(run_dir: Path) -> Path:
    """Return where the embedded broker keeps its files."""
    return run_dir / "broker"


def safe(name: str) -> str:
    """Return the name of a queue or a worker as a file name."""
    return quote(name, safe="") or "_"


def read_start(path: Path) -> bytes:
    """Return a waiting message, or enough of it to show that it is too large.

    Raises
    ------
    OSError
        If it cannot be read, or is a link or not a regular file.
    """
    with open_binary(path) as stream:
        return stream.read(MOST_BYTES + 1)


def queue_folder(root: Path, queue: str) -> Path:
    """Return where the messages of a queue wait."""
    return root / "queues" / safe(queue)


def wake_folder(root: Path, queue: str) -> Path:
    """Return where the pipes of a queue's consumers are."""
    return root / "wake" / safe(queue)


def put(root: Path, queue: str, text: str) -> None:
    """Put a message, as JSON, into a queue and wake its consumers.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    name = f"{int(clock.utc_now().timestamp() * 1e6):020d}-{uuid4().hex}"
    folder = queue_folder(root, queue)
    try:
        _write(folder, name, text)
    except FileNotFoundError:  # the folder is new, or somebody deleted it
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, name, text)
    wake_consumers(root, queue)


def wake_consumers(root: Path, queue: str) -> None:
    """Wake the consumers of a queue."""
    try:
        fifos = list(wake_folder(root, queue).iterdir())
    except OSError:
        return
    for fifo in fifos:
        _poke(fifo)


def _write(folder: Path, name: str, text: str) -> None:
    temporary = folder / f".{name}"
    try:
        temporary.write_text(text)
        temporary.rename(folder / f"{name}{SUFFIX}")
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def messages(folder: Path) -> list[str]:
    """Return the names of the messages in a folder, oldest first."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - only names are needed, of thousands of files
    except OSError:
        return []
    return sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))


def _poke(fifo: Path) -> None:
    """Wake the reader of a pipe; a pipe without a reader is skipped."""
    try:
        handle = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:  # ENXIO: its reader is gone
        return
    try:
        with contextlib.suppress(OSError):  # full: the reader wakes anyway
            os.write(handle, b".")
    finally:
        os.close(handle)


def reclaim(run_dir: Path, worker: str, aside: Aside, limit: int = MAX_CRASHES) -> tuple[int, int]:
    """Put back the messages that a worker was handling when it was killed.

    Only the worker of that name may call this, and only before it consumes.

    Returns
    -------
    tuple
        How many messages were put back, and how many were put aside because they cannot
        be read, or because the worker has died `limit` times while handling them.
    """
    root = broker_folder(run_dir)
    back = gone = 0
    for path in sorted((root / "taken" / safe(worker)).glob(f"*/*{SUFFIX}")):
        queue = unquote(path.parent.name)
        try:
            raw = read_start(path)
            message, _ = read_message(raw)
            crashes = count_crash(message)
            if crashes >= limit:
                aside.put(message, queue, f"its worker died while handling it, {crashes} times")
                gone += 1
            else:
                folder = queue_folder(root, queue)
                folder.mkdir(parents=True, exist_ok=True)
                _write(folder, path.name.removesuffix(SUFFIX), json.dumps(message))
                back += 1
        except ValueError as error:
            aside.put(raw, queue, str(error))
            gone += 1
        except OSError:
            continue
        finally:
            with contextlib.suppress(OSError):
                path.unlink()
    shutil.rmtree(root / "taken" / safe(worker), ignore_errors=True)
    return back, gone
