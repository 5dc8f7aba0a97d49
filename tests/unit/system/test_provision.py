"""A home from its sources: once, as a whole, and what is in force stays when they are wrong."""

import json
import os
import stat
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from acoupi.cli.app import app
from acoupi.config.sensor import load_sensor
from acoupi.devices import get_device_id
from acoupi.errors import AcoupiError
from acoupi.provisioned import read_provisioned
from acoupi.provisioning.apply import provision
from acoupi.stack.configured import is_configured, read_program_name
from acoupi.system import Settings, get_status
from tests.provisioning import BASE, URL, config_of, put
from tests.unit.system.conftest import WriteModule


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)


def files(settings: Settings) -> dict[str, str]:
    """What is in force, without the marker and its lock."""
    config = settings.program_config_file.parent
    return {
        path.name: path.read_text()
        for path in config.iterdir()
        if path.is_file() and path.name not in ("provisioned.json", ".setup.lock")
    }


def test_an_empty_home_becomes_a_sensor_with_a_deployment(settings: Settings) -> None:
    found, is_new = put(settings, CONFIG__RECORDING__DURATION="5", DEPLOYMENT__NAME="Oak")

    assert is_new
    assert found.fault is None
    assert found.generation == 1
    assert read_program_name(settings) == "default"
    assert config_of(settings).recording.duration == 5
    assert json.loads(settings.deployment_file.read_text())["name"] == "Oak"
    assert settings.schedule_file.exists()
    assert found.sources == [
        "ACOUPI_PROGRAM=default",
        "ACOUPI_DEPLOYMENT__NAME=Oak",
        "ACOUPI_CONFIG__RECORDING__DURATION",
    ]


def test_the_same_sources_change_nothing_and_load_no_program(
    settings: Settings, program_name: str, write_module: WriteModule
) -> None:
    put(settings, PROGRAM=program_name)
    before = files(settings)
    sys.modules.pop(program_name)
    write_module(program_name, "raise AssertionError('it was loaded')")

    found, is_new = put(settings, PROGRAM=program_name)

    assert not is_new
    assert found.generation == 1
    assert files(settings) == before


def test_a_variable_that_is_removed_leaves_the_default(settings: Settings) -> None:
    default = 10.0
    put(settings, CONFIG__RECORDING__INTERVAL="20", CONFIG__RECORDING__DURATION="5")

    put(settings, CONFIG__RECORDING__DURATION="5")

    assert config_of(settings).recording.interval == default


def test_settings_of_the_sensor_are_put_in_force_and_taken_back(settings: Settings) -> None:
    put(settings, SENSOR__RECORDER__MICROPHONE_PATIENCE="5")
    assert load_sensor(settings).recorder.microphone_patience == 5

    put(settings)

    assert load_sensor(settings).recorder.microphone_patience is None


def test_a_home_that_nothing_is_said_of_has_no_file_for_it(settings: Settings) -> None:
    put(settings)

    assert "sensor.json" not in files(settings)


