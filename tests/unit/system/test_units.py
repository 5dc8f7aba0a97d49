"""Units of systemd: one for each service, and what each may do."""

import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from acoupi.errors import TargetError
from acoupi.system import Sensor, Settings, setup_program, target_for
from acoupi.system.services import services_are_installed
from acoupi.targets import systemd
from tests.services import require, require_program

MQTT = ["--messaging.mqtt.host", "localhost", "--messaging.mqtt.topic", "acoupi"]
WORKERS = ("recording", "detection", "default")
UNITS = ("acoupi.service", *(f"acoupi-{name}.service" for name in (*WORKERS, "beat")))
MOST_EXPOSED = 3.0
"""What `systemd-analyze security` may give; 10 is a unit without any limit."""
BEFORE = "[Service]\nExecStart=/home/pi/.acoupi/bin/acoupi-workers-start.sh --foreground\n"
"""The one unit of all workers, as earlier versions had it."""


def set_up(home: Path, target: str = "systemd", options: Sequence[str] = MQTT) -> Settings:
    settings = Settings(home=home)
    setup_program(settings, "demo", list(options), target=target, environ={})
    return settings


@pytest.fixture(scope="module")
def of_system(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units of the system, of a program that sends messages."""
    home = tmp_path_factory.mktemp("units") / "home"
    return set_up(home, "systemd-system").home / "systemd"


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Give a machine whose systemctl does what a line of shell says."""

    def says(line: str) -> None:
        program = tmp_path / "fake" / "systemctl"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{line}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
        monkeypatch.setattr(systemd, "BOOTED", Path("/"))
        monkeypatch.setattr(systemd, "SYSTEM_UNITS", tmp_path / "units")

    return says


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user may enter; those of pytest are root's own, as this Python may be."""
    require("only root starts units of the system", os.geteuid() == 0)
    monkeypatch.setattr(sys, "executable", "/bin/sh")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def lines(folder: Path, name: str) -> list[str]:
    return (folder / name).read_text().splitlines()


def test_each_service_has_a_unit(of_system: Path) -> None:
    assert {path.name for path in of_system.iterdir()} == set(UNITS)
    wanted = "Wants=acoupi-recording.service acoupi-detection.service acoupi-default.service"
    assert wanted in lines(of_system, "acoupi.service")
    for name in WORKERS:  # they start and stop with it
        found = lines(of_system, f"acoupi-{name}.service")
        assert "PartOf=acoupi.service" in found
        assert "After=acoupi.service" in found


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_of_the_system_is_hardly_exposed(of_system: Path, name: str) -> None:
    analyse = require_program("systemd-analyze")
    words = (analyse, "security", "--offline=true", "--no-pager", of_system / name)

    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    level = re.search(r"exposure level for \S+: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= MOST_EXPOSED


def test_systemd_understands_every_line(of_system: Path) -> None:
    analyse = require_program("systemd-analyze")
    words = (analyse, "verify", *of_system.iterdir())

    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    assert [line for line in done.stderr.splitlines() if str(of_system) in line] == []


def test_the_recorder_alone_has_a_device(of_system: Path) -> None:
    recorder = lines(of_system, "acoupi-recording.service")

    assert "DevicePolicy=closed" in recorder
    assert "DeviceAllow=char-alsa rw" in recorder
    assert "SupplementaryGroups=audio" in recorder
    for name in UNITS:
        if name != "acoupi-recording.service":
            assert "PrivateDevices=yes" in lines(of_system, name)


def test_the_one_that_sends_alone_has_a_network_and_the_secrets(of_system: Path) -> None:
    for name in ("recording", "detection", "beat"):
        found = lines(of_system, f"acoupi-{name}.service")
        assert "PrivateNetwork=yes" in found
        assert "RestrictAddressFamilies=AF_UNIX" in found
        assert f'InaccessiblePaths="-{of_system.parent}/config/secrets.env"' in found
    sender = lines(of_system, "acoupi-default.service")
    assert not any(line.startswith(("PrivateNetwork", "Inaccessible")) for line in sender)
    assert 'Environment="ACOUPI_SECRETS=withheld"' in lines(of_system, "acoupi-detection.service")


def test_only_the_folders_of_the_sensor_are_written(of_system: Path) -> None:
    home = of_system.parent
    for name in UNITS[1:]:
        found = [line for line in lines(of_system, name) if line.startswith("ReadWritePaths=")]
        allowed = {
            f'ReadWritePaths="-{home}/{one}"' for one in ("run", "log", "data", "waiting/detection")
        }
        assert set(found) <= allowed
        assert "ProtectSystem=strict" in lines(of_system, name)


def test_they_never_run_as_root(of_system: Path) -> None:
    for name in UNITS:
        (user,) = [line for line in lines(of_system, name) if line.startswith("User=")]
        assert int(user.partition("=")[2]) > 0


def test_a_model_gives_way_to_the_recorder(of_system: Path) -> None:
    def number(service: str, key: str) -> int:
        text = (of_system / f"acoupi-{service}.service").read_text()
        found = re.search(rf"^{key}=(\d+)$", text, re.MULTILINE)
        assert found
        return int(found[1])

    assert number("recording", "CPUWeight") >= 16 * number("detection", "CPUWeight")
    assert number("recording", "OOMScoreAdjust") < number("detection", "OOMScoreAdjust")
    assert number("detection", "MemoryMax") > 0


def test_units_of_a_user_say_what_they_cannot_do(home: Path) -> None:
    folder = set_up(home).home / "systemd"

    for name in UNITS:
        text = (folder / name).read_text()
        assert "acoupi setup --target systemd --system" in text
        assert "NoNewPrivileges=yes" in text
        assert "UMask=0077" in text
        beyond = r"^(User|ProtectSystem|PrivateDevices|CapabilityBoundingSet)="
        assert not re.search(beyond, text, re.MULTILINE)


def test_the_unit_of_an_earlier_version_is_replaced_at_setup(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("PATH", "/nowhere")  # no systemctl
    installed = systemd.unit_folder() / "acoupi.service"
    installed.parent.mkdir(parents=True)
    installed.write_text(BEFORE)

    settings = set_up(home)

    assert installed.read_text() == (settings.home / "systemd" / "acoupi.service").read_text()
    assert (installed.parent / "acoupi-recording.service").is_file()


def test_a_home_of_an_earlier_version_starts_without_a_new_setup(
    home: Path, systemctl: Callable[[str], None]
) -> None:
    systemctl("echo active")
    settings = set_up(home)
    for name in UNITS:
        if name not in ("acoupi.service", "acoupi-beat.service"):
            (home / "systemd" / name).unlink()
    (home / "systemd" / "acoupi.service").write_text(BEFORE)

    target_for(settings).up()

    assert (systemd.unit_folder() / "acoupi.service").read_text() == BEFORE
    units = target_for(settings).unit_states()
    assert units is not None
    assert units[:2] == ("active", "active")


def test_a_setup_alone_installs_nothing(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    set_up(home)

    assert not systemd.unit_folder().exists()


@pytest.mark.parametrize(("process", "ends"), [("4711", True), ("0", False)])
def test_what_runs_in_the_unit_of_an_earlier_version_ends_before_the_new_ones_start(
    home: Path, tmp_path: Path, systemctl: Callable[[str], None], process: str, ends: bool
) -> None:
    said = tmp_path / "said"
    systemctl(f'echo "$3 $4" >>"{said}"; echo {process}')
    settings = set_up(home)
    (systemd.unit_folder()).mkdir(parents=True)
    (systemd.unit_folder() / "acoupi.service").write_text(BEFORE)

    target_for(settings).up()

    asked = said.read_text().splitlines()
    assert ("stop acoupi.service" in asked) is ends
    if ends:
        assert asked.index("stop acoupi.service") < asked.index("start acoupi.service")


def test_what_root_wrote_belongs_to_the_user_of_the_units_when_they_start(
    open_folder: Path, systemctl: Callable[[str], None]
) -> None:
    home = open_folder / "home"
    systemctl("true")
    target = target_for(set_up(home, "systemd-system"))
    (home / "data" / "spool").mkdir()

    target.up()

    assert (home / "data" / "spool").stat().st_uid > 0
    assert services_are_installed(target.settings)
    assert {path.name for path in systemd.SYSTEM_UNITS.iterdir()} == set(UNITS)


def test_the_kernel_knows_of_sound_before_a_unit_is_granted_it(of_system: Path) -> None:
    for name in UNITS:  # else "char-alsa" allows nothing, though a card is plugged in later
        found = lines(of_system, name)
        granted = "DeviceAllow=char-alsa rw" in found
        assert granted is (name == "acoupi-recording.service")
        assert ("After=modprobe@snd.service" in found) is granted
        assert ("Wants=modprobe@snd.service" in found) is granted


def test_units_are_not_started_where_their_user_cannot_enter(
    open_folder: Path, systemctl: Callable[[str], None]
) -> None:
    closed = open_folder / "root"  # as /root is
    closed.mkdir(mode=0o700)
    systemctl("true")
    target = target_for(set_up(closed / "home", "systemd-system"))

    with pytest.raises(TargetError) as refused:
        target.up()

    assert refused.value.why is not None
    assert f"user 1000, who may not enter {closed}," in refused.value.why
    assert "ACOUPI_HOME=" in refused.value.help
    closed.chmod(0o755)
    target.check()


def test_what_to_read_when_units_do_not_start_is_a_command_that_journalctl_takes(
    home: Path, systemctl: Callable[[str], None]
) -> None:
    systemctl('[ "$3" != start ]')

    with pytest.raises(TargetError) as failed:
        target_for(set_up(home)).up()

    words = shlex.split(failed.value.help)
    assert words[:2] == ["journalctl", "--user"]
    assert words[-4:] == ["-u", "acoupi.service", "-u", "acoupi-beat.service"]


def test_workers_are_not_active_while_one_of_them_has_failed(
    home: Path, systemctl: Callable[[str], None]
) -> None:
    systemctl('case "$*" in *detection*) echo failed ;; *) echo active ;; esac')
    settings = set_up(home)
    systemd.install_units(settings, Sensor.at(settings).services)

    units = target_for(settings).unit_states()

    assert units is not None
    assert units[:2] == ("failed", "active")
