"""Targets: finding them, what they render, and how they fail."""

import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest

from acoupi.config.env_files import read_env
from acoupi.errors import AcoupiError, NotConfiguredError, TargetError
from acoupi.system import (
    Sensor,
    Settings,
    available_targets,
    disable_services,
    enable_services,
    services_are_installed,
    setup_program,
    start_services,
    status_services,
    stop_services,
    target_for,
)
from acoupi.system.services import install_services, uninstall_services
from acoupi.targets import Target, process, systemd
from acoupi.targets.compose import ComposeTarget
from acoupi.targets.process import ProcessTarget, run_script, script_error
from tests.cli.fake_docker import FakeDocker, put_first
from tests.packages import install
from tests.services import require, require_program

T = TypeVar("T", bound=Target)


@pytest.fixture(params=["process", "systemd"])
def target(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_ours_are_found_by_their_entry_points() -> None:
    assert {"balena", "compose", "process", "systemd"} <= set(available_targets())


def test_the_target_of_a_home_is_found(settings: Settings, program_name: str, target: str) -> None:
    setup_program(settings, program_name, target=target)

    assert target_for(settings).name == target


def test_a_home_without_a_sensor_has_no_target(settings: Settings) -> None:
    with pytest.raises(NotConfiguredError):
        target_for(settings)


def test_a_target_that_is_not_installed_any_more_is_said_to_be(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)
    text = settings.manifest_file.read_text()
    settings.manifest_file.write_text(text.replace('"process"', '"swarm"'))

    with pytest.raises(TargetError, match='no target "swarm"') as caught:
        target_for(settings)

    assert "process, systemd" in (caught.value.why or "")


BROKEN = {
    "absent_moon": (None, "No module named 'absent_moon'"),
    "moon_that_needs_more": ("import nothing_like_it", "nothing_like_it"),
    "moon_with_a_bug": ("1 / 0", "ZeroDivisionError"),
    "moon_without_a_target": ("class MoonTarget: pass", "is not a Target"),
}


@pytest.mark.parametrize("module", BROKEN)
def test_a_target_that_cannot_be_loaded_is_named_at_setup(
    settings: Settings,
    program_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: str,
) -> None:
    source, why = BROKEN[module]
    place = {"acoupi.targets": {"moon": f"{module}:MoonTarget"}}
    install(monkeypatch, tmp_path / "package", place, {f"{module}.py": source} if source else {})

    with pytest.raises(TargetError) as caught:
        setup_program(settings, program_name, target="moon")

    lines = caught.value.lines()
    assert 'the target "moon" cannot be loaded' in lines[0]
    assert why in lines[1]
    assert "uninstall it" in lines[2]
    assert not settings.home.exists()


@pytest.mark.parametrize("name", ["compose", "provisioned"])
def test_a_target_with_the_name_of_another_is_named_at_setup(
    settings: Settings,
    program_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    place = {"acoupi.targets": {name: "my_moon:Compose"}}
    install(monkeypatch, tmp_path / "package", place, name="acoupi-moon")

    with pytest.raises(TargetError) as caught:
        setup_program(settings, program_name, target="process")

    lines = caught.value.lines()
    assert f'two targets are called "{name}"' in lines[0]
    assert "my_moon:Compose" in lines[1]
    assert "pip uninstall acoupi-moon" in lines[2]


SCRIPTS = ["acoupi-beat", "acoupi-workers-restart", "acoupi-workers-start", "acoupi-workers-stop"]


@pytest.mark.parametrize("place", ["process", "compose"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_every_script_is_sound(
    settings: Settings, program_name: str, place: str, script: str
) -> None:
    setup_program(settings, program_name, target=place)
    path = settings.home / "bin" / f"{script}.sh"

    checked = subprocess.run(["bash", "-n", path], capture_output=True, text=True, check=False)

    assert (checked.returncode, checked.stderr) == (0, "")
    assert stat.S_IMODE(path.stat().st_mode) == 0o755
    assert "\r" not in path.read_text()


@pytest.mark.parametrize("place", ["process", "compose"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_shellcheck_finds_nothing(
    settings: Settings, program_name: str, place: str, script: str
) -> None:
    require_program("shellcheck")
    setup_program(settings, program_name, target=place)

    checked = subprocess.run(
        ["shellcheck", "-x", settings.home / "bin" / f"{script}.sh"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout == ""


@pytest.mark.parametrize("place", ["process", "compose"])
def test_scripts_name_neither_the_home_nor_its_owner(
    settings: Settings, program_name: str, place: str
) -> None:
    setup_program(settings, program_name, target=place)

    for script in (settings.home / "bin").iterdir():
        assert str(settings.home) not in script.read_text()


@pytest.mark.parametrize("place", ["process", "compose"])
@pytest.mark.parametrize("name", ["nobody", "-x", "recording; true"])
def test_a_script_refuses_a_service_that_is_none(
    settings: Settings,
    program_name: str,
    name: str,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    docker = FakeDocker(tmp_path / "tools")
    put_first(monkeypatch, docker.folder)
    setup_program(settings, program_name, target=place)

    with pytest.raises(AcoupiError) as caught:
        run_script(settings, settings.start_script_path, name)

    assert caught.value.exit_code == 2
    assert len(caught.value.lines()) == 3
    assert docker.asked == []


SCRIPTS_AND_COMPOSE = {
    ("start",): ["up --detach recording default"],
    ("start", "beat"): ["up --detach beat"],
    ("start", "--foreground"): ["up --detach redis", "up --no-deps recording default"],
    ("stop",): ["stop recording default"],
    ("restart", "default"): ["stop default", "up --detach default"],
    ("start", "--help"): [],
}


@pytest.mark.parametrize("words", SCRIPTS_AND_COMPOSE, ids=" ".join)
def test_the_scripts_of_a_bundle_hand_the_same_names_to_compose(
    settings: Settings,
    program_name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    docker = FakeDocker(tmp_path / "tools")
    put_first(monkeypatch, docker.folder)
    setup_program(settings, program_name, target="compose")
    script, *args = words

    run_script(settings, settings.home / "bin" / f"acoupi-workers-{script}.sh", *args)

    assert docker.asked == [f"compose {line}" for line in SCRIPTS_AND_COMPOSE[words]]


def test_the_script_of_beat_starts_what_beat_needs(
    settings: Settings, program_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = FakeDocker(tmp_path / "tools")
    put_first(monkeypatch, docker.folder)
    setup_program(settings, program_name, target="compose")

    run_script(settings, settings.beat_script_path)

    assert docker.asked == ["compose up --detach redis", "compose up --no-deps beat"]


def test_a_container_that_is_not_ready_yet_is_not_said_to_have_ended(
    settings: Settings, program_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_first(monkeypatch, FakeDocker(tmp_path / "tools").folder)
    setup_program(settings, program_name, target="compose")
    target = target_for(settings)
    assert isinstance(target, ComposeTarget)

    with pytest.raises(TargetError, match="does not start") as caught:
        target.wait_ready(patience=0)

    why = caught.value.why or ""
    assert "after 0 s" in why
    assert why.endswith("it logged nothing.")


def test_a_script_that_is_gone_is_said_to_be(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)
    settings.start_script_path.unlink()

    with pytest.raises(TargetError) as caught:
        target_for(settings).up()

    assert caught.value.help == "acoupi setup"


def test_the_last_words_of_a_script_become_the_reason() -> None:
    error = script_error(Path("bin/x.sh"), "one\ntwo\n", 127)

    assert error.why == "one two"
    assert script_error(Path("x"), "", 9).why == "it ended with exit code 9"


def test_a_missing_tool_is_named(
    settings: Settings, program_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_program(settings, program_name)
    monkeypatch.setattr(
        process.shutil, "which", lambda tool: None if tool == "flock" else f"/bin/{tool}"
    )

    with pytest.raises(TargetError) as caught:
        target_for(settings).check()

    assert "flock is missing" in (caught.value.why or "")
    assert "util-linux" in (caught.value.help or "")


@pytest.mark.parametrize(
    "value", ["plain", "two words", "it's", '"quoted"', "$HOME `id` \\ ;&|<>*?[]~#!", "ü", " edge "]
)
def test_any_value_comes_through_the_environment_file(
    home: Path, program_name: str, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", value)
    setup_program(Settings(home=home), program_name)
    file = home / "config" / "env"

    in_shell = subprocess.run(
        ["bash", "-c", 'set -a; . "$1"; printf %s "$ACOUPI_SIMULATED_AUDIO"', "_", str(file)],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin"},
    )

    assert in_shell.stdout == value
    assert read_env(file) == {"ACOUPI_SIMULATED_AUDIO": value}


def test_a_value_of_two_lines_is_refused(
    home: Path, program_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "one\ntwo")

    with pytest.raises(AcoupiError, match="cannot be passed"):
        setup_program(Settings(home=home), program_name)

    assert not home.exists()


def test_logs_are_the_ends_of_the_files(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)
    (settings.log_dir / "default.log").write_text("one\ntwo\nthree\n")

    target = target_for(settings)

    assert target.logs("default", lines=2) == {"default": ["two", "three"]}
    assert target.logs() == {"recording": [], "default": ["one", "two", "three"], "beat": []}
    with pytest.raises(TargetError, match='no service "nobody"'):
        target.logs("nobody")


# systemd


@pytest.fixture
def units(settings: Settings, program_name: str) -> Settings:
    setup_program(settings, program_name, target="systemd")
    return settings


def unit(settings: Settings, name: str) -> dict[str, str]:
    lines = (settings.home / "systemd" / name).read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def test_units_run_the_scripts_with_the_environment_file(units: Settings) -> None:
    worker = Sensor.read(units).services[0].name
    workers, beat = unit(units, f"acoupi-{worker}.service"), unit(units, "acoupi-beat.service")

    assert workers["ExecStart"] == f'"{units.start_script_path}" "--foreground" "{worker}"'
    assert beat["ExecStart"] == f'"{units.beat_script_path}"'
    assert workers["EnvironmentFile"] == beat["EnvironmentFile"] == f"-{units.env_file}"
    assert workers["Type"] == "exec"
    assert int(workers["TimeoutStopSec"]) > 60


def test_a_home_with_spaces_and_signs_is_quoted_in_a_unit(
    tmp_path: Path, program_name: str
) -> None:
    settings = Settings(home=tmp_path / 'a "b" 50% $c')

    setup_program(settings, program_name, target="systemd")

    text = unit(settings, "acoupi-beat.service")
    assert 'a \\"b\\" 50%% $$c' in text["ExecStart"]
    assert 'a "b" 50%% $c' in text["EnvironmentFile"]


def test_systemd_accepts_the_units(units: Settings) -> None:
    if shutil.which("systemd-analyze") is None:
        require("systemd-analyze is not installed: apt-get install systemd", present=False)

    checked = subprocess.run(
        ["systemd-analyze", "--user", "verify", *(units.home / "systemd").iterdir()],
        capture_output=True,
        text=True,
        check=False,
    )

    ours = [line for line in checked.stderr.splitlines() if str(units.home) in line]
    assert ours == []


def test_units_are_installed_and_removed(units: Settings, tmp_path: Path) -> None:
    folder = tmp_path / "units"

    installed = install_services(units, folder)

    workers = [f"acoupi-{one.name}.service" for one in Sensor.read(units).services if one.is_worker]
    assert [path.name for path in installed] == ["acoupi.service", "acoupi-beat.service", *workers]
    assert services_are_installed(units, folder)
    uninstall_services(units, folder)
    assert not services_are_installed(units, folder)


def test_a_home_of_another_target_has_no_units(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)

    with pytest.raises(TargetError) as caught:
        install_services(settings, settings.home / "units")

    assert caught.value.help == "acoupi setup --target systemd"


@pytest.mark.parametrize(
    "action", [enable_services, disable_services, start_services, stop_services]
)
def test_where_there_is_no_systemd_that_is_said(
    units: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: object
) -> None:
    assert callable(action)
    monkeypatch.setattr(systemd.shutil, "which", lambda tool: None)

    with pytest.raises(TargetError, match="cannot use systemd") as caught:
        action(units, tmp_path / "units")

    assert "systemctl is missing" in (caught.value.why or "")
    assert "--target process" in (caught.value.help or "")


def test_status_never_raises_where_there_is_no_systemd(
    units: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_services(units, tmp_path / "units")
    monkeypatch.setattr(systemd.shutil, "which", lambda tool: None)

    status = status_services(units, tmp_path / "units")

    assert (status.acoupi, status.beat) == ("unknown", "unknown")
    assert "systemctl is missing" in (status.message or "")


@pytest.fixture
def fake_systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A systemctl that writes down what it is asked, and says that all is active."""
    said = tmp_path / "said"
    folder = tmp_path / "fake"
    folder.mkdir()
    program = folder / "systemctl"
    program.write_text(f'#!/bin/sh\necho "$@" >>"{said}"\necho active\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(systemd, "BOOTED", Path("/"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/")
    return said


def test_going_up_installs_enables_and_starts(units: Settings, fake_systemctl: Path) -> None:
    target_for(units).up()

    said = fake_systemctl.read_text().splitlines()
    assert said == [
        "--user --no-pager daemon-reload",
        "--user --no-pager enable acoupi.service acoupi-beat.service",
        "--user --no-pager start acoupi.service acoupi-beat.service",
    ]
    assert services_are_installed(units)
    assert status_services(units).acoupi == "active"


def test_going_down_stops_beat_first(units: Settings, fake_systemctl: Path) -> None:
    target_for(units).down()

    assert [line.split()[2:] for line in fake_systemctl.read_text().splitlines()] == [
        ["disable", "acoupi-beat.service", "acoupi.service"],
        ["stop", "acoupi-beat.service"],
        ["stop", "acoupi.service"],
    ]


def test_workers_are_started_and_stopped_by_their_unit_which_would_start_them_again(
    units: Settings, fake_systemctl: Path
) -> None:
    target = target_for(units)

    target.start_workers()
    target.stop_workers()
    target.restart_workers()

    said = [line.split()[2:] for line in fake_systemctl.read_text().splitlines()]
    assert [words for words in said if words[0] in ("start", "stop")] == [
        ["start", "acoupi.service"],
        ["stop", "acoupi.service"],
        ["stop", "acoupi.service"],
        ["start", "acoupi.service"],
    ]


def test_the_recorder_is_stopped_alone(units: Settings, fake_systemctl: Path) -> None:
    target_for(units).stop_recorder()

    said = [line.split()[2:] for line in fake_systemctl.read_text().splitlines()]
    assert said == [
        ["stop", "acoupi-recording.service"],
        ["disable", "acoupi.service", "acoupi-beat.service"],  # or the board would start it
    ]


def test_units_of_before_that_run_all_workers_together_cannot_stop_the_recorder(
    units: Settings, fake_systemctl: Path
) -> None:
    group = units.home / "systemd" / units.acoupi_service_file
    group.write_text(f"{group.read_text()}ExecStart=start --foreground\n")

    with pytest.raises(TargetError, match="cannot stop the recorder alone"):
        target_for(units).stop_recorder()

    assert not fake_systemctl.exists() or "stop" not in fake_systemctl.read_text()


@pytest.fixture
def long_recordings(home: Path) -> Settings:
    """A sensor whose recorder is given more than an hour to stop."""
    settings = Settings(home=home)
    options = ["--recording.duration", "3600", "--recording.interval", "3600"]
    setup_program(settings, "demo", options, target="systemd", environ={})
    return settings


@pytest.fixture
def patience(fake_systemctl: Path, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long each command that is run may take, seconds."""
    given: list[float] = []

    def run(command: list[str], **kwargs: object) -> "subprocess.CompletedProcess[str]":
        timeout = kwargs["timeout"]
        assert isinstance(timeout, float)
        given.append(timeout)
        return subprocess.CompletedProcess(command, 0, "active", "")

    monkeypatch.setattr(subprocess, "run", run)
    return given


def on(kind: type[T], settings: Settings) -> T:
    """The services of a home on another target than it was set up for."""
    return kind(settings, Sensor.read(settings).manifest)


@pytest.mark.parametrize(
    "stop",
    [
        lambda settings: target_for(settings).down(),
        lambda settings: target_for(settings).stop_workers(),
        lambda settings: stop_services(settings, settings.home / "systemd"),
        lambda settings: target_for(settings).stop_recorder(),
        lambda settings: on(ProcessTarget, settings).down(),
        lambda settings: on(ProcessTarget, settings).stop_recorder(),
        lambda settings: on(ComposeTarget, settings).stop_recorder(),
        lambda settings: on(ProcessTarget, settings).restart_workers(),
        lambda settings: on(ComposeTarget, settings).down(),
        lambda settings: on(ComposeTarget, settings).start(),
    ],
    ids=[
        "units",
        "unit",
        "services",
        "unit of the recorder",
        "scripts",
        "script of the recorder",
        "container of the recorder",
        "restart",
        "containers",
        "new containers",
    ],
)
def test_a_recording_in_progress_may_end_however_long_it_is(
    long_recordings: Settings, patience: list[float], stop: Callable[[Settings], None]
) -> None:
    stop(long_recordings)

    assert max(patience) > 3610


def test_lingering_is_never_switched_on_behind_the_users_back(
    units: Settings, fake_systemctl: Path, tmp_path: Path
) -> None:
    loginctl = tmp_path / "fake" / "loginctl"
    loginctl.write_text(f'#!/bin/sh\necho "loginctl $@" >>"{fake_systemctl}"\necho no\n')
    loginctl.chmod(0o755)
    target_for(units).up()

    message = status_services(units).message

    assert message == "they stop when you log out; to keep them: loginctl enable-linger"
    assert "enable-linger" not in fake_systemctl.read_text()


def test_every_target_renders_the_same_scripts(tmp_path: Path, program_name: str) -> None:
    texts = []
    for name in ("process", "systemd"):
        settings = Settings(home=tmp_path / name)
        setup_program(settings, program_name, target=name)
        texts.append({one.name: one.read_text() for one in (settings.home / "bin").iterdir()})

    assert texts[0] == texts[1]
