"""How a service shows that it is alive, and how others read it.

Three files below ``run/`` (in a container, in the folder ``run/NAME/``), named for the service:

``NAME.lock``
    A kernel lock (``flock``) that the service holds while it is alive. Only this
    decides whether it is running: the kernel releases it when the process ends,
    however it ends, so nothing stale can prevent a service from starting.
``NAME.pid``
    Its process id, for people. Nothing depends on it.
``NAME.json``
    Its `Pulse`, written at least every 5 s by the loop that does its work.
"""

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from acoupi import clock
from acoupi.errors import DeviceError, TargetError
from acoupi.locks import lock_within
from acoupi.opening import is_file, open_file, read_bytes
from acoupi.stack.settings import Settings
from acoupi.writing import disk_error

__all__ = [
    "AlreadyRunningError",
    "Pulse",
    "PulseFile",
    "ServiceFacts",
    "ServiceLock",
    "ServiceState",
    "has_open",
    "is_locked",
    "read_pulse",
    "runs_here",
]

ServiceState = Literal[
    "starting", "ready", "waiting for the broker", "degraded", "stopping", "stopped"
]
"""degraded: the last attempt of the service that sets the home up failed."""

PULSE_SIZE = 2048
"""Size of the file in bytes: constant, so that one write replaces all of it."""
LONGEST_PULSE = 64 * 1024
LOCK_PATIENCE = 3.0
"""Seconds to wait for the lock: a process that tests it holds it for a moment."""


class AlreadyRunningError(TargetError):
    """Another process holds the lock of this service."""

    exit_code = 75


@dataclass(kw_only=True)
class ServiceFacts:
    """The state of a service, from itself (`Pulse`) or from outside."""

    name: str
    state: str
    message: str | None = None
    """Why it is in that state, if that is not obvious."""
    pid: int | None = None
    started_on: datetime | None = None
    pulse_on: datetime | None = None
    """When it last wrote its pulse."""
    task: str | None = None
    """The running task; the longest-running one if there are several."""
    task_since: datetime | None = None
    done: int = 0
    """Tasks that succeeded since the start; for beat: messages sent."""
    failed: int = 0
    last_done_on: datetime | None = None
    last_error: str | None = None
    """Error of the last task that failed, until it succeeds."""
    restarts: int = 0
    """How often it was restarted after it had ended unexpectedly."""


