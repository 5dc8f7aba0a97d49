"""Every other command: what it prints, what it does, how it ends."""

import json
import logging
import sys
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore
from acoupi.errors import TargetError
from acoupi.testing import make_wav
from tests.cli.support import Calls, Run, Sound, data_of, lines_of, tree_of

NEEDS_A_SENSOR = [
    ["check"],
    ["check", "--json"],
    ["config", "get"],
    ["config", "set", "recording.duration", "3"],
    ["config", "schema"],
    ["deployment", "start", "--name", "x"],
    ["deployment", "stop"],
    ["deployment", "status"],
    ["deployment", "status", "--json"],
    ["task", "list"],
    ["task", "run", "x"],
    ["task", "profile", "x"],
    ["workers", "start"],
    ["workers", "stop"],
    ["workers", "restart"],
    ["workers", "status"],
    ["workers", "purge"],
    ["celery", "report"],
    ["services", "install"],
    ["services", "uninstall"],
    ["services", "enable"],
    ["services", "disable"],
    ["services", "start"],
    ["services", "stop"],
    ["services", "status"],
    ["messages", "list"],
    ["messages", "retry"],
]


@pytest.mark.parametrize("args", NEEDS_A_SENSOR, ids=" ".join)
def test_where_no_sensor_is_set_up_every_command_says_so(
    run: Run, home: Path, args: list[str]
) -> None:
    result = run(*args)

    assert "there is no sensor" in lines_of(result)[0]
    assert lines_of(result)[2] == "  Try: acoupi setup --program default"
    assert result.exit_code == 2
    assert result.stdout == ""
    assert not home.exists()


# ---- check, devices


def test_check_tries_everything_out(run: Run, sensor: Path) -> None:
    result = run("check")
    answer = data_of(run("check", "--json"))

    assert result.exit_code == 0, result.stderr
    assert answer["ok"]
    assert [one["name"] for one in answer["checks"]] == [
        "files",
        "configuration",
        "target",
        "broker",
        "program",
    ]


def test_check_says_what_services_have_in_common(run: Run, sensor: Path) -> None:
    said = run("check")
    answer = data_of(run("check", "--json"))

    assert "every service runs as one user and sees the whole home" in " ".join(said.stderr.split())
    notes = {one["name"]: one["notes"] for one in answer["checks"]}
    assert "every service runs as one user" in notes["target"][0]