@pytest.mark.parametrize(
    ("variables", "message", "advice"),
    [
        (
            {"CELERY__TASK_TIME_LIMIT": "abc"},
            'ACOUPI_CELERY__TASK_TIME_LIMIT cannot be "abc".',
            "ACOUPI_CELERY__TASK_TIME_LIMIT=600",
        ),
        (
            {"CELERY__TASK_TIME_LIMT": "700"},
            'there is no setting "ACOUPI_CELERY__TASK_TIME_LIMT".',
            "ACOUPI_CELERY__TASK_TIME_LIMIT",
        ),
        (
            {"CELERY__TASK_TIME_LIMIT": "1"},
            "a task cannot be asked to stop after 540 s and be killed after 1 s.",
            "ACOUPI_CELERY__TASK_TIME_LIMIT=600",
        ),
        (
            {"CELERY__BROKER_URL": "hub"},
            'cannot use the broker "hub".',
            (
                "ACOUPI_CELERY__BROKER_URL=redis://localhost:6379/0   "
                "(or leave it out for the embedded broker)"
            ),
        ),
        (
            {"SENSOR__RECORDER__MICROPHONE_PATIENCE": "0"},
            'ACOUPI_SENSOR__RECORDER__MICROPHONE_PATIENCE cannot be "0".',
            "ACOUPI_SENSOR__RECORDER__MICROPHONE_PATIENCE=VALUE",
        ),
        (
            {"PROGRAM": "connected", "CONFIG__MESSAGING__MQTT__PORT": "1883"},
            "ACOUPI_CONFIG__MESSAGING__MQTT__HOST is missing.",
            "ACOUPI_CONFIG__MESSAGING__MQTT__HOST=VALUE",
        ),
        (
            {"PROGRAM": "connected", "CONFIG__MESSAGING__MQTT": '{"port": 1883}'},
            "ACOUPI_CONFIG__MESSAGING__MQTT__HOST is missing.",
            "ACOUPI_CONFIG__MESSAGING__MQTT__HOST=VALUE",
        ),
        ({"PROGRAM": "defualt"}, 'cannot find the program "defualt".', "ACOUPI_PROGRAM=default"),
    ],
)
def test_what_is_wrong_is_told_in_variables(
    settings: Settings, variables: dict[str, str], message: str, advice: str
) -> None:
    found, _ = put(settings, **variables)

    assert found.fault is not None
    assert found.fault.message == message
    assert found.fault.help == advice


def test_what_was_in_force_before_is_kept_beside_it(settings: Settings) -> None:
    put(settings, CONFIG__RECORDING__DURATION="5")

    put(settings, CONFIG__RECORDING__DURATION="4")

    previous = settings.program_config_file.parent / "previous" / "program.json"
    assert json.loads(previous.read_text())["recording"]["duration"] == 5


def test_a_file_of_others_in_the_folder_keeps_nothing_from_being_put_in_force(
    settings: Settings,
) -> None:
    put(settings, CONFIG__RECORDING__DURATION="5")
    (settings.program_config_file.parent / "photo.jpg").write_bytes(b"\xff\xd8\xff")

    found, is_new = put(settings, CONFIG__RECORDING__DURATION="4")

    assert found.fault is None
    assert is_new


WRONG = {
    "unknown setting": ({"CONFIG__RECORDING__DURATOIN": "5"}, "CONFIG__RECORDING__DURATION"),
    "unknown variable": ({"DEPLOYMENT__LATITUD": "5"}, "ACOUPI_DEPLOYMENT__LATITUDE"),
    "wrong type": ({"CONFIG__RECORDING__DURATION": "long"}, "t must be a number"),
    "out of range": ({"DEPLOYMENT__LATITUDE": "91", "DEPLOYMENT__LONGITUDE": "0"}, "-90 to 90"),
    "half a place": ({"DEPLOYMENT__LATITUDE": "51"}, "ACOUPI_DEPLOYMENT__LONGITUDE"),
    "no such program": ({"PROGRAM": "defualt"}, "connected, default"),
    "two documents": ({"CONFIG_FILE": "/x.yaml", "CONFIG_URL": "http://x/y"}, "contradict"),
    "file not there": ({"CONFIG_FILE": "/nowhere/x.yaml"}, "ACOUPI_CONFIG_FILE"),
    "no level": ({"LOG_LEVEL": "loud"}, "WARNING"),
    "no seconds": ({"MICROPHONE_PATIENCE": "long"}, "ACOUPI_MICROPHONE_PATIENCE"),
    "no address": ({"CONFIG_URL": "example.org"}, "http:// or https://"),
    "bad id": ({"DEVICE_ID": "a/b"}, "ACOUPI_DEVICE_ID"),
    "other workers": ({"SERVICES": "all"}, "recording, default"),
    "folder outside": (
        {"SERVICES": "recording,default", "CONFIG__PATHS__RECORDINGS": "/mnt/disk"},
        "/mnt/disk",
    ),
}


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_sources_leave_in_force_what_was_and_are_named(settings: Settings, case: str) -> None:
    variables, words = WRONG[case]
    put(settings, CONFIG__RECORDING__DURATION="5")
    before = files(settings)

    found, is_new = put(settings, **variables)

    assert not is_new
    assert found.generation == 1
    assert files(settings) == before
    assert found.fault is not None
    assert words in " ".join([found.fault.text(), found.fault.help or ""])
    assert "the configuration of 20" in (found.trouble() or "")


