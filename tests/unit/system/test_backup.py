"""A sensor in one file, and back: whole, or nothing."""

import gzip
import io
import json
import sqlite3
import tarfile
import threading
from pathlib import Path

import pytest

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.backup import CONTENTS
from acoupi.backup.making import make_backup
from acoupi.backup.restoring import needs_secrets, read_backup, restore
from acoupi.bundles.engine import OVERRIDE_FILE
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.errors import AcoupiError
from acoupi.provisioned import CACHE
from acoupi.services.alarm_file import alarms_file
from acoupi.stack.web import keys_file
from acoupi.system import Settings, setup_program, start_deployment
from acoupi.system.config_history import history_file, read_history, request_of
from acoupi.system.home_files import configured_path
from acoupi.system.lifecycle import set_up
from acoupi.system.sensor import Sensor
from tests.superuser import rights_hold

TOKEN = "tok-of-the-server"
OPTIONS = ["--recording.duration", "2", "--messaging.http.base_url", "https://a.org"]


@pytest.fixture
def sensor(home: Path) -> Settings:
    """A sensor with a deployment, a recording, a message and a secret."""
    settings = Settings(home=home)
    setup_program(settings, "connected", [*OPTIONS, "--messaging.http.token", TOKEN])
    deployment = start_deployment(settings, "Oak")
    store = SqliteStore(home / "data" / "metadata.db")
    store.store_deployment(deployment)
    store.store_recording(recording(deployment))
    store.close()
    messages = SqliteMessageStore(home / "data" / "messages.db")
    messages.store_message(data.Message(content="{}"))
    messages.close()
    return settings


def recording(deployment: data.Deployment) -> data.Recording:
    return data.Recording(
        deployment=deployment, created_on=data.utc_now(), duration=1, samplerate=8000
    )


def password() -> str:
    return "horseshoe"


def test_what_comes_back_is_what_was_there(sensor: Settings, tmp_path: Path) -> None:
    (sensor.home / OVERRIDE_FILE).write_text("services: {}\n")
    made = make_backup(sensor, tmp_path, password())
    another = Settings(home=tmp_path / "another")

    restore(another, Path(made.path), password)

    there = Sensor.read(another)
    assert there.program_name == "connected"
    assert there.config.recording.duration == 2  # type: ignore[attr-defined]
    assert there.config.messaging.http.token.get_secret_value() == TOKEN  # type: ignore[attr-defined]
    assert (another.home / "app.py").exists()
    assert (another.home / OVERRIDE_FILE).read_text() == "services: {}\n"
    assert another.secrets_file.stat().st_mode & 0o077 == 0
    store = SqliteStore(another.home / "data" / "metadata.db")
    assert store.get_current_deployment().name == "Oak"
    assert sum(store.count_recordings().values()) == 1
    store.close()
    messages = SqliteMessageStore(another.home / "data" / "messages.db")
    assert len(messages.get_unsent_messages()) == 1
    messages.close()
    assert str(sensor.home) not in another.program_config_file.read_text()
    assert another.device_file.read_text() == sensor.device_file.read_text()
    assert [one.by for one in read_history(another)] == ["acoupi setup"]


def test_undoing_a_change_after_a_restore_does_not_lead_to_the_stores_of_the_old_home(
    sensor: Settings, tmp_path: Path
) -> None:
    setup_program(sensor, "connected", ["--recording.duration", "4"])
    with history_file(sensor).open("ab") as history:
        history.write(b'\xff{"damaged\n')
    made = make_backup(sensor, tmp_path)
    another = Settings(home=tmp_path / "another")
    restore(another, Path(made.path))
    (another.home / "config" / "secrets.env").write_bytes(sensor.secrets_file.read_bytes())

    _, request = request_of(another)
    set_up(another, request)

    assert Sensor.read(another).config.recording.duration == 2  # type: ignore[attr-defined]
    assert configured_path(another, "paths.db_metadata") == another.home / "data" / "metadata.db"
    assert str(sensor.home) not in another.program_config_file.read_text()


