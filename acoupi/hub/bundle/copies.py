"""Copies of the database of a hub in containers: made while it runs, and restored.

A restore replaces everything in one transaction, so that an interruption leaves the database
either as it was or fully restored.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from acoupi.bundles.ownership import give, host_owner
from acoupi.errors import ConfigurationError, TargetError
from acoupi.hub.bundle.running import RunningHub
from acoupi.hub.bundle.secrets import env_file
from acoupi.hub.bundle.services import DATABASE, WORKER
from acoupi.hub.schema import VERSION, is_known_version
from acoupi.writing import PRIVATE, disk_error, write_atomic

__all__ = ["back_up", "restore"]

PATIENCE = 3600.0
RESTORE_PATIENCE = 6 * 3600.0
"""Seconds for a restore, which rebuilds the indexes."""
COPY = "copy.dump"
"""In the hub's folder `run`, which is mounted into the container of PostgreSQL, too."""
_AS_OWNER = (
    "umask 077; cd /run/database; export PGPASSWORD=$ACOUPI_DATABASE_PASSWORD PGHOST=$PWD "
    "PGUSER=acoupi PGDATABASE=acoupi; "
)
DUMP = f"{_AS_OWNER} exec pg_dump --format custom --file {COPY}"
CHECK = f"{_AS_OWNER} exec pg_restore --file /dev/null {COPY}"
READ_VERSION = f"{_AS_OWNER} exec pg_restore --data-only --table acoupi_hub --file - {COPY}"
RESTORE = f"""{_AS_OWNER} {{
    echo 'BEGIN; DROP OWNED BY CURRENT_USER;' &&
    pg_restore --no-owner --no-privileges --file - {COPY} && echo 'COMMIT;'
}} | psql --no-psqlrc --quiet --output /dev/null --set ON_ERROR_STOP=1"""
"""Nothing changes without the last line, which follows a copy that was read to its end."""
FIND_ROWS = f"""{_AS_OWNER} psql --no-psqlrc --tuples-only --no-align --set ON_ERROR_STOP=1 <<'END'
SELECT format('SELECT %L WHERE EXISTS (SELECT FROM %I)', tablename, tablename) FROM pg_tables
WHERE schemaname = 'public' AND tablename NOT IN ('acoupi_hub', 'worker', 'stranger')
ORDER BY 1 \\gexec
END"""  # noqa: S608 - no word of a user
"""The excluded tables have rows in a hub that was just set up."""


def back_up(hub: RunningHub, file: Path) -> int:
    """Copy the database into a new file that only its owner reads; return its bytes.

    Raises
    ------
    AcoupiError
        If the hub has no database of its own, it does not answer, or the file exists.
    """
    _need_own_database(hub, "pg_dump --format custom --file FILE URL")
    if file.exists():
        raise ConfigurationError(
            f'"{file}" already exists.', "another name", why="a copy does not overwrite files."
        )
    made = hub.home.run / COPY
    try:
        _inside(hub, DUMP)
        with made.open("rb") as source, file.open("xb") as target:
            file.chmod(PRIVATE)
            shutil.copyfileobj(source, target)
            os.fsync(target.fileno())
            return target.tell()
    except OSError as error:
        file.unlink(missing_ok=True)
        raise disk_error("write", file, error) from error
    finally:
        made.unlink(missing_ok=True)


def restore(hub: RunningHub, file: Path, *, replace: bool = False) -> None:
    """Restore what `back_up` made; services are stopped meanwhile, and always started again.

    Workers here get new tokens: those in the copy may belong to another hub.

    Parameters
    ----------
    replace
        Whether to replace what the hub has.

    Raises
    ------
    AcoupiError
        If the file is not a complete copy, or is of another version; if the hub is not running,
        has no database of its own, or already has data. Nothing is changed then.
    """
    _need_own_database(hub, "pg_restore --clean --if-exists --dbname URL FILE")
    _need_running(hub)
    with _in_reach(hub, file):
        _check(hub, file)
        if not replace:
            _need_empty(hub)
        names = [one.name for one in hub.stack.services if one.name != DATABASE]
        try:
            hub.compose("stop", *names, timeout=PATIENCE)
            if not replace:
                _need_empty(hub)
            _put_back(hub, file)
        except BaseException:
            with suppress(TargetError):
                hub.up()
            raise
    for service in hub.stack.services:
        if service.role == WORKER:
            write_atomic(hub.home.path / env_file(service.name), "", PRIVATE)
    hub.up()


def _need_own_database(hub: RunningHub, command: str) -> None:
    if not hub.choices.has_own_database:
        raise ConfigurationError(
            "this hub has no database of its own.",
            f"{command}, with the address of yours",
            why="it uses an external PostgreSQL server.",
        )


def _need_running(hub: RunningHub) -> None:
    [database] = [one for one in hub.states() if one.name == DATABASE]
    if not database.is_well:
        raise TargetError(
            "the hub is not running.",
            "acoupi hub up, then again",
            why=f"its database is {database.health or database.state}.",
        )


def _need_empty(hub: RunningHub) -> None:
    filled = _inside(hub, FIND_ROWS).split()
    if filled:
        raise ConfigurationError(
            "this hub already has data.",
            "acoupi hub backup OTHER-FILE, then acoupi hub restore FILE --replace",
            why=f"there are rows in {', '.join(filled)}.",
        )


@contextmanager
def _in_reach(hub: RunningHub, file: Path) -> Iterator[None]:
    """Let the container of PostgreSQL read a file."""
    copy = hub.home.run / COPY
    try:
        try:
            copy.unlink(missing_ok=True)
            with file.open("rb") as source, copy.open("xb") as target:
                copy.chmod(PRIVATE)
                shutil.copyfileobj(source, target)
        except OSError as error:
            raise disk_error("copy", file, error) from error
        give([copy], *host_owner(hub.home.path))
        yield
    finally:
        copy.unlink(missing_ok=True)


def _check(hub: RunningHub, file: Path) -> None:
    """Read a copy to its end, and check that its tables are those of this version."""
    try:
        _inside(hub, CHECK)
    except TargetError as error:
        raise ConfigurationError(
            f'"{file}" is not a complete copy of a database.',
            "another copy, made by acoupi hub backup",
            why=error.why,
        ) from error
    text = _inside(hub, READ_VERSION)
    found = [int(one) for one in re.findall(r"^[0-9]+$", text, re.MULTILINE)]
    if not found or not is_known_version(max(found)):
        kind = f"a hub of version {max(found)}, not {VERSION}" if found else "something else"
        raise ConfigurationError(
            f'"{file}" cannot be restored here.',
            "the acoupi that made it, or a newer one" if found else "a copy of acoupi hub backup",
            why=f"it is a copy of the database of {kind}.",
        )


def _put_back(hub: RunningHub, file: Path) -> None:
    try:
        _inside(hub, RESTORE, timeout=RESTORE_PATIENCE)
    except TargetError as error:
        raise TargetError(
            f'"{file}" could not be restored; the data of the hub are unchanged.',
            "df -h, acoupi hub status, then again",
            why=error.why,
        ) from error


def _inside(hub: RunningHub, script: str, timeout: float = PATIENCE) -> str:
    return hub.compose("exec", "-T", DATABASE, "sh", "-c", script, timeout=timeout).out
