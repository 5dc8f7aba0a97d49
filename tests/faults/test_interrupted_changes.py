"""A setup, or a home that sets itself up, that is killed between any two renames."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from acoupi.bundles.rendering import Manifest, check_not_edited
from acoupi.config.sensor import load_sensor
from acoupi.hub.bundle.choices import HubHome
from acoupi.hub.bundle.setting_up import set_up_hub
from acoupi.provisioned import read_provisioned
from acoupi.provisioning.apply import provision
from acoupi.services.construction import build_program
from acoupi.system import Sensor, Settings, get_current_deployment, setup_program
from tests.kills import homes_killed_at_each_rename

pytestmark = pytest.mark.slow

SETUP = """
from acoupi.system import Settings, setup_program
def before(home):
    setup_program(Settings(home=home), "default", {old!r}, target="systemd", environ={{}})
def change(home):
    setup_program(Settings(home=home), "default", {new!r}, target="process", environ={{}})
"""
PROVISIONING = """
from acoupi.provisioning.apply import provision
from acoupi.system import Settings
def before(home):
    provision(Settings(home=home), {old!r})
def change(home):
    provision(Settings(home=home), {new!r})
"""
HUB = """
from acoupi.hub.bundle.choices import HubHome
from acoupi.hub.bundle.setting_up import set_up_hub
def before(home):
    {before}
def change(home):
    set_up_hub(HubHome(home), {new!r}, own_servers={{}})
"""
HIDDEN = {".generated.json", ".setup.lock"}


def litter(home: Path) -> list[str]:
    return [path.name for path in home.rglob(".*") if path.name not in HIDDEN]


def duration_of(settings: Settings) -> float:
    return float(Sensor.read(settings).config.recording.duration)  # type: ignore[attr-defined]


def interval_of(settings: Settings) -> float:
    """How often is recorded, as beat reads it."""
    entries = json.loads(settings.schedule_file.read_text())["entries"]
    return float(next(e for e in entries if e["task"] == "recording_task")["schedule"]["every_s"])


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACOUPI_HOME", raising=False)


@pytest.mark.usefixtures("variables")
def test_a_setup_leaves_the_old_sensor_or_the_new_one(tmp_path: Path) -> None:
    patience = "--sensor.recorder.microphone_patience"
    options = [
        ["--recording.duration", n, "--recording.interval", f"{n}0", patience, f"{n}00"]
        for n in ("5", "4")
    ]
    homes = homes_killed_at_each_rename(tmp_path, SETUP.format(old=options[0], new=options[1]))

    kinds = []
    for home in homes:
        settings = Settings(home=home)
        units, script = home / "systemd" / "acoupi.service", settings.start_script_path
        sensor = Sensor.read(settings)  # what every command does first
        is_new = sensor.target_name == "process"
        kinds.append(is_new)
        assert duration_of(settings) == (4 if is_new else 5)
        assert load_sensor(settings).recorder.microphone_patience == (400 if is_new else 500)
        assert interval_of(settings) == (40 if is_new else 50)
        assert units.exists() != is_new
        assert script.exists()
        assert litter(home) == []
        check_not_edited(home, {}, sensor.manifest)
        setup_program(settings, "default", ["--recording.duration", "3"], environ={})
        assert duration_of(settings) == 3

    assert len(homes) > 12
    assert kinds == sorted(kinds), "it is decided at one moment"
    assert (kinds[0], kinds[-1]) == (False, True)


@pytest.mark.usefixtures("variables")
def test_provisioning_leaves_the_old_configuration_or_the_new_one(tmp_path: Path) -> None:
    old, new = (
        {
            "ACOUPI_PROGRAM": "default",
            "ACOUPI_CONFIG__RECORDING__DURATION": str(number),
            "ACOUPI_CONFIG__RECORDING__INTERVAL": f"{number}0",
            "ACOUPI_DEPLOYMENT__NAME": name,
        }
        for number, name in ((5, "Oak"), (4, "Elm"))
    )
    old["ACOUPI_SENSOR__RECORDER__MICROPHONE_PATIENCE"] = "500"  # taken back by the new one
    homes = homes_killed_at_each_rename(tmp_path, PROVISIONING.format(old=old, new=new))

    generations = []
    for home in homes:
        settings = Settings(home=home)
        known = read_provisioned(settings.program_config_file.parent)
        assert known is not None
        is_new = known.generation == 2
        # Before anything is finished, as a service reads it that may not write there.
        assert duration_of_read_only(settings) == (4 if is_new else 5)
        assert load_sensor(settings).recorder.microphone_patience == (None if is_new else 500)
        assert get_current_deployment(settings).name == ("Elm" if is_new else "Oak")
        found, _ = provision(settings, new if is_new else old)
        generations.append(found.generation)
        assert found.fault is None
        assert found.generation == known.generation, "it does not begin anew"
        assert interval_of(settings) == (40 if is_new else 50)
        assert litter(home) == []

    assert len(homes) > 12
    assert generations == sorted(generations), "it is decided at one moment"
    assert (generations[0], generations[-1]) == (1, 2)


def duration_of_read_only(settings: Settings) -> float:
    config = build_program(settings)[1].config
    return float(config.recording.duration)


@pytest.mark.usefixtures("variables")
@pytest.mark.parametrize("is_first", [True, False])
def test_a_hubs_setup_leaves_the_old_hub_or_the_new_one(tmp_path: Path, is_first: bool) -> None:
    old, new = {"name": "old.example.org"}, {"name": "new.example.org", "workers": {"test": 1}}
    made = f"set_up_hub(HubHome(home), {old!r}, own_servers={{}})"
    code = HUB.format(before="pass" if is_first else made, new=new)

    kinds = []
    for folder in homes_killed_at_each_rename(tmp_path, code):
        home = HubHome(folder)
        home.check()  # what every setup does first
        is_new = home.is_set_up and home.read().name == "new.example.org"
        kinds.append(is_new)
        assert home.is_set_up == (is_new or not is_first)
        assert litter(folder) == []
        if home.is_set_up:
            check_not_edited(folder, {}, Manifest.read(home.manifest_file))
            assert ("worker" in (folder / "docker-compose.yml").read_text()) == is_new
        assert set_up_hub(home, {"name": "third.example.org"}, own_servers={}).name[:5] == "third"

    assert kinds == sorted(kinds), "it is decided at one moment"
    assert (kinds[0], kinds[-1]) == (False, True)


def test_changes_at_the_same_time_are_all_made(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "default", environ={})
    changes = {"recording.duration": "5", "recording.interval": "50", "recording.chunksize": "4096"}

    running = [
        subprocess.Popen(
            [sys.executable, "-c", "from acoupi.cli import main; main()", "config", "set", *words],
            stderr=subprocess.PIPE,
        )
        for words in changes.items()
    ]
    said = [process.communicate(timeout=100)[1] for process in running]

    assert [process.returncode for process in running] == [0] * len(running), said
    recording = json.loads(settings.program_config_file.read_text())["recording"]
    assert {f"recording.{name}": f"{recording[name]:g}" for name in ("duration", "interval")} | {
        "recording.chunksize": str(recording["chunksize"])
    } == changes
    check_not_edited(home, {}, Sensor.read(settings).manifest)