def test_alarms_come_back_with_the_times_that_they_cast_doubt_on(
    sensor: Settings, tmp_path: Path
) -> None:
    since = data.utc_now()
    alarms = SqliteAlarmStore(alarms_file(sensor))
    alarms.put_look([Alarm("microphone_deaf", since, "no sound")], {})
    alarms.close()
    another = Settings(home=tmp_path / "another")

    restore(another, Path(make_backup(sensor, tmp_path).path))

    found = SqliteAlarmStore(alarms_file(another))
    assert [one.since for one in found.get_alarms()] == [since]
    found.close()


def test_the_databases_belong_to_who_runs_the_services(sensor: Settings, tmp_path: Path) -> None:
    another = Settings(home=tmp_path / "another")
    made = make_backup(sensor, tmp_path, password())

    restore(another, Path(made.path), password, target="compose")

    data_folder = another.home / "data"
    owner = data_folder.stat().st_uid
    assert owner != 0
    assert {one.stat().st_uid for one in data_folder.glob("*.db")} == {owner}


def test_without_a_password_no_secret_is_in_it(sensor: Settings, tmp_path: Path) -> None:
    config = sensor.program_config_file.parent
    hidden = [config / "env", config / CACHE, keys_file(sensor), sensor.home / OVERRIDE_FILE]
    for file in hidden:
        file.write_text(f"# {TOKEN}")
    made = make_backup(sensor, tmp_path)
    assert TOKEN.encode() not in gzip.decompress(Path(made.path).read_bytes())
    assert not {file.name for file in hidden} & {Path(one).name for one in made.contents.members}

    another = Settings(home=tmp_path / "another")
    restore(another, Path(made.path), password)
    assert needs_secrets(another)
    setup_program(another, "connected", ["--messaging.http.token", "new"])
    assert Sensor.read(another).config.recording.duration == 2  # type: ignore[attr-defined]


