"""The sensor as its page sees it: read, changed, and asked through its door."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints
from uuid import uuid4

import pytest
from typer.testing import CliRunner

from acoupi.cli.app import app as command_line
from acoupi.components.stores import SqliteStore
from acoupi.config.page_keys import Keys, write_keys
from acoupi.data import RecordingState
from acoupi.deployed import stands_by_here
from acoupi.door.caller import owner_key
from acoupi.door.folders import door_folder
from acoupi.errors import (
    ConfigurationError,
    DeploymentError,
    ParameterError,
    RecordingFileError,
    StoreError,
)
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.services.applied import AppliedWatch
from acoupi.services.page_door import PageDoor
from acoupi.stack.doors import WEB
from acoupi.stack.web import keys_file
from acoupi.system import Settings, setup_program
from acoupi.system.config_history import read_history
from acoupi.system.page import PageSensor
from acoupi.web import door_sensor
from acoupi.web import sensor as words
from acoupi.web.door_sensor import DoorSensor
from tests.services import DEADLINE
from tests.stores import at, recording

SOUND = b"RIFF" + bytes(100_000)


@pytest.fixture
def settings(home: Path) -> Settings:
    settings = Settings(home=home)
    setup_program(settings, "default", ["--sensor.web.enabled", "true"])
    return settings


@pytest.fixture
def page(settings: Settings) -> PageSensor:
    return PageSensor(settings)


@pytest.fixture
def store(settings: Settings) -> SqliteStore:
    return SqliteStore(settings.home / "data" / "metadata.db")


def saved(settings: Settings) -> dict[str, object]:
    found: dict[str, object] = json.loads(settings.program_config_file.read_text())
    return found


def watch(settings: Settings) -> AppliedWatch:
    return AppliedWatch(settings.program_config_file.parent)


# What is


def test_a_sensor_that_has_heard_nothing_says_so(page: PageSensor) -> None:
    assert page.now().keys() == get_type_hints(words.Now).keys()
    assert page.health() == {"levels": [], "alarms": [], "dead_letters": [], "errors": []}
    assert list(page.reader.detections(Filters())) == []
    with pytest.raises(ConfigurationError, match="nothing has been recorded"):
        page.effort(None, None, None)


def test_the_last_trouble_of_each_log_is_shown(page: PageSensor, settings: Settings) -> None:
    line = "2024-06-01T20:00:00.000Z ERROR acoupi: the disk is full"
    content = [line, "2024-06-01T20:00:01.000Z INFO acoupi: all is well"]
    (settings.log_dir / "recording.log").write_text("\n".join(content))

    [found] = page.health()["errors"]

    assert found["service"] == "recording"
    assert f"{found['time']} {found['line']}" == line


def test_every_setting_is_shown_with_its_schema_and_no_secret(page: PageSensor) -> None:
    rows = {one["name"]: one for one in page.settings()}

    assert rows["recording.duration"]["schema"]["type"] == "number"
    assert rows["sensor.web.enabled"]["value"] is True
    assert rows["sensor.web.live_audio"]["schema"]["enum"] == ["nobody", "members", "everybody"]
    assert rows["sensor.alarms.dead_mans_url"]["value"] is None
    assert all(one.keys() == get_type_hints(words.Setting).keys() for one in rows.values())
    assert "$ref" not in json.dumps(list(rows.values()))


# Settings


def test_a_change_is_planned_applied_and_noticed(page: PageSensor, settings: Settings) -> None:
    noticed = watch(settings)

    plan = page.plan_settings({"recording.interval": "20"})
    assert plan["changes"] == [{"name": "recording.interval", "old": 10.0, "new": 20.0}]
    assert plan["host_command"] is None
    assert "recording" in plan["restarts"]
    assert noticed.changed() is None

    assert page.apply_settings({"recording.interval": "20"}, "owner")["state"] == "applied"
    assert saved(settings)["recording"]["interval"] == 20  # type: ignore[index]
    assert "20" in settings.schedule_file.read_text()
    assert "changed on the web page" in str(noticed.changed())
    assert watch(settings).changed() is None, "a service that starts has it already"
    assert read_history(settings)[-1].by == "the page (owner)"


def test_what_was_applied_is_not_taken_for_edited_by_hand(
    page: PageSensor, settings: Settings
) -> None:
    page.apply_settings({"recording.interval": 20}, "owner")

    setup_program(settings, "default", ["--recording.interval", "30"])

    assert saved(settings)["recording"]["interval"] == 30  # type: ignore[index]
    settings.schedule_file.write_text(settings.schedule_file.read_text() + " ")
    with pytest.raises(ConfigurationError, match="edited by hand"):
        setup_program(settings, "default", ["--recording.interval", "40"])


def test_settings_that_are_only_valid_together_are_changed_together(page: PageSensor) -> None:
    changes = {"recording.duration": 30, "recording.interval": 40}

    plan = page.plan_settings(changes)

    assert plan["problems"] == []
    assert {one["name"]: one["new"] for one in plan["changes"]} == changes


def test_what_changes_rendered_files_waits_for_the_host(
    page: PageSensor, settings: Settings, tmp_path: Path
) -> None:
    noticed, before = watch(settings), settings.program_config_file.read_text()
    changes = {"paths.recordings": str(tmp_path / "elsewhere")}

    found = page.apply_settings(changes, "owner")

    assert found["state"] == "pending"
    assert found["host_command"] == "acoupi web apply"
    assert settings.program_config_file.read_text() == before
    assert noticed.changed() is None
    assert page.now()["status"]["pending"]["changes"] == changes

    done = CliRunner().invoke(command_line, ["web", "apply"])
    assert done.exit_code == 0, done.output
    assert saved(settings)["paths"]["recordings"] == changes["paths.recordings"]  # type: ignore[index]
    assert page.now()["status"]["pending"] is None


def test_another_server_waits_for_the_host_because_secrets_would_be_sent_to_it(
    home: Path,
) -> None:
    settings = Settings(home=home)
    url = "--messaging.http.base_url"
    setup_program(
        settings, "connected", [url, "https://ours.org/in", "--messaging.http.token", "t"]
    )
    page = PageSensor(settings)

    plan = page.plan_settings({"messaging.http.base_url": "https://elsewhere.org/in"})

    assert plan["host_command"] == "acoupi web apply"
    assert page.plan_settings({"messaging.message_send_interval": 20})["host_command"] is None


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"recording.duration": -1}, "greater than 0"),
        ({"recording.duration": "long"}, "a number"),
        ({"recording.nonsense": 1}, "nonsense"),
        ({"recording.duration": {"a": 1}}, "number"),
        ({"sensor.alarms.dead_mans_url": "https://x.org/1"}, "secret"),
        ({"sensor.alarms": {"dead_mans_url": "https://x.org/1"}}, "several settings"),
        ({"": {"recording": {"duration": 1}}}, "several settings"),
    ],
)
def test_a_setting_that_cannot_be_so_changes_nothing(
    page: PageSensor, settings: Settings, changes: dict[str, object], why: str
) -> None:
    before = settings.program_config_file.read_text()

    plan = page.plan_settings(changes)

    assert why in json.dumps(plan["problems"])
    with pytest.raises(ConfigurationError):
        page.apply_settings(changes, "owner")
    assert settings.program_config_file.read_text() == before


# Deployments


def test_a_deployment_is_started_and_stopped_while_the_services_run(page: PageSensor) -> None:
    started = page.start_deployment("Oak", 51.5, -0.1, "owner")
    with pytest.raises(DeploymentError, match="Wood"):
        page.start_deployment("Wood", None, None, "owner")
    assert not stands_by_here()

    ended = page.stop_deployment("owner")

    assert ended is not None
    assert (ended["id"], ended["ended_on"] is None) == (started["id"], False)
    assert stands_by_here(), "nothing is recorded until the next one"
    assert page.now()["status"]["stands_by"]
    shown = CliRunner().invoke(command_line, ["deployment", "status"])
    assert "nothing is recorded until: acoupi start" in shown.output
    assert page.stop_deployment("owner") is None
    page.start_deployment("Wood", None, None, "owner")
    assert not stands_by_here()


def test_a_deployment_that_cannot_be_is_refused(page: PageSensor) -> None:
    with pytest.raises(DeploymentError, match="without a name"):
        page.start_deployment(" ", None, None, "owner")
    with pytest.raises(DeploymentError):
        page.start_deployment("Oak", 95, 0, "owner")


def test_a_home_from_variables_has_its_deployments_from_them(
    page: PageSensor, settings: Settings
) -> None:
    (settings.home / "config" / "provisioned.json").write_text("{}")

    for change in (
        lambda: page.start_deployment("Oak", None, None, "owner"),
        lambda: page.stop_deployment("owner"),
    ):
        with pytest.raises(ConfigurationError, match="this deployment"):
            change()


# Sound


def test_a_file_is_read_by_the_id_of_its_recording(
    page: PageSensor, settings: Settings, store: SqliteStore
) -> None:
    path = settings.home / "data" / "recordings" / "a.wav"
    path.parent.mkdir(parents=True)
    path.write_bytes(SOUND)
    sound = recording(path=path)
    store.store_recording(sound)

    found = page.find_file(sound.id)

    assert (found.name, found.size, found.media_type) == ("a.wav", len(SOUND), "audio/wav")
    assert page.read_file(sound.id, 2, 10) == SOUND[2:12]
    assert page.read_file(sound.id, len(SOUND) - 3, 10) == SOUND[-3:]
    assert page.read_file(sound.id, -5, 10**9) == SOUND
    assert page.read_file(sound.id, len(SOUND), 10) == b""


@pytest.mark.parametrize(
    ("kind", "status"),
    [("unknown", 404), ("deleted", 410), ("lost", 410), ("missing", 503), ("elsewhere", 404),
     ("secrets", 404), ("link", 503)],
)  # fmt: skip
def test_where_there_is_no_file_it_is_said_why(
    page: PageSensor, settings: Settings, store: SqliteStore, tmp_path: Path, kind: str, status: int
) -> None:
    folder = settings.home / "data" / "recordings"
    folder.mkdir(parents=True)
    outside = tmp_path / "outside.wav"
    outside.write_bytes(SOUND)
    (folder / "link.wav").symlink_to(outside)
    paths = {
        "elsewhere": outside,
        "secrets": settings.home / "data" / ".." / "config" / "program.json",
        "link": folder / "link.wav",
    }
    sound = recording(path=paths.get(kind, folder / "gone.wav"))
    if kind != "unknown":
        store.store_recording(sound)
    if kind in ("deleted", "lost"):
        store.end_recording(sound, RecordingState(kind))

    for ask in (lambda: page.find_file(sound.id), lambda: page.read_file(sound.id, 0, 10)):
        with pytest.raises(RecordingFileError) as told:
            ask()
        assert told.value.status == status
        assert told.value.why


# Through the door


@pytest.fixture
def door(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[DoorSensor]:
    monkeypatch.setattr(door_sensor, "DEADLINE", 240.0)  # a process starts for the first answer
    folder = door_folder(settings.home / "run", WEB)
    server = PageDoor(folder)
    server.start()
    assert server.listens.wait(DEADLINE)
    token = owner_key.set(None)
    yield DoorSensor(folder)
    owner_key.reset(token)
    server.close()


def test_the_page_asks_through_its_door_what_it_would_ask_the_sensor(
    door: DoorSensor,
    page: PageSensor,
    settings: Settings,
    store: SqliteStore,
) -> None:
    sound = recording(path=settings.home / "data" / "a.wav", created_on=at(0))
    sound.path.write_bytes(SOUND)  # type: ignore[union-attr]
    store.store_recording(sound)

    assert door.now().keys() == get_type_hints(words.Now).keys()
    assert door.health() == page.health()
    assert door.settings() == page.settings()
    assert door.settings_schema() == page.settings_schema()
    assert door.effort(None, None, None)["deployment"]["name"] == "Pond"
    assert [one.id for one in door.reader.recordings(Filters())] == [sound.id]
    assert door.find_file(sound.id) == page.find_file(sound.id)
    assert door.read_file(sound.id, 5, 70_000) == SOUND[5:70_005]

    keys, key = Keys.with_token()[0].with_password("the owl sleeps at noon")
    write_keys(keys_file(settings), keys)
    owner_key.set(key)
    verdict = VerdictRow(sound.id, None, Verdict.RIGHT, None, "owner", "", at(500))
    door.add_verdict(verdict)
    assert list(door.reader.verdicts(Filters())) == [verdict]
    assert door.plan_settings({"recording.interval": 30})["changes"][0]["new"] == 30
    assert door.apply_settings({"recording.interval": 30}, "owner")["state"] == "applied"
    assert door.start_deployment("Oak", None, None, "owner")["name"] == "Oak"
    assert (door.stop_deployment("owner") or {})["name"] == "Oak"

    with pytest.raises(RecordingFileError) as told:
        door.find_file(uuid4())
    assert told.value.status == 404
    with pytest.raises(ParameterError, match=r"recording\.duration"):
        door.apply_settings({"recording.duration": -1}, "owner")
    with pytest.raises(DeploymentError, match="without a name"):
        door.start_deployment("", None, None, "owner")


def test_only_with_the_key_of_the_owner_is_anything_changed(
    door: DoorSensor, settings: Settings
) -> None:
    keys, token = Keys.with_token()
    write_keys(keys_file(settings), keys)
    before = {one.name: one.read_bytes() for one in settings.schedule_file.parent.iterdir()}
    verdict = VerdictRow(uuid4(), None, Verdict.RIGHT, None, "owner", "", at(500))

    for key in (None, "", token, keys.token, keys.mark):  # what the page may know without a login
        owner_key.set(key)
        for change in (
            lambda: door.add_verdict(verdict),
            lambda: door.apply_settings({"recording.interval": 30}, "owner"),
            lambda: door.start_deployment("Oak", None, None, "owner"),
            lambda: door.stop_deployment("owner"),
            lambda: door.set_password("", ""),
        ):
            with pytest.raises(StoreError, match="only someone who is logged in"):
                change()

    after = {one.name: one.read_bytes() for one in settings.schedule_file.parent.iterdir()}
    assert after == before
    owner_key.set(keys.key_of(token))
    assert door.start_deployment("Oak", None, None, "owner")["name"] == "Oak"
    new, _ = keys.with_password("the owl sleeps at noon")
    door.set_password(new.salt, new.password)
    with pytest.raises(StoreError, match="only someone who is logged in"):
        door.stop_deployment("owner")


def test_where_nobody_answers_the_page_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "door"
    folder.mkdir()

    with pytest.raises(StoreError, match="does not answer") as told:
        DoorSensor(folder).now()

    assert told.value.help == "acoupi workers status"
