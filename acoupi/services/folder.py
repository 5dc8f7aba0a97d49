"""Kombu's transport for the embedded broker, whose files are handled in `folder_files`."""

import contextlib
import errno
import logging
import os
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError

from acoupi.opening import NotAFileError
from acoupi.services import folder_files
from acoupi.services.envelopes import read_message, written_message
from acoupi.services.folder_files import MAX_CRASHES, broker_folder, reclaim
from acoupi.services.transport import SensorChannel, SensorTransport

__all__ = ["MAX_CRASHES", "FolderChannel", "FolderTransport", "broker_folder", "reclaim"]

logger = logging.getLogger(__name__)


class FolderChannel(SensorChannel):
    """One consumer or producer of the embedded broker."""

    def __init__(self, connection: Any, **kwargs: Any) -> None:
        super().__init__(connection, **kwargs)
        options = connection.client.transport_options
        self.root = Path(options["folder"])
        self.worker: str = folder_files.safe(options.get("worker") or f"process-{os.getpid()}")
        self._listed: dict[str, deque[str]] = {}
        self._is_refused = False

    # The interface of a kombu channel.

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        try:
            folder_files.put(self.root, queue, written_message(message))
        except ValueError as error:
            raise ChannelError(str(error)) from error
        except OSError as error:
            folder = self._queue_folder(queue)
            raise ChannelError(f"cannot write a message into {folder}: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for _ in range(2):
            names = self._listed.get(queue) or self._list(queue)
            while names:
                message = self._take(queue, names.popleft())
                if message is not None:
                    return message
        raise Empty

    def _size(self, queue: str) -> int:
        return len(folder_files.messages(self._queue_folder(queue)))

    def _purge(self, queue: str) -> int:
        count = 0
        folder = self._queue_folder(queue)
        for name in folder_files.messages(folder):
            with contextlib.suppress(OSError):
                (folder / name).unlink()
                count += 1
        return count

    def _has_queue(self, queue: str, **_: Any) -> bool:
        return self._queue_folder(queue).is_dir()

    def _new_queue(self, queue: str, **_: Any) -> None:
        with contextlib.suppress(OSError):
            self._queue_folder(queue).mkdir(parents=True, exist_ok=True)

    def basic_consume(self, queue: str, *args: Any, **kwargs: Any) -> None:
        """Consume from a queue; producers wake this consumer."""
        super().basic_consume(queue, *args, **kwargs)
        self.connection.listen(self._fifo(queue))

    # Files.

    def settle(self, delivery_tag: str, *, requeue: bool = False) -> None:
        """Remove or put back the file of a message that was taken."""
        path, queue = self.taken.pop(delivery_tag, (None, ""))
        if path is None:
            return
        with contextlib.suppress(OSError):
            if requeue:
                folder = self._queue_folder(queue)
                folder.mkdir(parents=True, exist_ok=True)
                path.rename(folder / path.name)
                folder_files.wake_consumers(self.root, queue)
            else:
                path.unlink()

    def deliver_one(self) -> bool:
        """Deliver a message if there is one and the prefetch limit allows it."""
        try:
            self.drain_events(callback=self.connection.deliver)
        except Empty:
            return False
        return True

    def _queue_folder(self, queue: str) -> Path:
        return folder_files.queue_folder(self.root, queue)

    def _fifo(self, queue: str) -> Path:
        return folder_files.wake_folder(self.root, queue) / f"{self.worker}.fifo"

    def _list(self, queue: str) -> deque[str]:
        names = deque(folder_files.messages(self._queue_folder(queue)))
        self._listed[queue] = names
        return names

    def _take(self, queue: str, name: str) -> dict[str, Any] | None:
        """Take a message; None if another consumer was faster or it cannot be read."""
        folder = self.root / "taken" / self.worker / folder_files.safe(queue)
        source, path = self._queue_folder(queue) / name, folder / name
        try:
            try:
                source.rename(path)
            except FileNotFoundError:
                if not source.exists():
                    return None
                folder.mkdir(parents=True, exist_ok=True)
                source.rename(path)
            raw = folder_files.read_start(path)
            message, tag = read_message(raw)
        except FileNotFoundError:
            return None
        except NotAFileError as error:
            logger.warning("A message in the queue %s is put aside: %s", queue, error)
            return None
        except OSError as error:
            if not self._is_refused:
                logger.error(  # noqa: TRY400 - a traceback says nothing more
                    "Cannot take a message from the queue %s: %s. Trying again.", queue, error
                )
            self._is_refused = True
            return None
        except ValueError as error:
            # A power cut leaves empty files. The store still knows the pending work.
            self.aside.put(raw, queue, str(error))
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        self._is_refused = False
        self.taken[tag] = (path, queue)
        return message


class FolderTransport(SensorTransport):
    """The embedded broker.

    Transport options: ``folder``, for its files, and ``worker``, the name under
    which unacknowledged messages are kept (one process per name).
    """

    Channel = FolderChannel
    driver_type = "folder"
    driver_name = "folder"

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self._fifos: dict[Path, int] = {}

    def establish_connection(self) -> Any:
        """Check that the folder can be used."""
        folder = Path(self.options["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            is_read_only = os.statvfs(folder).f_flag & os.ST_RDONLY
            number = errno.EROFS if is_read_only else errno.EACCES
            raise OSError(number, os.strerror(number), str(folder))
        return super().establish_connection()

    def close_connection(self, connection: Any) -> None:
        """Close the channels and the pipes."""
        super().close_connection(connection)
        for handle in self._fifos.values():
            if handle >= 0:
                os.close(handle)
        for path in self._fifos:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        self._fifos.clear()

    def listen(self, fifo: Path) -> None:
        """Listen to this pipe from now on."""
        self._fifos.setdefault(fifo, -1)
        self._open(fifo)

    def came(self, handle: int) -> None:
        """Empty a pipe; the folder is checked next."""
        with contextlib.suppress(OSError):
            os.read(handle, 4096)

    def handles(self) -> Iterable[int]:
        """Return the pipes through which producers wake this consumer."""
        for fifo in self._fifos:
            self._open(fifo)
        return [handle for handle in self._fifos.values() if handle >= 0]

    def _open(self, fifo: Path) -> None:
        """Open a pipe, or reopen it if somebody deleted it."""
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
            # Opened for writing, too: a pipe without a writer always counts as readable.
            self._fifos[fifo] = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
