"""What is left to do when the services stop, and what keeps messages waiting."""

import datetime
import os
import types
from pathlib import Path

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.errors import AcoupiError
from acoupi.services.folder import broker_folder
from acoupi.services.status import check_broker
from acoupi.system import Settings, get_status, setup_program
from acoupi.system.backlog import left_over, waiting_messages
from tests.superuser import rights_hold

SERVER = ["--messaging.http.base_url", "http://127.0.0.1:9/in"]


@pytest.fixture
def sensor(settings: Settings) -> Settings:
    setup_program(settings, "connected", SERVER)
    (settings.home / "data").mkdir(exist_ok=True)
    return settings


def test_a_new_sensor_has_nothing_left_to_do(sensor: Settings) -> None:
    assert left_over(sensor) == []
    assert get_status(sensor).messages == []


def test_what_waits_is_told_by_kind(sensor: Settings) -> None:
    deployment = data.Deployment(name="Oak")
    store = SqliteStore(sensor.home / "data" / "metadata.db")
    store.store_deployment(deployment)
    for number in range(2):
        path = sensor.home / f"{number}.wav"
        store.store_recording(
            data.Recording(path=path, duration=3, samplerate=48_000, deployment=deployment)
        )
    store.close()
    messages = SqliteMessageStore(sensor.home / "data" / "messages.db")
    for text in "abc":
        messages.store_message(data.Message(content=text))
    [first] = messages.claim_messages("http", limit=1)
    busy = data.Response(
        status=data.ResponseStatus.FAILED, message=first, content="429", retry_after=600
    )
    messages.settle_message("http", busy)
    messages.close()

    told = left_over(sensor)
    [waiting] = get_status(sensor).messages

    assert told == [
        "2 recordings wait to be processed by the next start.",
        "3 messages wait to be sent to http after the next start.",
    ]
    assert waiting.waiting == 3
    assert waiting.paused_until is not None
    assert waiting.paused_until - data.utc_now() > datetime.timedelta(minutes=5)
    assert "as the server asked" in waiting.words()


@pytest.mark.parametrize("damage", [b"\0" * 100, b"x" * 5000])
def test_a_damaged_database_says_nothing_here(sensor: Settings, damage: bytes) -> None:
    (sensor.home / "data" / "messages.db").write_bytes(damage)

    assert waiting_messages(sensor) == []
    assert "messages.db" in (get_status(sensor).program.message or "")


def test_a_broker_on_a_read_only_disk_is_told_as_such(
    sensor: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = broker_folder(sensor.run_dir)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o555)
    real = os.statvfs

    def read_only(path: Path) -> object:
        return types.SimpleNamespace(f_flag=real(path).f_flag | os.ST_RDONLY)

    with rights_hold(), pytest.raises(AcoupiError) as refused:
        check_broker(sensor)
    assert "permission denied" in (refused.value.why or "")

    monkeypatch.setattr(os, "statvfs", read_only)
    with rights_hold(), pytest.raises(AcoupiError) as told:
        check_broker(sensor)
    assert "read-only file system" in (told.value.why or "")
    assert "findmnt" in (told.value.help or "")
    assert str(folder) in told.value.message


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("recording.duration", "1e9"),
        ("recording.interval", "1e9"),
        ("recording.chunksize", "99999999999"),
        ("messaging.heartbeat_interval", "1e300"),
        ("messaging.message_send_interval", "1e300"),
        ("messaging.mqtt.host", "mqtt://localhost"),
        ("messaging.mqtt.host", "a..b"),
        ("messaging.mqtt.host", f"{'a' * 64}.example.org"),
    ],
)
@pytest.mark.parametrize("program", ["connected", "acoupi.programs.demo"])
def test_a_setting_that_cannot_be_is_refused_by_its_name(
    settings: Settings, program: str, option: str, value: str
) -> None:
    with pytest.raises(AcoupiError) as refused:
        setup_program(settings, program, [f"--{option}", value])

    assert option in refused.value.message
    assert not settings.program_config_file.exists()