def test_what_the_check_finds_noteworthy_is_shown_and_is_no_failure(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noting(program: object, config: object) -> None:
        logging.getLogger("acoupi.audio").warning("it %s be resampled", "may")

    monkeypatch.setattr("acoupi.programs.connected.Program.check", noting)

    result = run("check")
    answer = data_of(run("check", "--json"))

    assert result.exit_code == 0
    assert result.stderr.count("Note: it may be resampled") == 1
    notes = {one["name"]: one["notes"] for one in answer["checks"]}
    assert notes["program"] == ["it may be resampled"]
    assert answer["ok"]


def test_check_shows_what_running_services_report(run: Run, sensor: Path, target: Calls) -> None:
    target.last_error = "send_messages_task: two sensors have one id"

    result = run("check")

    assert result.exit_code == 0
    assert "Note: default reports: send_messages_task: two sensors have one id" in result.stderr


def test_stop_says_what_is_left_to_do(run: Run, sensor: Path) -> None:
    run("deployment", "start", "--name", "Oak", "--no-check")
    (sensor / "data").mkdir(exist_ok=True)
    store = SqliteMessageStore(sensor / "data" / "messages.db")
    store.store_message(data.Message(content="{}"))
    store.claim_messages("http")
    store.close()

    result = run("deployment", "stop")

    assert result.exit_code == 0, result.stderr
    assert "1 message waits to be sent to http after the next start." in result.stdout


def test_check_has_the_microphone_that_setup_gave_to_the_services(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_SIMULATED_AUDIO")  # another day, another shell

    assert run("check").exit_code == 0


def test_a_check_that_fails_ends_with_3(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", str(tmp_path / "nothing.wav"))

    result = run("check")
    as_json = run("check", "--json")

    assert result.exit_code == 3
    assert "nothing.wav" in "".join(lines_of(result))
    assert as_json.exit_code == 3
    assert data_of(as_json)["ok"] is False


BROKEN_CHECK = """
from acoupi.programs import connected

class Program(connected.Program):
    def check(self, config):
        raise RuntimeError("a fault of the program")
"""


def test_a_check_that_breaks_down_is_not_well_in_json_either(
    run: Run, sensor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_check.py").write_text(BROKEN_CHECK)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert run("setup", "--program", "broken_check").exit_code == 0

    result = run("check", "--json")

    answer = data_of(result)
    assert result.exit_code == 1
    assert answer["ok"] is False
    assert [one["ok"] for one in answer["checks"]] == [True, True, True, True, False]


def test_a_file_that_is_no_wav_is_named_by_the_check(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wav = tmp_path / "song.wav"
    wav.write_bytes(b"ID3 this is an MP3")
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", str(wav))

    result = run("check")

    assert "song.wav" in "".join(lines_of(result))
    assert result.exit_code in (2, 3)


def test_a_rate_that_is_not_offered_is_named_by_the_check(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wav = make_wav(tmp_path / "a.wav", samplerate=16_000)
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", str(wav))

    result = run("check")

    text = "".join(lines_of(result))
    assert "48000" in text
    assert "16000" in text
    assert result.exit_code == 3


def test_a_broker_that_is_down_is_named_by_the_check(run: Run, sensor: Path) -> None:
    run("setup", "--broker", "redis://:hunter2@127.0.0.1:1/0")

    result = run("check")

    text = "".join(lines_of(result))
    assert "127.0.0.1:1" in text
    assert "hunter2" not in text
    assert result.exit_code == 3


def test_devices_are_listed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Sound("UltraMic: USB Audio (hw:7,0)"))

    result = run("devices")

    assert "384000" in result.stdout
    assert 'microphone.device_name "UltraMic"' in result.stdout
    [row] = data_of(run("devices", "--json"))
    assert (row["number"], row["name"], row["samplerates"]) == (1, "UltraMic", [384000])
    assert row["is_default"]


def test_no_device_is_not_an_error(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Sound())

    result = run("devices")

    assert result.exit_code == 0
    assert "ACOUPI_SIMULATED_AUDIO" in result.stdout
    assert data_of(run("devices", "--json")) == []


def test_without_a_microphone_nothing_is_offered_that_is_set_already(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Sound())
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic")

    assert "Sound is simulated: ACOUPI_SIMULATED_AUDIO=synthetic" in run("devices").stdout


# ---- config


def test_a_setting_is_read_and_changed(run: Run, sensor: Path) -> None:
    changed = run("config", "set", "recording.duration", "2.5")

    assert changed.exit_code == 0, changed.stderr
    assert run("config", "get", "recording.duration").stdout == "2.5\n"
    assert run("config", "get", "--field", "recording.duration").stdout == "2.5\n"
    assert data_of(run("config", "get"))["recording"]["duration"] == 2.5


def test_what_follows_from_a_setting_changes_with_it(run: Run, sensor: Path) -> None:
    before = (sensor / "config" / "schedule.json").read_text()

    run("config", "set", "recording.interval", "77")

    after = (sensor / "config" / "schedule.json").read_text()
    assert "77" in after
    assert after != before


@pytest.mark.parametrize(
    ("args", "field", "value"),
    [
        (["recording.schedule_start", "7pm"], "recording.schedule_start", "19:00:00"),
        (["--field", "recording.duration", "2"], "recording.duration", 2),
        (["messaging.mqtt.host", "hub"], "messaging.mqtt.host", "hub"),
        (["messaging.http", '{"base_url": "http://x/"}'], "messaging.http.timeout", 5),
        (["--json", "messaging.max_messages", "7"], "messaging.max_messages", 7),
        (["messaging.max_messages", "null"], "messaging.max_messages", None),
    ],
)
def test_any_setting_can_be_set_and_shown(
    run: Run, sensor: Path, args: list[str], field: str, value: Any
) -> None:
    result = run("config", "set", *args)

    assert result.exit_code == 0, result.stderr
    assert data_of(run("config", "get", field)) == value


def test_a_whole_document_can_be_set(run: Run, sensor: Path) -> None:
    document = data_of(run("config", "get"))
    document["recording"]["duration"] = 2

    result = run("config", "set", json.dumps(document))

    assert result.exit_code == 0, result.stderr
    assert data_of(run("config", "get", "recording.duration")) == 2


@pytest.mark.parametrize(
    ("args", "named", "why"),
    [
        (["config", "get", "recording.nope"], "recording.nope", "duration"),
        (["config", "set", "recording.duration", "-3.5"], '"-3.5"', "greater than 0"),
        (["config", "set", "recording.nope", "3"], "recording.nope", "duration"),
        (["config", "set", "recording.duration"], "1 words", "one name and one value"),
        (["config", "set", "{broken"], "configuration", "JSON"),
        (["config", "set", '{"nope": 1}'], "nope", "recording"),
    ],
)
def test_a_wrong_setting_is_refused_and_nothing_changes(
    run: Run, sensor: Path, args: list[str], named: str, why: str
) -> None:
    before = tree_of(sensor)

    result = run(*args)

    lines = lines_of(result)
    assert named in lines[0]
    assert why in lines[1]
    assert result.exit_code == 2
    assert tree_of(sensor) == before


def test_the_schema_lists_every_option(run: Run) -> None:
    result = run("config", "schema", "--program", "connected")
    schema = data_of(run("config", "schema", "--program", "connected", "--json"))

    assert "--messaging.mqtt.password" in result.stdout
    assert "--recording.schedule_start" in result.stdout
    assert "recording" in schema["properties"]


# ---- deployment


def test_a_deployment_from_start_to_end(run: Run, sensor: Path, target: Calls) -> None:
    started = data_of(
        run(
            "deployment",
            "start",
            "--json",
            "--name",
            "oak",
            "--latitude",
            "-33.9",
            "--longitude=18",
        )
    )
    running = run("deployment", "status", "--json")
    again = run("deployment", "start", "--name", "elm", "--no-check")
    stopped = run("deployment", "stop")

    assert (started["name"], started["latitude"], started["longitude"]) == ("oak", -33.9, 18)
    assert running.exit_code == 0
    assert data_of(running)["deployment"]["name"] == "oak"
    assert data_of(running)["ok"]
    assert "oak" in "".join(lines_of(again))
    assert stopped.exit_code == 0, stopped.stderr
    assert target.names == ["up", "down"]
    assert "oak" in stopped.stdout


def test_a_sensor_that_is_not_well_says_so_with_3(run: Run, sensor: Path, target: Calls) -> None:
    run("deployment", "start", "--name", "oak")
    target.state = "stopped"

    text = run("deployment", "status")
    as_json = run("deployment", "status", "--json")

    assert text.exit_code == 3
    assert "stopped" in text.stdout
    assert as_json.exit_code == 3
    assert data_of(as_json)["ok"] is False


@pytest.mark.parametrize(
    ("args", "named"),
    [
        ([], "name"),
        (["--name", ""], "name"),
        (["--name", "x", "--latitude", "91"], "--latitude"),
        (["--name", "x", "--longitude", "200"], "--longitude"),
        (["--name", "x", "--latitude", "north"], "--latitude"),
        (["--name", "x", "--latitude", "nan"], "latitude"),
    ],
)
def test_a_place_that_is_none_is_refused(
    run: Run, sensor: Path, target: Calls, args: list[str], named: str
) -> None:
    result = run("deployment", "start", *args)

    assert named in "".join(lines_of(result))
    assert result.exit_code in (1, 2)
    assert target.names == []
    assert not (sensor / "config" / "deployment.json").exists()


def test_a_start_that_fails_leaves_no_deployment(run: Run, sensor: Path, target: Calls) -> None:
    target.error = TargetError("cannot start.", "wait", why="it is a test.")

    result = run("deployment", "start", "--name", "oak")

    assert lines_of(result)[0] == "Error: cannot start."
    assert result.exit_code == 1
    assert data_of(run("deployment", "status", "--json"))["deployment"] is None


def test_a_check_that_fails_stops_the_start(
    run: Run, sensor: Path, target: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "/nowhere.wav")

    result = run("deployment", "start", "--name", "oak")

    assert result.exit_code == 3
    assert target.names == []


def test_there_is_nothing_to_stop(run: Run, sensor: Path) -> None:
    result = run("deployment", "stop")

    assert "there is no deployment" in lines_of(result)[0]
    assert result.exit_code == 1


def test_services_that_have_recorded_nothing_yet_are_stopped(
    run: Run, sensor: Path, target: Calls
) -> None:
    target.state = "ready"

    result = run("deployment", "stop")

    assert result.exit_code == 0, result.stderr
    assert "They had recorded nothing yet." in result.stdout
    assert target.names == ["down"]


# ---- workers, services, celery


def test_queues_are_purged(run: Run, sensor: Path) -> None:
    assert data_of(run("workers", "purge", "--json")) == {"celery": 0, "recording": 0}
    assert "celery" in run("workers", "purge").stdout


def test_services_without_systemd_have_a_status_and_clean_errors(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")

    status = run("services", "status", "--json")
    started = run("services", "start")

    assert status.exit_code == 0
    assert set(data_of(status)) == {"acoupi", "beat", "message"}
    assert lines_of(started)
    assert started.exit_code == 1


def test_celery_gets_its_own_options(
    run: Run, sensor: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    result = run("celery", "inspect", "--help")

    assert result.exit_code == 0
    assert "--json" in capfd.readouterr().out


# ---- messages


def test_dead_letters_are_listed_and_tried_again(run: Run, sensor: Path) -> None:
    store = SqliteMessageStore(sensor / "data" / "messages.db")
    message = data.Message(content="{}")
    store.store_message(message)
    store.claim_messages("hub")
    for _ in range(10):
        response = data.Response(status=data.ResponseStatus.ERROR, message=message, content="403")
        store.settle_message("hub", response)

    before = data_of(run("messages", "list", "--json"))
    text = run("messages", "list")
    slip = run("messages", "retry", "--messenger", "hug")
    retried = data_of(run("messages", "retry", "--json"))
    after = data_of(run("messages", "list", "--json"))

    assert before["dead_letters"][0]["id"] == str(message.id)
    assert "403" in text.stdout
    assert slip.exit_code == 2
    assert "the messengers used so far are hub" in lines_of(slip)[1]
    assert retried == {"retried": 1}
    assert after["dead_letters"] == []
    assert after["messengers"][0]["pending"] == 1


def test_a_server_that_takes_nothing_is_listed(run: Run, sensor: Path) -> None:
    store = SqliteMessageStore(sensor / "data" / "messages.db")
    message = data.Message(content="{}")
    store.store_message(message)
    refused = data.Response(
        status=data.ResponseStatus.ERROR,
        message=message,
        content="HTTP 401: expired",
        is_access_refused=True,
    )
    store.settle_message("hub", refused)

    [listed] = data_of(run("messages", "list", "--json"))["messengers"]

    assert (listed["pending"], listed["refusal"]) == (1, "error: HTTP 401: expired")
    assert "401" in run("messages", "list").stdout


def test_a_program_without_messages_says_so(run: Run) -> None:
    run("setup", "--program", "default")

    result = run("messages", "list")

    assert "connected" in lines_of(result)[2]
    assert result.exit_code == 2


def test_what_the_advice_on_simulated_sound_offers_is_accepted(
    run: Run, sensor: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_SIMULATED_AUDIO")
    run("config", "set", "microphone.simulated.path", "/nowhere.wav")
    refused = run("check")
    run("config", "set", "microphone.simulated.path", "synthetic")
    accepted = run("check")

    assert "or synthetic" in lines_of(refused)[2]
    assert accepted.exit_code == 0, accepted.stderr
