"""A PostgreSQL server for tests: Debian's, on a folder of its own, on loopback."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.services import DEADLINE, free_port

__all__ = ["Postgres", "postgres", "running_postgres"]


class Postgres:
    """A running server; its databases belong to whoever asks."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def url(self, name: str) -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def new_database(self, name: str) -> str:
        """Make an empty database, in place of one of this name; return its address."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def copy_of(self, url: str) -> str:
        """Copy a database that nobody uses, as a backup does; return the address of the copy."""
        name = url.rpartition("/")[2]
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f'DROP DATABASE IF EXISTS "{name}-copy" WITH (FORCE)')
            connection.execute(f'CREATE DATABASE "{name}-copy" TEMPLATE "{name}"')
        return self.url(f"{name}-copy")


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise FileNotFoundError("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1].parent


@contextmanager
def running_postgres(options: str = "-F") -> Iterator[Postgres]:
    """Run a server, as the user postgres where this is root, which it refuses.

    Without other options it does not wait for the disk.
    """
    binaries, port = _binaries(), free_port()
    folder = Path(tempfile.mkdtemp(prefix="acoupi-pg-"))
    user = "postgres" if os.getuid() == 0 else None
    if user:
        owner = pwd.getpwnam(user)
        os.chown(folder, owner.pw_uid, owner.pw_gid)

    def run(*command: str) -> None:
        subprocess.run(
            command, check=True, user=user, cwd=folder, capture_output=True, timeout=DEADLINE
        )

    data = str(folder / "data")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {folder} {options}"
    try:
        initdb = str(binaries / "initdb")
        run(
            initdb,
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        )
        control = str(binaries / "pg_ctl")
        run(control, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield Postgres(folder, port)
        run(control, "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """Run one server for all tests of a process."""
    with running_postgres() as server:
        yield server
