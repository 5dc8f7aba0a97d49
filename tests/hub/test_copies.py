"""Copies of a hub's database, with the scripts of its container on a real PostgreSQL."""

import re
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from acoupi.bundles.engine import Answer, Engine
from acoupi.components.messengers.mqtt_session import Publication
from acoupi.config.env_files import read_env
from acoupi.errors import AcoupiError
from acoupi.hub.bundle.choices import HubHome
from acoupi.hub.bundle.copies import back_up, restore
from acoupi.hub.bundle.running import RunningHub
from acoupi.hub.bundle.setting_up import set_up_hub
from acoupi.hub.database import HubDatabase
from acoupi.hub.publications import put_publications
from acoupi.hub.sensors import add_sensor, get_sensors
from acoupi.hub.workers import add_worker, get_workers
from tests.postgres import Postgres

OWNER = "acoupi"


class OnThisMachine(Engine):
    """Runs what is for the container of PostgreSQL here, and notes what else it is asked."""

    def __init__(self, server: Postgres, hub: HubHome) -> None:
        self.server, self.hub = server, hub
        self.asked: list[str] = []
        self.down: set[str] = set()

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if "sh" in words:
            return self._inside(words[-1])
        self.asked += [one for one in words if one in {"stop", "up"}]
        if "ps" in words:
            return Answer(0, "\n".join(
                f'{{"Service": "{one}", "State": "running", "Health": "healthy"}}'
                for one in {"database", "broker", "ingest", "dispatch", "worker-demo"} - self.down
            ))  # fmt: skip
        return Answer(0, "the-token")

    def _inside(self, script: str) -> Answer:
        here = script.replace("/run/database", str(self.hub.run))
        here = here.replace("PGHOST=$PWD", f"PGHOST={self.server.folder} PGPORT={self.server.port}")
        done = subprocess.run(
            ["sh", "-c", here], capture_output=True, text=True, timeout=60, check=False
        )
        return Answer(done.returncode, done.stdout, done.stderr)


