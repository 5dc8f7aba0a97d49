"""The deployments of a home: ``config/deployment.json`` holds the running one.

That file is the only place where this is decided, and it is written under the lock of
the home (`acoupi.commit.changing`). Stores follow it. ``config/deployments.json`` keeps
the deployments that ended before.
"""

import json
import logging
import shlex
from dataclasses import dataclass
from pathlib import Path

from acoupi.commit import is_there, read_whole
from acoupi.data import Deployment
from acoupi.errors import AcoupiError, DeploymentError
from acoupi.home import home_dir
from acoupi.writing import RenderedFile, disk_error

__all__ = [
    "Deployed",
    "deployed_here",
    "files_of",
    "known_deployed",
    "read_deployed",
    "read_last",
    "standby_file",
    "stands_by_here",
]

CURRENT, HISTORY = "deployment.json", "deployments.json"
STANDBY = "standby.json"
"""While this file exists, nothing is recorded: the deployment ended, the services continue."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deployed:
    """The deployments of a home by its files."""

    last: Deployment | None = None
    """The last one that was started; None if none ever was."""
    before: tuple[Deployment, ...] = ()
    """Those that ended before it, in the order of their start."""

    @property
    def current(self) -> Deployment | None:
        """The running deployment, or None."""
        return self.last if self.last is not None and self.last.ended_on is None else None

    @property
    def every(self) -> tuple[Deployment, ...]:
        """All of them, in the order of their start."""
        return self.before if self.last is None else (*self.before, self.last)


def read_deployed(path: Path) -> Deployed:
    """Return the deployments in ``deployment.json`` and the history beside it.

    Raises
    ------
    DeploymentError
        If one of them cannot be read; it is not overwritten then.
    """
    last = read_last(path)
    history = path.with_name(HISTORY)
    try:
        content = json.loads(read_whole(history))
        before = tuple(Deployment.model_validate(one) for one in content)
    except FileNotFoundError:
        before = ()
    except OSError as error:
        raise disk_error("read", history, error) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise DeploymentError(
            f'cannot read "{history}".',
            f"mv {shlex.quote(str(history))} {shlex.quote(str(history))}.broken",
            why="it does not hold a list of ended deployments. Those in the database are not "
            f"affected: {str(error).splitlines()[0]}.",
        ) from error
    return Deployed(last, tuple(one for one in before if last is None or one.id != last.id))


def read_last(path: Path) -> Deployment | None:
    """Return the last deployment, ended or not; None if there was none.

    Times without a zone are in UTC.

    Raises
    ------
    DeploymentError
        If the file cannot be read.
    """
    try:
        return Deployment.model_validate_json(read_whole(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error("read", path, error) from error
    except ValueError as error:
        raise DeploymentError(
            f'cannot read "{path}".',
            f"mv {shlex.quote(str(path))} {shlex.quote(str(path))}.broken && acoupi start",
            why=f"it does not hold a deployment: {str(error).splitlines()[0]}.",
        ) from error


def deployed_here() -> Deployed:
    """Return the deployments of ACOUPI_HOME; see `known_deployed`."""
    return known_deployed(home_dir() / "config" / CURRENT)


def standby_file(path: Path) -> Path:
    """Return the file beside ``deployment.json`` that prevents recording."""
    return path.with_name(STANDBY)


def stands_by_here() -> bool:
    """Return whether ACOUPI_HOME waits for the next deployment without recording."""
    return is_there(home_dir() / "config" / STANDBY)


def known_deployed(path: Path) -> Deployed:
    """Return the readable deployments; damaged ones are logged and left out.

    For recording and status, which continue without them.
    """
    for read in (read_deployed, _only_last):
        try:
            return read(path)
        except AcoupiError as error:
            _logger.warning("%s %s", error.message, error.why or "")
    return Deployed()


def _only_last(path: Path) -> Deployed:
    return Deployed(read_last(path))


def files_of(path: Path, deployed: Deployed) -> dict[Path, RenderedFile]:
    """Return ``deployment.json`` and the history, to be written together."""
    assert deployed.last is not None
    history = [one.model_dump(mode="json") for one in deployed.before]
    return {
        path: RenderedFile(deployed.last.model_dump_json(indent=2) + "\n"),
        path.with_name(HISTORY): RenderedFile(json.dumps(history, indent=2) + "\n"),
    }
