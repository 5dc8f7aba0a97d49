"""Where the sensor keeps its files: ACOUPI_HOME."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

__all__ = ["home_dir", "spool_dir", "using_home"]

_override: ContextVar[Path | None] = ContextVar("acoupi_home", default=None)


def home_dir() -> Path:
    """Return ACOUPI_HOME as it is now: absolute, not necessarily existing.

    In order: the folder of an enclosing `using_home`, the environment
    variable ``ACOUPI_HOME``, ``~/.acoupi``.

    Examples
    --------
    >>> with using_home(Path("/srv/sensor")):
    ...     str(home_dir())
    '/srv/sensor'
    """
    home = _override.get() or os.environ.get("ACOUPI_HOME") or Path.home() / ".acoupi"
    return Path(home).expanduser().absolute()


def spool_dir() -> Path:
    """Return where recordings wait unless a program says otherwise: ``data/spool`` of the home."""
    return home_dir() / "data" / "spool"


@contextmanager
def using_home(home: Path) -> Iterator[None]:
    """Make `home_dir` answer `home` inside the block."""
    token = _override.set(Path(home))
    try:
        yield
    finally:
        _override.reset(token)
