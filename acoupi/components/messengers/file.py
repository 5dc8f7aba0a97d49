"""A messenger for places without a network: messages into a file."""

import base64
import fcntl
import json
import logging
import os
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.components import types
from acoupi.components.messengers.config import FileConfig
from acoupi.errors import HealthCheckError, MessageSendError
from acoupi.home import home_dir
from acoupi.opening import open_file
from acoupi.writing import sync_folder

__all__ = ["FileMessenger"]


class FileMessenger(types.Messenger):
    """Append each message to a file, one line of JSON each.

    A line has ``id``, ``created_on``, ``message_type`` and ``content``: the
    JSON of the message if it is JSON, else its text; bytes that are no text
    are in ``content_base64`` instead. A message counts as delivered when its
    line is on the disk (fsync). Several processes may write to one file.

    Parameters
    ----------
    path
        The file; it and its folder are made when first needed. A relative
        path is one below ACOUPI_HOME.
    """

    key = "file"
    Config = FileConfig
    needs_network = False

    def __init__(self, path: Path, logger: logging.Logger | None = None) -> None:
        self.path = Path(path)
        self.logger = logger or logging.getLogger(__name__)

    @property
    def name(self) -> str:
        """``file:`` and the path."""
        return f"file:{self.path}"

    def send_message(self, message: data.Message) -> data.Response:
        """Append the message and wait until the disk has it.

        Raises
        ------
        MessageSendError
            If the file cannot be written; it then holds no part of the message.
        """
        line = json.dumps(_entry(message), ensure_ascii=False).encode() + b"\n"
        path = home_dir() / self.path
        try:
            self._append(path, line)
        except OSError as err:
            raise MessageSendError(
                f'cannot write the message to "{path}".',
                "make room, or choose another path",
                why=_why(err, path),
            ) from err
        return data.Response(status=data.ResponseStatus.SUCCESS, message=message)

    def check(self) -> None:
        """Raise `HealthCheckError` if the file cannot be opened for writing."""
        path = home_dir() / self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            os.close(open_file(path, os.O_RDWR | os.O_CREAT))
        except OSError as err:
            raise HealthCheckError(
                f'messages cannot be written to "{path}".',
                "choose another path, or change its permissions",
                why=_why(err, path),
            ) from err

    def _append(self, path: Path, line: bytes) -> None:
        """Write the whole line or none of it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        handle = open_file(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        with os.fdopen(handle, "r+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # held until the file is closed
            size = file.seek(0, os.SEEK_END)
            try:
                _write_all(file.fileno(), _line_end(file.fileno(), size) + line)
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
        if is_new:
            sync_folder(path.parent)


def _why(err: OSError, path: Path) -> str | None:
    if isinstance(err, FileExistsError | NotADirectoryError):
        return f'"{path.parent}" is not a folder'
    return err.strerror


def _line_end(descriptor: int, size: int) -> bytes:
    """Return what ends the line that a power cut has left open, if there is one."""
    return b"\n" if size and os.pread(descriptor, 1, size - 1) != b"\n" else b""


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _entry(message: data.Message) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": str(message.id),
        "created_on": message.created_on.isoformat(),
        "message_type": message.message_type and message.message_type.value,
    }
    try:
        text = message.content if isinstance(message.content, str) else message.content.decode()
    except UnicodeDecodeError:
        return {**entry, "content_base64": base64.b64encode(message.content).decode()}  # type: ignore[arg-type]
    try:
        return {**entry, "content": json.loads(text, parse_constant=_no_json)}
    except (ValueError, RecursionError):
        return {**entry, "content": text}


def _no_json(name: str) -> float:
    """Refuse NaN and infinity, which Python reads and writes and no other reader takes."""
    raise ValueError(f"{name} is not JSON")
