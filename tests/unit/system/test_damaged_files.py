"""Every file of a home with every kind of damage: what the table in the docs says, happens."""

import json
import os
import random
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import acoupi
from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.cli.deployment import is_well
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.errors import AcoupiError
from acoupi.provisioned import CACHE, FROM_HUB, MARKER, Fetched, FromHub, Provisioned
from acoupi.provisioning.fetching import cache_file
from acoupi.services.declared_deployments import CALLED
from acoupi.system import Settings, get_status, setup_program, start_deployment
from acoupi.system.home_files import check_files
from acoupi.system.sensor import Sensor
from tests.superuser import rights_hold

PAGE = Path(acoupi.__path__[0]) / "docs" / "damaged-files.md"
OPTIONS = ["--messaging.mqtt.host", "localhost", "--messaging.mqtt.username", "bat"]
OPTIONS += ["--messaging.mqtt.password", "pa55word"]
SENSOR = ["--sensor.recorder.microphone_patience", "600"]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def zeros(path: Path) -> None:
    path.write_bytes(b"\0" * path.stat().st_size)


def noise(path: Path) -> None:
    path.write_bytes(random.Random(1).randbytes(path.stat().st_size))


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable(path: Path) -> None:
    path.chmod(0)


def read_only(path: Path) -> None:
    path.chmod(0o444)


def another_owner(path: Path) -> None:
    if os.getuid():  # who cannot give it away: what others may do with it
        path.chmod(0o444 if path.stat().st_mode & 0o004 else 0)
    else:
        os.chown(path, 65534, 65534)


def another_version(path: Path) -> None:
    if path.suffix == ".db":
        with sqlite3.connect(path) as connection:
            connection.execute("PRAGMA user_version = 999")
        connection.close()
    elif path.suffix == ".json":
        content = json.loads(path.read_text())
        if isinstance(content, list):
            content = [{**one, "later": 1} for one in content]
        else:
            content |= {"version": 999} if "version" in content else {"later": 1}
        path.write_text(json.dumps(content))
    else:
        path.write_text(f"{path.read_text()}\n")


DAMAGES: dict[str, Callable[[Path], None]] = {
    "absent": Path.unlink,
    "empty": empty,
    "cut short": cut_short,
    "zeros": zeros,
    "noise": noise,
    "a folder": folder,
    "unreadable": unreadable,
    "read-only": read_only,
    "another owner": another_owner,
    "another version": another_version,
}


def table() -> Iterator[tuple[str, str, str]]:
    """Yield file, damage and what is right, from the documentation."""
    rows = [
        line.strip("| ").split("|")
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ")
    ]
    names, *cells = [[cell.strip(" `") for cell in row] for row in rows]
    assert names[1:] == list(DAMAGES)
    for file, *words in cells:
        yield from ((file, damage, word) for damage, word in zip(names[1:], words, strict=True))


@pytest.fixture
def sensor_home(settings: Settings) -> Settings:
    """A home in which all files are there."""
    setup_program(settings, "connected", [*OPTIONS, *SENSOR])
    deployment = start_deployment(settings, "Oak")
    store = SqliteStore(settings.home / "data" / "metadata.db")
    store.store_deployment(deployment)
    store.close()
    messages = SqliteMessageStore(settings.home / "data" / "messages.db")
    messages.store_message(data.Message(content="{}"))
    alarms = SqliteAlarmStore(settings.home / "data" / "alarms.db")
    alarms.put_look([Alarm("microphone_deaf", deployment.started_on)], {})
    alarms.close()
    messages.close()
    config = settings.program_config_file.parent
    (config / MARKER).write_text(Provisioned(deployments=[deployment]).model_dump_json())
    (config / FROM_HUB).write_text(FromHub(target="process").model_dump_json())
    fetched = Fetched("recording: {}", ".yaml")
    (config / CACHE).write_text(cache_file("http://localhost", fetched).text)
    (settings.home / CALLED).write_text(json.dumps({str(deployment.id): ["start"]}))
    return settings


@rights_hold()
def read_everything(settings: Settings) -> None:
    check_files(settings)
    sensor = Sensor.read(settings)
    assert sensor.program_class.__name__
    assert sensor.config
    assert sensor.own_config


def test_the_table_names_every_file_of_a_home(sensor_home: Settings) -> None:
    home = sensor_home.home
    found = [*home.glob("config/*"), *home.glob("data/*"), *home.glob(".*")]
    kept = {path.relative_to(home).as_posix() for path in found}

    # Locks are never read; "env" belongs to the user and is empty.
    unread = {name for name in kept if name.endswith((".lock", "-wal", "-shm"))} | {"config/env"}
    assert kept - unread == {file for file, _, _ in table()}
    read_everything(sensor_home)


@pytest.mark.parametrize("file", list(dict.fromkeys(file for file, _, _ in table())))
def test_what_the_table_says_happens(sensor_home: Settings, file: str) -> None:
    path = sensor_home.home / file
    sound, mode = path.read_bytes(), path.stat().st_mode
    for _, damage, right in (row for row in table() if row[0] == file):
        DAMAGES[damage](path)
        try:
            if right == "refused":
                check_refused(sensor_home, path, damage)
            else:
                read_everything(sensor_home)
        except Exception as error:
            error.add_note(f"{file}: {damage}")
            raise
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        path.write_bytes(sound)
        path.chmod(mode)


def check_refused(home: Settings, path: Path, damage: str) -> None:
    there = path.read_bytes() if path.is_file() else None
    with pytest.raises(AcoupiError) as found:
        read_everything(home)
    said = f"{found.value.message} {found.value.why} {found.value.help}"
    cut_name = there.decode().strip() if path.name == "name" and damage == "cut short" else None
    assert path.name in said or (cut_name and cut_name in said)
    assert (path.read_bytes() if path.is_file() else None) == there
    try:
        with rights_hold():
            status = get_status(home)
    except AcoupiError:
        return
    assert not is_well(status)
    assert re.search(re.escape(cut_name or path.name), status.program.message or "")


@pytest.mark.parametrize("damage", ["empty", "zeros", "noise", "cut short"])
def test_a_setup_takes_no_damaged_answers_for_defaults(sensor_home: Settings, damage: str) -> None:
    path = sensor_home.program_config_file
    DAMAGES[damage](path)
    there = path.read_bytes()

    with pytest.raises(AcoupiError, match=r"program\.json"):
        setup_program(sensor_home, "connected")

    assert path.read_bytes() == there


@pytest.mark.parametrize("damage", ["absent", "empty", "zeros", "noise", "another version"])
def test_a_setup_drops_no_secret_in_silence(sensor_home: Settings, damage: str) -> None:
    DAMAGES[damage](sensor_home.secrets_file)
    if damage == "another version":
        sensor_home.secrets_file.write_text("ANOTHER=b\n")
    before = sensor_home.program_config_file.read_bytes()

    with pytest.raises(AcoupiError, match=r"password|secrets\.env"):
        setup_program(sensor_home, "connected", ["--recording.interval", "30"])

    assert sensor_home.program_config_file.read_bytes() == before
    if damage != "noise":
        setup_program(sensor_home, "connected", ["--messaging.mqtt.password", "new"])
        assert "new" in sensor_home.secrets_file.read_text()
