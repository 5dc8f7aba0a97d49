"""The embedded broker: messages as files in a folder.

For a sensor without redis. It is what kombu's own filesystem transport is,
with three differences that a sensor needs:

- A message appears whole or not at all (written under another name and
  renamed), and one that a worker took is kept until the worker has
  acknowledged it. A worker that is killed finds its messages again when it
  starts, at most `MAX_CRASHES` times.
- Consumers are woken (through a named pipe) and need not poll.
- Everything may be deleted while it runs; the folders come back.

Layout, below ``run/broker``::

    queues/QUEUE/TIME-ID.msg            waiting
    taken/WORKER/QUEUE/TIME-ID.msg      being worked on
    dead/QUEUE/TIME-ID.msg              given up: its worker died of it too often
    wake/QUEUE/WORKER.fifo              whom to wake
"""

import contextlib
import json
import logging
import os
import select
import shutil
from collections import deque
from pathlib import Path
from queue import Empty
from typing import Any
from urllib.parse import quote, unquote
from uuid import uuid4

from kombu.exceptions import ChannelError
from kombu.transport import virtual

from acoupi import data

__all__ = ["MAX_CRASHES", "FolderChannel", "FolderTransport", "broker_folder", "reclaim"]

logger = logging.getLogger(__name__)

MAX_CRASHES = 3
"""A message whose worker died this often while it had it is put aside."""
CRASHES_HEADER = "x-crashes"
LONGEST_WAIT = 1.0
"""Seconds: messages are looked for at least this often, should a wake-up get lost."""
SUFFIX = ".msg"


def broker_folder(run_dir: Path) -> Path:
    """Return where the embedded broker keeps its files."""
    return run_dir / "broker"


def _safe(name: str) -> str:
    return quote(name, safe="") or "_"