def test_a_backup_of_a_store_that_is_written_to_is_one_moment_of_it(
    sensor: Settings, tmp_path: Path
) -> None:
    store = SqliteStore(sensor.home / "data" / "metadata.db")
    deployment, ends, written = store.get_current_deployment(), threading.Event(), []

    def write() -> None:
        while not ends.is_set():
            store.store_recording(recording(deployment))
            written.append(1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        before = len(written)
        made = make_backup(sensor, tmp_path / "made.tar.gz")
        after = len(written)
    finally:
        ends.set()
        thread.join()
        store.close()
    restore(Settings(home=tmp_path / "another"), Path(made.path))
    copy = SqliteStore(tmp_path / "another" / "data" / "metadata.db")
    assert before <= sum(copy.count_recordings().values()) - 1 <= after + 1
    copy.close()


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def cut_at_its_last_bytes(path: Path) -> None:
    """All members are whole; what is missing is the checksum of the file itself."""
    path.write_bytes(path.read_bytes()[:-4])


def longer(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"more")


def changed_contents(path: Path) -> None:
    """The digests are right, and are themselves in what was changed."""
    content = gzip.decompress(path.read_bytes())
    assert content.count(b'"program": "connected"') == 1
    checksum = path.read_bytes()[-8:]
    other = gzip.compress(content.replace(b'"program": "connected"', b'"program": "cannected"'))
    path.write_bytes(other[:-8] + checksum)


def saying_nothing(path: Path) -> None:
    rewrite(path, {CONTENTS: b"[]"})


def changed(path: Path) -> None:
    """The same archive with another database in it, digests as they were."""
    rewrite(path, {"stores/metadata.db": b"SQLite format 3"})


def not_one(path: Path) -> None:
    path.write_text("no backup")


def outside(path: Path) -> None:
    rewrite(path, {"../outside": b"x"})


def unnamed(path: Path) -> None:
    rewrite(path, {"config/more.json": b"{}"})


def rewrite(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path) as archive:
        found = {
            one.name: file.read()
            for one in archive
            if (file := archive.extractfile(one)) is not None
        }
    with tarfile.open(path, "w:gz") as archive:
        for name, content in {**found, **members}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


DAMAGES = [
    cut_short,
    cut_at_its_last_bytes,
    longer,
    changed,
    changed_contents,
    saying_nothing,
    not_one,
    outside,
    unnamed,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_not_whole_changes_nothing(
    sensor: Settings, tmp_path: Path, damage: object
) -> None:
    path = Path(make_backup(sensor, tmp_path, password()).path)
    damage(path)  # type: ignore[operator]
    another = tmp_path / "another"

    for attempt in (
        lambda: restore(Settings(home=another), path, password),
        lambda: read_backup(path),
    ):
        with pytest.raises(AcoupiError, match="not a complete backup"):
            attempt()
    assert not another.exists()
    assert not (tmp_path / "outside").exists()


def test_a_wrong_password_changes_nothing(sensor: Settings, tmp_path: Path) -> None:
    path = Path(make_backup(sensor, tmp_path, password()).path)
    with pytest.raises(AcoupiError, match="password"):
        restore(Settings(home=tmp_path / "another"), path, lambda: "greater")
    assert not (tmp_path / "another").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 99, "acoupi": "9.1"}, "install acoupi 9.1"),
        ({"schemas": {"stores/metadata.db": 9999}, "acoupi": "9.1"}, "install acoupi 9.1"),
        ({"program": "no_such_program"}, "no_such_program"),
    ],
)
def test_what_this_acoupi_cannot_run_is_refused_by_name(
    sensor: Settings, tmp_path: Path, change: dict[str, object], said: str
) -> None:
    path = Path(make_backup(sensor, tmp_path).path)
    with tarfile.open(path) as archive:
        contents = json.load(archive.extractfile(CONTENTS))  # type: ignore[arg-type]
    rewrite(path, {CONTENTS: json.dumps(contents | change).encode()})

    with pytest.raises(AcoupiError) as caught:
        restore(Settings(home=tmp_path / "another"), path)

    assert said in f"{caught.value.message} {caught.value.help} {caught.value.why}"
    assert not (tmp_path / "another").exists()


def test_nothing_is_written_over(sensor: Settings, tmp_path: Path) -> None:
    path = Path(make_backup(sensor, tmp_path / "made.tar.gz").path)
    with pytest.raises(AcoupiError, match="already exists"):
        make_backup(sensor, path)
    with pytest.raises(AcoupiError, match="there is a sensor") as caught:
        restore(sensor, path)
    assert "mv " in str(caught.value.help)


def test_a_damaged_store_is_named_and_no_file_is_left(sensor: Settings, tmp_path: Path) -> None:
    store = sensor.home / "data" / "metadata.db"
    content = bytearray(store.read_bytes())
    content[4096 : 4096 * 8] = b"x" * (4096 * 7)
    store.write_bytes(content)
    folder = tmp_path / "stick"
    folder.mkdir()

    with pytest.raises(AcoupiError, match=r"metadata\.db"):
        make_backup(sensor, folder)

    assert list(folder.iterdir()) == []


def test_a_folder_that_may_not_be_written_is_named(sensor: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir(mode=0o500)
    with rights_hold(), pytest.raises(AcoupiError, match="stick"):
        make_backup(sensor, folder)


def test_the_copy_is_a_database_that_needs_no_other_file(sensor: Settings, tmp_path: Path) -> None:
    made = make_backup(sensor, tmp_path)
    with tarfile.open(made.path) as archive:
        archive.extract("stores/metadata.db", tmp_path, filter="data")
    uri = f"file:{tmp_path / 'stores' / 'metadata.db'}?immutable=1"
    connection = sqlite3.connect(uri, uri=True)
    assert connection.execute("SELECT count(*) FROM v_recording").fetchone() == (1,)
    connection.close()