@pytest.mark.parametrize("case", sorted(WRONG))
def test_wrong_sources_of_an_empty_home_leave_it_empty(settings: Settings, case: str) -> None:
    found, _ = put(settings, **WRONG[case][0])

    assert found.generation == 0
    assert not is_configured(settings)
    assert files(settings) == {}
    assert "no configuration is in force yet" in (found.trouble() or "")


def test_the_fault_goes_when_the_sources_are_mended(settings: Settings) -> None:
    put(settings)
    put(settings, NONSENSE="1")

    found, is_new = put(settings)

    assert not is_new
    assert found.fault is None
    assert read_provisioned(settings.program_config_file.parent) == found


def test_a_fault_that_stays_keeps_its_time(settings: Settings) -> None:
    first, _ = put(settings, NONSENSE="1")
    second, _ = put(settings, NONSENSE="1")

    assert first.fault is not None
    assert second.fault is not None
    assert first.fault.since == second.fault.since


def test_a_program_that_raises_is_a_fault_and_no_crash(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "exits.py").write_text("import sys\nsys.exit('no GPU')\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    found, _ = put(settings, PROGRAM="exits")

    assert found.fault is not None
    assert "SystemExit" in found.fault.text()


def test_secrets_are_in_their_file_alone_and_go_with_their_variable(settings: Settings) -> None:
    host = {
        "CONFIG__MESSAGING__MQTT__HOST": "hub",
        "CONFIG__MESSAGING__MQTT__USERNAME": "bat",
    }
    put(settings, PROGRAM="connected", **host, CONFIG__MESSAGING__MQTT__PASSWORD="geheim")

    holders = {name for name, text in files(settings).items() if "geheim" in text}
    marker = (settings.program_config_file.parent / "provisioned.json").read_text()
    mode = stat.S_IMODE(settings.secrets_file.stat().st_mode)
    assert holders == {"secrets.env"}
    assert "geheim" not in marker
    assert mode == 0o600

    put(settings, PROGRAM="connected", **host)

    assert "geheim" not in settings.secrets_file.read_text()


def test_a_file_is_a_source_and_variables_are_stronger(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("recording: {duration: 4, interval: 30}\n")

    put(settings, CONFIG_FILE=str(path), CONFIG__RECORDING__DURATION="5")

    recording = config_of(settings).recording
    assert (recording.duration, recording.interval) == (5, 30)


def test_a_file_that_changed_is_noticed(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("recording: {duration: 4}\n")
    put(settings, CONFIG_FILE=str(path))
    path.write_text("recording: {duration: 6}\n")

    _, is_new = put(settings, CONFIG_FILE=str(path))

    assert is_new
    assert config_of(settings).recording.duration == 6


def test_what_is_wrong_in_a_file_names_the_variable(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("recording: {duratoin: 4}\n")

    found, _ = put(settings, CONFIG_FILE=str(path))

    assert found.fault is not None
    assert f"ACOUPI_CONFIG_FILE ({path})" in found.fault.text()


# --- what an earlier version left


def test_what_acoupi_0_1_had_decided_is_in_force(settings: Settings) -> None:
    put(settings, CONFIG__RECORDING__DURATION="5", DEPLOYMENT__NAME="Oak")
    config = settings.program_config_file.parent
    before = {path: path.read_bytes() for path in config.iterdir() if path.is_file()}
    new = {"CONFIG__RECORDING__DURATION": "4", "DEPLOYMENT__NAME": "Elm"}
    put(settings, **new)
    staging = config / "next"
    staging.mkdir()
    for path, content in before.items():
        path.replace(staging / path.name)
        path.write_bytes(content)
    (staging / "name").replace(config / "name")  # it was killed after the first

    seen = config_of(settings).recording.duration
    found, is_new = put(settings, **new)

    assert seen == 4
    assert not is_new
    assert found.generation == 2
    assert config_of(settings).recording.duration == 4
    assert json.loads(settings.deployment_file.read_text())["name"] == "Elm"
    assert not staging.exists()


# --- what is fetched

PAGES = {URL: "recording: {duration: 4}"}


def test_a_url_that_fails_leaves_what_it_gave_last_in_force(settings: Settings) -> None:
    put(settings, PAGES, CONFIG_URL=URL)

    found, is_new = put(settings, CONFIG_URL=URL)

    assert not is_new
    assert found.fault is not None
    assert config_of(settings).recording.duration == 4


def test_what_was_fetched_and_cannot_be_kept_is_not_half_in_force(settings: Settings) -> None:
    put(settings, CONFIG__RECORDING__DURATION="5", DEPLOYMENT__NAME="Oak")
    before = files(settings)
    (settings.program_config_file.parent / "fetched.json" / "in the way").mkdir(parents=True)

    found, is_new = put(settings, PAGES, CONFIG_URL=URL, DEPLOYMENT__NAME="Elm")

    assert not is_new
    assert found.fault is not None
    assert "fetched.json" in found.fault.text()
    assert [one.name for one in found.deployments] == ["Oak"]
    assert files(settings) == before


def test_variables_change_also_while_the_url_fails(settings: Settings) -> None:
    put(settings, PAGES, CONFIG_URL=URL)

    found, is_new = put(settings, CONFIG_URL=URL, CONFIG__RECORDING__INTERVAL="30")

    recording = config_of(settings).recording
    assert is_new
    assert found.fault is not None
    assert (recording.duration, recording.interval) == (4, 30)


def test_another_url_that_fails_is_not_served_from_what_the_first_gave(settings: Settings) -> None:
    put(settings, PAGES, CONFIG_URL=URL)

    found, is_new = put(settings, CONFIG_URL="http://x/b")

    assert not is_new
    assert found.fault is not None


@pytest.mark.parametrize(
    "page", ["<html>log in</html>", "recording: {duration: x}", "a: [1", "recording"]
)
def test_nonsense_from_a_url_is_not_put_in_force(settings: Settings, page: str) -> None:
    put(settings, PAGES, CONFIG_URL=URL)

    found, is_new = put(settings, {URL: page}, CONFIG_URL=URL)

    assert not is_new
    assert found.fault is not None
    assert f"ACOUPI_CONFIG_URL ({URL})" in found.fault.text()
    assert config_of(settings).recording.duration == 4


def test_another_way_to_say_the_same_begins_nothing_anew(settings: Settings) -> None:
    first, _ = put(settings, PAGES, CONFIG_URL=URL)

    page = "# nicer\nrecording: {duration: 4.0}"
    second, is_new = put(settings, {URL: page}, CONFIG_URL=URL)

    assert not is_new
    assert second.generation == first.generation
    assert second.digest != first.digest


# --- who it is, and where


def test_the_device_id_survives_and_can_be_overridden_for_a_while(settings: Settings) -> None:
    put(settings)
    own = get_device_id()

    put(settings, DEVICE_ID="bats-07")
    other = get_device_id()
    put(settings)

    assert own
    assert other == "bats-07"
    assert get_device_id() == own


@pytest.mark.parametrize("damaged", [b"", b"\0" * 20, b"\xff\xfe{", b'{"id": "01'])
def test_a_damaged_device_id_comes_back_from_the_copy(settings: Settings, damaged: bytes) -> None:
    put(settings)
    own = get_device_id()
    put(settings, CONFIG__RECORDING__DURATION="5")  # leaves a copy

    for _ in range(2):
        settings.device_file.write_bytes(damaged)
        found, _is_new = put(settings, CONFIG__RECORDING__DURATION="5")

        assert found.fault is None
        assert get_device_id() == own


def test_without_a_copy_a_damaged_device_id_becomes_one_that_no_other_board_has(
    settings: Settings,
) -> None:
    put(settings)
    own = get_device_id()
    settings.device_file.unlink()
    of_the_system = get_device_id()
    settings.device_file.write_bytes(b"")

    found, _is_new = put(settings)

    assert found.fault is None
    assert get_device_id() not in (own, of_the_system)


def test_balena_names_the_device(settings: Settings) -> None:
    provision(settings, {**BASE, "BALENA_DEVICE_UUID": "0123456789abcdef"})

    assert get_device_id() == "0123456789abcdef"


def test_without_a_name_the_deployment_is_called_after_the_device(settings: Settings) -> None:
    found, _ = put(settings, DEVICE_ID="bats-07")

    assert [one.name for one in found.deployments] == ["bats-07"]


def test_another_place_ends_the_deployment_and_begins_one(settings: Settings) -> None:
    here = {"DEPLOYMENT__LATITUDE": "51.5", "DEPLOYMENT__LONGITUDE": "-0.1"}
    put(settings, DEPLOYMENT__NAME="Oak", **here)
    here["DEPLOYMENT__LATITUDE"] = "51.6"

    found, _ = put(settings, DEPLOYMENT__NAME="Oak", **here)

    first, second = found.deployments
    assert (first.latitude, second.latitude) == (51.5, 51.6)
    assert first.ended_on is not None
    assert second.ended_on is None


def test_the_time_zone_is_that_of_the_coordinates_and_is_logged(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("TZ", "UTC")
    caplog.set_level("INFO")
    berlin = {"DEPLOYMENT__LATITUDE": "52.5", "DEPLOYMENT__LONGITUDE": "13.4"}

    put(settings, **berlin)
    assert str(config_of(settings).timezone) == "Europe/Berlin"
    assert "Its local times are those of Europe/Berlin." in caplog.text

    put(settings, **berlin, CONFIG__TIMEZONE="America/Lima")  # an answer stays, with a warning
    assert str(config_of(settings).timezone) == "America/Lima"
    assert "the clocks at 52.5, 13.4 are those of Europe/Berlin" in caplog.text


def test_another_setting_leaves_the_deployment_alone(settings: Settings) -> None:
    first, _ = put(settings, DEPLOYMENT__NAME="Oak")

    second, _ = put(settings, DEPLOYMENT__NAME="Oak", CONFIG__RECORDING__DURATION="4")

    assert second.deployments == first.deployments


def test_a_check_does_not_want_to_start_what_is_started_elsewhere(settings: Settings) -> None:
    put(settings)

    result = CliRunner().invoke(app, ["check", "--json"])

    checks = {one["name"]: one for one in json.loads(result.stdout)["checks"]}
    assert checks["target"]["ok"]


def test_status_tells_what_is_wrong_with_the_sources(settings: Settings) -> None:
    put(settings)
    put(settings, NONSENSE="1")

    status = get_status(settings)

    assert status.program.status == "unhealthy"
    assert "ACOUPI_NONSENSE" in (status.program.message or "")
    assert status.services.target == "provisioned"


def test_a_folder_that_cannot_be_written_is_an_error_that_says_so(settings: Settings) -> None:
    config = settings.program_config_file.parent
    config.parent.mkdir()
    config.write_text("")

    with pytest.raises(AcoupiError, match="cannot write"):
        put(settings)


def test_a_half_staged_configuration_is_thrown_away(settings: Settings) -> None:
    staging = settings.program_config_file.parent / "next"
    staging.mkdir(parents=True)
    (staging / "program.json").write_text("{")

    found, _ = put(settings)

    assert found.generation == 1
    assert not staging.exists()
    assert not os.path.lexists(settings.home / "next")