class Copied:
    """A hub on a database of a server, with an engine that knows only that."""

    def __init__(self, server: Postgres, folder: Path) -> None:
        self.home = HubHome(folder)
        given = {"name": "hub.example.org", "workers": {"demo": 1}}
        set_up_hub(self.home, given, own_servers={})
        self.engine = OnThisMachine(server, self.home)
        self.hub = RunningHub(self.home, self.engine)
        self.server = server
        with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {OWNER} WITH (FORCE)")
            connection.execute(f"DROP ROLE IF EXISTS {OWNER}")
            connection.execute(f"CREATE ROLE {OWNER} LOGIN")  # no superuser, as in its image
            connection.execute(f"CREATE DATABASE {OWNER} OWNER {OWNER}")
        self.url = server.url(OWNER).replace("//postgres@", f"//{OWNER}@")
        with self.database() as database:
            add_worker(database, "worker-demo", "demo", "redis://broker:6379/0")

    def database(self) -> "closing[HubDatabase]":
        return closing(HubDatabase(self.url))

    def sensors(self) -> list[str]:
        with self.database() as database:
            return [one.name for one in get_sensors(database)]

    def add(self, *sensors: str) -> None:
        with self.database() as database:
            for one in sensors:
                add_sensor(database, one)

    def run(self, statement: str) -> None:
        with psycopg.connect(self.server.url(OWNER), autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture
def copied(postgres: Postgres, tmp_path: Path) -> Copied:
    return Copied(postgres, tmp_path / "hub")


@pytest.fixture
def copy(copied: Copied, tmp_path: Path) -> Iterator[Path]:
    """A copy with the sensor oak-1, of a hub that has nothing now."""
    copied.add("oak-1")
    file = tmp_path / "hub.dump"
    size = back_up(copied.hub, file)
    assert (file.stat().st_size, file.stat().st_mode & 0o777) == (size, 0o600)
    copied.run("DELETE FROM sensor")
    yield file
    assert list(copied.home.run.iterdir()) == []


def refusal(copied: Copied, file: Path, *, replace: bool = False) -> str:
    before = copied.sensors()
    with pytest.raises(AcoupiError) as raised:
        restore(copied.hub, file, replace=replace)
    assert len(raised.value.lines()) == 3
    assert copied.sensors() == before
    return " ".join(raised.value.lines())


def test_what_was_copied_is_put_back_while_what_writes_is_stopped(
    copied: Copied, copy: Path
) -> None:
    (copied.home.secrets / "worker-demo.env").write_text("ACOUPI_HUB_WORKER_TOKEN=old\n")

    restore(copied.hub, copy)

    assert copied.sensors() == ["oak-1"]
    assert copied.engine.asked[0] == "stop"
    assert copied.engine.asked[-1] == "up"
    variables = read_env(copied.home.secrets / "worker-demo.env")
    assert variables == {"ACOUPI_HUB_WORKER_TOKEN": "the-token"}
    copied.add("oak-2")  # its counters go on
    with copied.database() as database:
        assert [one.name for one in get_workers(database)] == ["worker-demo"]


def test_a_copy_of_a_copy_is_one(copied: Copied, copy: Path, tmp_path: Path) -> None:
    restore(copied.hub, copy)
    back_up(copied.hub, tmp_path / "second.dump")
    copied.add("oak-2")

    restore(copied.hub, tmp_path / "second.dump", replace=True)

    assert copied.sensors() == ["oak-1"]


def test_a_hub_that_only_heard_of_strangers_has_nothing(copied: Copied, copy: Path) -> None:
    with copied.database() as database:
        put_publications(database, [Publication("acoupi/elm-9/x", b"{}", {}, False, 0)])

    restore(copied.hub, copy)

    assert copied.sensors() == ["oak-1"]


def test_what_the_hub_has_is_replaced_only_where_that_is_said(copied: Copied, copy: Path) -> None:
    copied.add("elm-9")
    said = refusal(copied, copy)
    assert "rows in sensor" in said
    assert "--replace" in said
    assert copied.engine.asked == []

    restore(copied.hub, copy, replace=True)

    assert copied.sensors() == ["oak-1"]


def test_a_file_that_is_cut_off_damaged_or_none_changes_nothing(
    copied: Copied, copy: Path, tmp_path: Path
) -> None:
    whole = copy.read_bytes()
    cut, other = tmp_path / "cut.dump", tmp_path / "other.dump"
    cut.write_bytes(whole[: len(whole) - 40])
    other.write_text("a letter\n")

    assert "not a complete copy" in refusal(copied, cut)
    assert "not a complete copy" in refusal(copied, other)
    assert "copy" in refusal(copied, tmp_path / "none.dump")
    assert copied.engine.asked == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("INSERT INTO acoupi_hub VALUES (99)", "version 99"),
        ("DELETE FROM acoupi_hub", "something else"),
        ("DROP TABLE acoupi_hub", "something else"),
    ],
)
def test_the_copy_of_another_version_or_of_no_hub_changes_nothing(
    copied: Copied, tmp_path: Path, change: str, said: str
) -> None:
    copied.run(change)
    back_up(copied.hub, tmp_path / "other.dump")
    copied.run("DROP OWNED BY acoupi")

    assert said in refusal(copied, tmp_path / "other.dump")
    assert copied.engine.asked == []


def test_what_fails_half_way_leaves_what_there_was_and_the_hub_running(
    copied: Copied, copy: Path
) -> None:
    copied.add("elm-9")
    copied.run("CREATE SCHEMA of_another CREATE TABLE sensor_note (sensor bigint)")
    copied.run("ALTER TABLE of_another.sensor_note ADD FOREIGN KEY (sensor) REFERENCES sensor")

    said = refusal(copied, copy, replace=True)

    assert "the data of the hub are unchanged" in said
    assert re.search(r"sensor_note|of_another", said)
    assert copied.engine.asked[:2] == ["stop", "up"]


def test_a_hub_that_does_not_run_or_has_its_database_elsewhere_is_told_apart(
    copied: Copied, copy: Path
) -> None:
    copied.engine.down = {"database"}
    assert "acoupi hub up" in refusal(copied, copy)

    url = {"database": "postgresql://me@db.example.org/hub"}
    set_up_hub(copied.home, {}, own_servers=url)
    copied.hub = RunningHub(copied.home, copied.engine)
    assert "pg_restore" in refusal(copied, copy)
