"""The log of a service: a rotated file of its own, and standard error."""

import contextlib
import io
import logging
import os
import shutil
import sys
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

from acoupi.errors import AcoupiError, ConfigurationError
from acoupi.opening import is_file, open_binary, open_file
from acoupi.printing import printable
from acoupi.stack.settings import Settings

__all__ = ["LOG_COPIES", "LOG_SIZE", "configure_logging", "note_crash", "tell"]

LOG_SIZE = 2_000_000
"""Bytes after which a log is rotated."""
LOG_COPIES = 5
"""Number of old files kept."""
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_OVERWRITE = os.O_WRONLY | os.O_TRUNC
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class _UTCFormatter(logging.Formatter):
    """Times in UTC, to the millisecond."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802
        time = datetime.fromtimestamp(record.created, tz=UTC)
        return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of a record, without escape sequences from strangers' text."""
        return printable(super().format(record), keep="\n\t")


class _SharedFileHandler(RotatingFileHandler):
    """A rotated file that child processes write to as well.

    Only the process that opened it rotates it; a child notices and writes to the new
    file. On a full disk the line is lost, and nothing else.

    In a container that has its log and one old log, and cannot make or rename files, it copies the
    log over the old one and empties it; together they hold as much as the files elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self._owner = os.getpid()
        self._is_fixed = not os.access(path.parent, os.W_OK)
        size = LOG_SIZE * (LOG_COPIES + 1) // 2 if self._is_fixed else LOG_SIZE
        super().__init__(path, maxBytes=size, backupCount=LOG_COPIES, encoding="utf-8")

    def doRollover(self) -> None:  # noqa: N802
        """Start a new file, or empty the current one."""
        if not self._is_fixed:
            super().doRollover()
            return
        log, old = Path(self.baseFilename), Path(f"{self.baseFilename}.1")
        with open_binary(log) as source, os.fdopen(open_file(old, _OVERWRITE), "wb") as copy:
            shutil.copyfileobj(source, copy)
        os.close(open_file(log, _OVERWRITE))

    def emit(self, record: logging.LogRecord) -> None:
        if os.getpid() != self._owner:
            with contextlib.suppress(OSError):
                self._follow()
        super().emit(record)

    def _follow(self) -> None:
        """Open the file again if it was rotated."""
        same = False
        with contextlib.suppress(FileNotFoundError):
            found = Path(self.baseFilename).stat()
            same = self.stream is not None and os.path.samestat(
                os.fstat(self.stream.fileno()), found
            )
        if not same:
            if self.stream is not None:
                self.stream.close()
            self.stream = self._open()

    def _open(self) -> io.TextIOWrapper:
        """Open the file, never through a link."""
        path = Path(self.baseFilename)
        if not is_file(path):
            with contextlib.suppress(OSError):
                path.unlink()
        handle = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        return os.fdopen(handle, "a", encoding="utf-8")

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802
        return os.getpid() == self._owner and bool(super().shouldRollover(record))

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Drop the line: a full disk cannot be reported there."""


def configure_logging(settings: Settings, name: str, *, quiet: bool = False) -> None:
    """Make this process log to ``log/NAME.log``, and to standard error unless `quiet`.

    Raises
    ------
    ConfigurationError
        If there is no such level.
    """
    level = settings.log_level.upper()
    if level not in LEVELS:
        raise ConfigurationError(
            f'there is no log level "{settings.log_level}".',
            "ACOUPI_LOG_LEVEL=INFO",
            why=f"the levels are {', '.join(LEVELS)}.",
        )
    handlers: list[logging.Handler] = []
    problem = None
    try:
        settings.log_dir.mkdir(parents=True, exist_ok=True)
        handlers.append(_SharedFileHandler(settings.log_dir / f"{name}.log"))
    except OSError as error:
        # A sensor with a full disk still records, without its log.
        problem = error
    if not quiet or problem:
        handlers.append(logging.StreamHandler(sys.stderr))
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        handler.setFormatter(_UTCFormatter(FORMAT))
        root.addHandler(handler)
    root.setLevel(level)
    # A line for each task received and each task done would wear out an SD card.
    for chatty in ("celery.worker.strategy", "celery.app.trace", "celery.beat", "kombu"):
        logging.getLogger(chatty).setLevel(max(logging.getLogger().level, logging.WARNING))
    if level == "DEBUG":
        for chatty in ("celery.worker.strategy", "celery.app.trace"):
            logging.getLogger(chatty).setLevel(logging.INFO)
    if problem:
        logging.getLogger(__name__).warning(
            "Cannot write the log in %s: %s", settings.log_dir, problem
        )


def tell(error: AcoupiError) -> None:
    """Write an error to standard error in its three lines, and to the log if there is one."""
    _note(" ".join(line.strip() for line in error.lines()))
    sys.stderr.write(printable("\n".join(error.lines()) + "\n", keep="\n\t"))
    sys.stderr.flush()


def note_crash() -> None:
    """Write the current exception to the log if there is one; standard error gets it anyway.

    What a service wrote to standard error is lost when it is restarted.
    """
    _note("This service is stopping.", sys.exc_info())


def _note(text: str, exc_info: Any = None) -> None:
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, text, None, exc_info)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, RotatingFileHandler):
            handler.handle(record)