class FolderQoS(virtual.QoS):
    """Keeps the file of a message until it is acknowledged."""

    def ack(self, delivery_tag: str) -> None:
        """Remove the message for good. May be called by any thread."""
        self.channel.settle(delivery_tag)
        super().ack(delivery_tag)
        self.channel.connection_wake()

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Put the message back, or remove it for good."""
        self.channel.settle(delivery_tag, requeue=requeue)
        self._quick_ack(delivery_tag)
        self.channel.connection_wake()

    def restore_unacked(self) -> list[Any]:
        """Put back every message that was not acknowledged."""
        self._flush()
        for delivery_tag in list(self._delivered):
            self.channel.settle(delivery_tag, requeue=True)
        self._delivered.clear()
        return []


class FolderChannel(virtual.Channel):
    """One consumer or producer of the embedded broker."""

    QoS = FolderQoS

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        options = connection.client.transport_options
        self.root = Path(options["folder"])
        self.worker: str = _safe(options.get("worker") or f"process-{os.getpid()}")
        self._listed: dict[str, deque[str]] = {}
        self._taken: dict[str, tuple[Path, str]] = {}

    # What kombu asks of a channel.

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        name = f"{int(data.utc_now().timestamp() * 1e6):020d}-{uuid4().hex}"
        folder = self._queue_folder(queue)
        text = json.dumps(message)
        try:
            try:
                _write(folder, name, text)
            except FileNotFoundError:  # the folder is new, or somebody wiped it
                folder.mkdir(parents=True, exist_ok=True)
                _write(folder, name, text)
        except OSError as error:
            raise ChannelError(f"cannot write a message into {folder}: {error}") from error
        self._wake_consumers(queue)

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        del timeout
        for _ in range(2):
            names = self._listed.get(queue) or self._list(queue)
            while names:
                message = self._take(queue, names.popleft())
                if message is not None:
                    return message
        raise Empty

    def _size(self, queue: str) -> int:
        return len(_messages(self._queue_folder(queue)))

    def _purge(self, queue: str) -> int:
        count = 0
        folder = self._queue_folder(queue)
        for name in _messages(folder):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
                count += 1
        return count

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self._queue_folder(queue).is_dir()

    def _new_queue(self, queue: str, **_: Any) -> None:
        with contextlib.suppress(OSError):
            self._queue_folder(queue).mkdir(parents=True, exist_ok=True)

    def _lookup(self, exchange: str, routing_key: str, default: Any = None) -> list[str]:
        """Every exchange is direct, and every routing key is the name of a queue."""
        del exchange
        return [routing_key or default]

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Consume from a queue, and be woken when something is put into it."""
        super().basic_consume(queue, *args, **kwargs)
        self.connection.listen(self._fifo(queue))

    def basic_qos(self, *args: Any, **kwargs: Any) -> None:
        """Set how many messages may be in hand, and look for some."""
        super().basic_qos(*args, **kwargs)
        self.connection_wake()

    # The files.

    def settle(self, delivery_tag: str, *, requeue: bool = False) -> None:
        """Remove or put back the file of a message that was taken."""
        path, queue = self._taken.pop(delivery_tag, (None, ""))
        if path is None:
            return
        with contextlib.suppress(OSError):
            if requeue:
                folder = self._queue_folder(queue)
                folder.mkdir(parents=True, exist_ok=True)
                path.rename(folder / path.name)
                self._wake_consumers(queue)
            else:
                path.unlink()

    def connection_wake(self) -> None:
        """Wake the loop that waits on this channel's connection, if any."""
        if self.connection is not None:
            self.connection.wake()

    def _queue_folder(self, queue: str) -> Path:
        return self.root / "queues" / _safe(queue)

    def _fifo(self, queue: str) -> Path:
        return self.root / "wake" / _safe(queue) / f"{self.worker}.fifo"

    def _list(self, queue: str) -> deque[str]:
        names = deque(_messages(self._queue_folder(queue)))
        self._listed[queue] = names
        return names

    def _take(self, queue: str, name: str) -> dict[str, Any] | None:
        """Take a message; None if another was faster or if it cannot be read."""
        folder = self.root / "taken" / self.worker / _safe(queue)
        source, path = self._queue_folder(queue) / name, folder / name
        try:
            try:
                source.rename(path)
            except FileNotFoundError:
                if not source.exists():
                    return None
                folder.mkdir(parents=True, exist_ok=True)
                source.rename(path)
            message: dict[str, Any] = json.loads(path.read_bytes())
            tag = message["properties"]["delivery_tag"]
        except OSError:
            return None
        except (ValueError, KeyError, TypeError):
            # A power cut leaves empty files. What it was about is in the store.
            logger.warning("A message in the queue %s cannot be read; dropped.", queue)
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self._taken[tag] = (path, queue)
        return message

    def _wake_consumers(self, queue: str) -> None:
        folder = self.root / "wake" / _safe(queue)
        try:
            fifos = list(folder.iterdir())
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