@dataclass(kw_only=True)
class Pulse(ServiceFacts):
    """What a service reports about itself."""

    state: ServiceState = "starting"
    pid: int
    started_on: datetime
    pulse_on: datetime

    @property
    def facts(self) -> dict[str, Any]:
        """Everything except name and state, which others may judge differently."""
        return {key: value for key, value in vars(self).items() if key not in ("name", "state")}

    def to_json(self) -> str:
        """Return it in one line, without spaces, as health checks read it."""
        return json.dumps(asdict(self), separators=(",", ":"), default=datetime.isoformat)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the pulse that `to_json` wrote.

        Raises
        ------
        ValueError, TypeError, KeyError, RecursionError
            If it is something else.
        """
        content: dict[str, Any] = json.loads(text)
        if content["state"] not in get_args(ServiceState):
            raise ValueError(f"there is no state {content['state']}")
        for name in ("started_on", "pulse_on", "task_since", "last_done_on"):
            if content.get(name) is not None:
                content[name] = datetime.fromisoformat(content[name])
        return cls(**content)


class ServiceLock:
    """The lock that a service holds while it is alive.

    Parameters
    ----------
    folder
        ``run/``; created if necessary.
    name
        Of the service.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.path = folder / f"{name}.lock"
        self.pid_path = folder / f"{name}.pid"
        self._handle: int | None = None

    def acquire(self, patience: float = LOCK_PATIENCE) -> None:
        """Take the lock and write the pid file.

        Raises
        ------
        AlreadyRunningError
            If another process holds it.
        DeviceError
            If the folder cannot be written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _clear(self.path)
            handle = open_file(self.path, os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise disk_error("write", self.path, error) from error
        if not lock_within(handle, patience):
            os.close(handle)
            raise AlreadyRunningError(
                f'"{self.name}" is already running.',
                "acoupi workers status",
                why=f"another process holds {self.path}.",
            )
        self._handle = handle
        # Informational only: a service works without it.
        with contextlib.suppress(OSError):
            _clear(self.pid_path)
            with os.fdopen(
                open_file(self.pid_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w"
            ) as file:
                file.write(f"{os.getpid()}\n")

    def keep(self) -> bool:
        """Take the lock again if its file was removed; return whether it is still held."""
        if self._handle is None:
            return False
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(self._handle), self.path.lstat()):
                return True
        old, self._handle = self._handle, None
        try:
            self.acquire(patience=0)
        except AlreadyRunningError:
            os.close(old)
            return False
        except DeviceError:  # a disk error: the old lock still holds
            self._handle = old
            return True
        os.close(old)
        return True

    def release(self) -> None:
        """Release the lock and remove the pid file."""
        if self._handle is None:
            return
        with contextlib.suppress(OSError):
            self.pid_path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close a copy that a child process inherited; the parent keeps the lock."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


def has_open(path: Path, pid: int) -> bool:
    """Return whether the process with this id has a file open.

    An id in a pulse may come from another container, and belong to another process here.
    """
    with contextlib.suppress(OSError):
        for handle in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if handle.samefile(path):
                    return True
    return False


def is_locked(folder: Path, name: str) -> bool:
    """Return whether the service of that name is alive, on this machine."""
    try:
        handle = open_file(folder / f"{name}.lock")
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def runs_here(settings: Settings, name: str) -> bool:
    """Return whether a service of a home is alive on this machine, in a container or not."""
    folders = (settings.run_dir, settings.of_service(name).run_dir)
    return any(is_locked(folder, name) for folder in folders)


class PulseFile:
    """Writes the pulse of one service.

    The file is overwritten in place, in one write of a fixed size: that is as
    good as atomic and, unlike a rename every few seconds, does not wear out an
    SD card with journal commits.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.json"
        now = clock.utc_now()
        self.pulse = Pulse(
            name=name,
            pid=os.getpid(),
            started_on=now,
            pulse_on=now,
            restarts=_count(os.environ.get("ACOUPI_SERVICE_RESTARTS")),
        )

    def write(self) -> None:
        """Write it now. A disk error does not stop the service."""
        self.pulse.pulse_on = clock.utc_now()
        if self.pulse.message and len(self.pulse.message) > 400:
            self.pulse.message = self.pulse.message[:400] + "…"
        if self.pulse.last_error and len(self.pulse.last_error) > 400:
            self.pulse.last_error = self.pulse.last_error[:400] + "…"
        text = self.pulse.to_json().encode()
        block = (text + b"\n").ljust(PULSE_SIZE)  # a shell reads the first line byte by byte
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _clear(self.path)
            handle = open_file(self.path, os.O_WRONLY | os.O_CREAT)
            try:
                os.pwrite(handle, block, 0)
                # Truncating it, even at its end, would force it to disk: ext4 zeroes what follows.
                if os.fstat(handle).st_size != len(block):
                    os.ftruncate(handle, len(block))
            finally:
                os.close(handle)


def _clear(path: Path) -> None:
    """Remove anything in the place of this service's file that is not a file: a link, a FIFO."""
    with contextlib.suppress(OSError):
        if not is_file(path):
            path.unlink()


def _count(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def read_pulse(folder: Path, name: str) -> Pulse | None:
    """Return the last pulse of a service, which may have ended long ago; None if there is none."""
    for _ in range(2):
        try:
            text = read_bytes(folder / f"{name}.json", LONGEST_PULSE)
            return Pulse.from_json(text)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            continue
    return None
