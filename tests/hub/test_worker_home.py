"""The folder of a worker: it goes with its process, and what does not fit into it is told."""

import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from acoupi.errors import HubError
from acoupi.hub.analysing import Analyser
from acoupi.hub.audio_store import open_store
from acoupi.hub.calling import HubClient
from acoupi.hub.database import HubDatabase
from acoupi.hub.jobs import MOST_ATTEMPTS, REST
from acoupi.hub.parts import Hub
from acoupi.hub.workers import add_worker, get_work
from acoupi.hub.working import AtWork
from acoupi.programs import demo
from acoupi.services.program_report import program_report
from tests.clocks import Clock
from tests.hub.recorded import leave, new_recording
from tests.hubs import served
from tests.postgres import Postgres
from tests.services import DEADLINE

LIVE = """
import sys
from acoupi.hub.worker_home import worker_home
with worker_home() as home:
    (home / "sound").mkdir()
    print(home, flush=True)
    sys.stdin.read()
"""


@contextmanager
def worker(folder: Path) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a process with the folder of a worker below another folder."""
    with subprocess.Popen(
        [sys.executable, "-c", LIVE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={"TMPDIR": str(folder)},
    ) as process:  # fmt: skip
        assert process.stdout
        yield process, Path(process.stdout.readline().strip())
        process.communicate(timeout=DEADLINE)


def test_a_worker_removes_the_folders_of_killed_ones_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "acoupi-worker-link").symlink_to("/")
    with worker(tmp_path) as (_, living):
        with worker(tmp_path) as (killed, left):
            killed.kill()
        assert (left / "sound").is_dir()

        with worker(tmp_path) as (_, later):
            assert not left.exists()
            assert (living / "sound").is_dir()
            assert (later / "sound").is_dir()

    assert [one.name for one in tmp_path.iterdir()] == ["acoupi-worker-link"]


PROGRAM = "acoupi.programs.demo"


def test_a_recording_larger_than_the_room_has_failed_by_name_and_keeps_no_other_from_being_done(
    postgres: Postgres, tmp_path: Path, home: Path, clock: Clock
) -> None:
    store = open_store(str(tmp_path))
    home.mkdir()
    url = postgres.new_database("room")
    with closing(HubDatabase(url)) as database, served(url, audio=store) as address:
        hub = Hub(database, store)
        token = add_worker(database, "shed", PROGRAM, "redis://broker:6379/0")
        report = program_report(demo.Program, demo.ConfigSchema())
        large, small = (new_recording(tmp_path) for _ in range(2))
        leave(hub, large, report)
        leave(hub, small, report)
        with database.writing() as connection:
            connection.execute(
                "UPDATE audio SET bytes = 1000000000000000 WHERE id = :id", {"id": large.id.bytes}
            )
            jobs = dict(connection.execute(
                "SELECT r.id, j.row FROM job j JOIN recording r ON r.row = j.recording_row"
            ).fetchall())  # fmt: skip
        client = HubClient(address, SecretStr(token))
        at_work = AtWork(client, Analyser(demo.Program, home), home, 60)
        for _ in range(MOST_ATTEMPTS):
            with database.writing() as connection:
                connection.execute("UPDATE job SET state = 'sent' WHERE state = 'waiting'")
            at_work.do(jobs[large.id.bytes])
            clock.advance(REST + 1)
        at_work.do(jobs[small.id.bytes])

        [work] = get_work(database)
        assert (work.failed, work.done) == (1, 1)
        with database.reading() as connection:
            [error] = connection.one("SELECT error FROM job WHERE state = 'failed'")
    assert "1000000000 MB does not fit" in error
    assert "MB free in" in error


def test_what_breaks_off_while_it_is_fetched_leaves_no_part(
    postgres: Postgres, tmp_path: Path, home: Path
) -> None:
    store, folder = open_store(str(tmp_path)), tmp_path / "worker"
    folder.mkdir()
    url = postgres.new_database("room")
    with closing(HubDatabase(url)) as database, served(url, audio=store) as address:
        hub = Hub(database, store)
        token = add_worker(database, "shed", PROGRAM, "redis://broker:6379/0")
        one = new_recording(tmp_path)
        leave(hub, one, program_report(demo.Program, demo.ConfigSchema()))
        client, size = HubClient(address, SecretStr(token)), one.path.stat().st_size
        with most_bytes_of_a_file(10_000), pytest.raises(OSError, match="too large"):
            client.fetch(f"/v1/audio/{one.id}", folder / "a.wav", size, "0" * 64)
        with pytest.raises(HubError):
            client.fetch(f"/v1/audio/{one.id}", folder / "a.wav", size, "0" * 64)
        with pytest.raises(HubError):
            client.fetch(f"/v1/audio/{uuid4()}", folder / "a.wav", size, "0" * 64)

    assert list(folder.iterdir()) == []


@contextmanager
def most_bytes_of_a_file(number: int) -> Iterator[None]:
    """Let the kernel refuse to make files longer, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