def _messages(folder: Path) -> list[str]:
    """Return the names of the messages in a folder, oldest first."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - names are wanted, thousands of them
    except OSError:
        return []
    return sorted(name for name in names if name.endswith(SUFFIX) and not name.startswith("."))


def _poke(fifo: Path) -> None:
    """Wake whoever reads a pipe; one that nobody reads is removed."""
    try:
        handle = os.open(fifo, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # ENXIO: its reader is gone
        return
    try:
        with contextlib.suppress(OSError):  # full: it will wake anyway
            os.write(handle, b".")
    finally:
        os.close(handle)


class FolderTransport(virtual.Transport):
    """The embedded broker, as kombu knows a broker.

    Transport options: ``folder``, where it keeps its files, and ``worker``,
    the name under which taken messages are kept (one process per name).
    """

    Channel = FolderChannel
    driver_type = "folder"
    driver_name = "folder"
    default_port: Any = 0
    can_parse_url = True
    connection_errors: Any = (*virtual.Transport.connection_errors, OSError)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset(["direct", "topic"])
    )

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self._fifos: dict[Path, int] = {}
        self._is_stopping = False
        self._wake_read, self._wake_write = -1, -1

    @property
    def _options(self) -> dict[str, Any]:
        client: Any = self.client
        return dict(client.transport_options)

    def driver_version(self) -> str:
        """Return the version of the layout of the folder."""
        return "1"

    def establish_connection(self) -> Any:
        """Make sure that the folder can be used."""
        folder = Path(self._options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "Permission denied", str(folder))
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Close the channels and the pipes."""
        super().close_connection(connection)
        for handle in [*self._fifos.values(), self._wake_read, self._wake_write]:
            if handle >= 0:
                os.close(handle)
        for path in self._fifos:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._fifos.clear()
        self._wake_read = self._wake_write = -1

    def drain_events(self, connection: Any, timeout: float | None = None, **_: Any) -> None:
        """Deliver one message, waiting for it up to `timeout` seconds.

        Raises
        ------
        TimeoutError
            If there was none, or if `wake` was called: whoever called it has
            something for the caller's loop to do.
        """
        del connection
        cycle: Any = self.cycle
        deadline = None if timeout is None else data.monotonic() + timeout
        while True:
            if self._is_stopping:
                raise TimeoutError
            try:
                cycle.get(self._deliver, timeout=timeout)
            except Empty:
                left = LONGEST_WAIT if deadline is None else deadline - data.monotonic()
                if left <= 0 or self._wait(min(left, LONGEST_WAIT)):
                    raise TimeoutError from None
            else:
                return

    def listen(self, fifo: Path) -> None:
        """Be woken through this pipe from now on."""
        self._fifos.setdefault(fifo, -1)
        self._open(fifo)

    def stop(self) -> None:
        """Deliver nothing more: the worker is stopping. May be called by any thread."""
        self._is_stopping = True
        self.wake()

    def wake(self) -> None:
        """Make `drain_events` return soon. May be called by any thread."""
        if self._wake_write >= 0:
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b".")

    def _wait(self, seconds: float) -> bool:
        """Wait until something comes or the time is over; return whether `wake` was called."""
        if self._wake_read < 0:
            self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for fifo in self._fifos:
            self._open(fifo)
        handles = [handle for handle in self._fifos.values() if handle >= 0]
        ready, _, _ = select.select([*handles, self._wake_read], [], [], seconds)
        for handle in ready:
            with contextlib.suppress(OSError):
                os.read(handle, 4096)
        return self._wake_read in ready

    def _open(self, fifo: Path) -> None:
        """Open a pipe, or open it again if somebody wiped it."""
        handle = self._fifos[fifo]
        with contextlib.suppress(OSError):
            if handle >= 0 and os.path.samestat(os.fstat(handle), os.stat(fifo)):  # noqa: PTH116
                return
        with contextlib.suppress(OSError):
            if handle >= 0:
                os.close(handle)
                self._fifos[fifo] = -1
            fifo.parent.mkdir(parents=True, exist_ok=True)
            if not fifo.exists():
                os.mkfifo(fifo)
            # Read and write: a pipe without a writer would always seem to have something.
            self._fifos[fifo] = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)


def reclaim(run_dir: Path, worker: str, limit: int = MAX_CRASHES) -> tuple[int, int]:
    """Put back what a worker had taken when it was killed.

    Only the worker of that name may call this, and only before it consumes.

    Returns
    -------
    tuple
        How many messages were put back, and how many were put aside because
        the worker has died `limit` times with them in hand.
    """
    root = broker_folder(run_dir)
    back = aside = 0
    for path in sorted((root / "taken" / _safe(worker)).glob(f"*/*{SUFFIX}")):
        try:
            message = json.loads(path.read_bytes())
            headers = message.setdefault("headers", {})
            crashes = int(headers.get(CRASHES_HEADER, 0)) + 1
            headers[CRASHES_HEADER] = crashes
            message["redelivered"] = True
            place = "dead" if crashes >= limit else "queues"
            folder = root / place / path.parent.name
            folder.mkdir(parents=True, exist_ok=True)
            _write(folder, path.name.removesuffix(SUFFIX), json.dumps(message))
            path.unlink()
        except (OSError, ValueError, TypeError, AttributeError):
            with contextlib.suppress(OSError):
                path.unlink()
            continue
        if place == "dead":
            aside += 1
            task = headers.get("task")
            logger.error(
                "The task %s was in hand when this worker died, %d times: put aside in %s.",
                task,
                crashes,
                unquote(folder.name),
            )
        else:
            back += 1
    shutil.rmtree(root / "taken" / _safe(worker), ignore_errors=True)
    return back, aside
