"""``acoupi compose``: what its other commands hand on, render, describe and check."""

import threading
from pathlib import Path

import pytest

from acoupi.bundles.engine import Answer, Engine
from acoupi.bundles.images import image_name
from acoupi.bundles.variables import choose
from acoupi.cli.watching import describe
from acoupi.system import Sensor, Settings, target_for
from acoupi.targets import ServiceStatus
from acoupi.targets.compose import ComposeTarget
from tests.cli.fake_docker import FakeDocker
from tests.cli.support import Run, lines_of
from tests.services import DEADLINE

NEEDS_A_BUNDLE = [
    ["render"],
    ["build"],
    ["pull"],
    ["config"],
    ["up"],
    ["down"],
    ["restart"],
    ["exec", "default", "true"],
    ["ps"],
    ["logs"],
    ["top"],
]


@pytest.mark.parametrize("args", NEEDS_A_BUNDLE, ids=" ".join)
def test_where_no_sensor_is_set_up_every_command_says_so(
    run: Run, docker: FakeDocker, home: Path, args: list[str]
) -> None:
    result = run("compose", *args)

    assert "there is no sensor" in lines_of(result)[0]
    assert result.exit_code == 2
    assert docker.asked == []


@pytest.mark.parametrize("args", NEEDS_A_BUNDLE, ids=" ".join)
def test_a_home_of_another_target_is_left_alone(
    run: Run, docker: FakeDocker, home: Path, args: list[str]
) -> None:
    run("setup", "--program", "test", "--target", "process")

    result = run("compose", *args)

    assert lines_of(result)[2] == "  Try: acoupi setup --target compose"
    assert docker.asked == []


@pytest.mark.parametrize(
    "args",
    [
        ["pull"],
        ["config", "--services"],
        ["restart", "recording"],
        ["exec", "-T", "default", "ls", "-l", "--help"],
        ["logs", "--follow", "--tail", "3", "recording"],
        ["top"],
        ["stats", "--no-stream"],
        ["newfangled", "--option", "-x"],
    ],
    ids=" ".join,
)
def test_what_docker_compose_does_is_handed_to_it_word_by_word(
    run: Run, docker: FakeDocker, bundle: Path, args: list[str]
) -> None:
    docker.answer(f"compose {args[0]}", code=5)

    result = run("compose", *args)

    assert docker.asked[-1] == " ".join(["compose", *args])
    assert result.exit_code == 5
    assert result.stderr == ""


@pytest.mark.parametrize("args", [["up", "--no-wait"], ["restart"], ["start", "default"]])
def test_secrets_that_an_editor_put_in_sight_of_all_are_out_of_it_before_a_start(
    run: Run, docker: FakeDocker, bundle: Path, args: list[str]
) -> None:
    link = bundle / "config" / "secrets.env"
    link.unlink()
    link.write_text("ACOUPI_CONFIG__MESSAGING__HTTP__TOKEN=hush\n")

    result = run("compose", *args)

    assert result.exit_code == 0, result.stderr
    assert link.is_symlink()
    assert "hush" in (bundle / "secrets" / "config" / "secrets.env").read_text()


def test_a_command_with_a_slip_is_not_handed_on(run: Run, docker: FakeDocker, bundle: Path) -> None:
    result = run("compose", "lgos")

    assert lines_of(result)[2] == "  Try: acoupi compose logs"
    assert result.exit_code == 2
    assert not any("lgos" in line for line in docker.asked)


def test_render_writes_the_file_again(run: Run, docker: FakeDocker, bundle: Path) -> None:
    file = bundle / "docker-compose.yml"
    before = file.read_text()
    file.unlink()

    result = run("compose", "render")

    assert result.exit_code == 0, result.stderr
    assert file.read_text() == before


def test_render_does_not_write_over_what_was_edited(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    file = bundle / "docker-compose.yml"
    file.write_text(file.read_text() + "# mine\n")

    refused = run("compose", "render")
    shown = run("compose", "render", "--diff")

    assert "edited by hand" in lines_of(refused)[0]
    assert "-# mine" in shown.stdout
    assert run("compose", "render", "--force").exit_code == 0
    assert "# mine" not in file.read_text()


def test_an_image_with_a_program_is_what_runs_from_then_on(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    result = run("-v", "compose", "build", "--package", "acoupi-birdnet")
    again = run("compose", "build")

    image = image_name(["acoupi-birdnet"])
    assert f"The image {image} is built." in result.stdout
    assert "+ docker buildx build" in result.stderr
    assert f"ACOUPI_IMAGE={image}\n" in (bundle / ".env").read_text()
    assert again.exit_code == 0, again.stderr
    assert docker.built == ["acoupi-birdnet", "acoupi-birdnet"], "as before"


def test_an_image_from_elsewhere_stays_what_runs(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    choose(bundle, {"ACOUPI_IMAGE": "ghcr.io/heath/sensor:1"})

    result = run("compose", "build")

    assert "the bundle still runs ghcr.io/heath/sensor:1" in result.stderr
    assert "ACOUPI_IMAGE=ghcr.io/heath/sensor:1\n" in (bundle / ".env").read_text()


def test_variables_that_would_mislead_compose_do_not_reach_it(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COMPOSE_PROJECT_NAME", "another")
    text = docker.program.read_text().replace(
        "script = ", "import os; assert 'COMPOSE_PROJECT_NAME' not in os.environ; script = "
    )
    docker.program.write_text(text)

    assert run("compose", "top").exit_code == 0


def test_a_status_is_described_with_what_there_is_to_say() -> None:
    status = ServiceStatus(name="beat", role="beat", state="stopped", message="it fell asleep")

    assert describe(status) == "stopped (it fell asleep)"


def test_this_machine_is_asked_once_a_command_unless_the_image_changes(
    bundle: Path, docker: FakeDocker
) -> None:
    target = target_for(Settings(home=bundle))

    def times_asked() -> int:
        target.check()
        return len([line for line in docker.asked if line.startswith("info")])

    first = times_asked()
    assert times_asked() == first
    choose(bundle, {"ACOUPI_IMAGE": "acoupi/other:1"})
    assert times_asked() == first + 1


class Meeting(Engine):
    """Answers each container that is run once as many run at the same time."""

    def __init__(self, containers: int) -> None:
        self._all_run = threading.Barrier(containers, timeout=DEADLINE)

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if "run" in words:
            self._all_run.wait()
        return Answer(0, f"{words[-1]} is well\n")


def test_the_parts_of_the_program_are_checked_side_by_side(bundle: Path) -> None:
    settings = Settings(home=bundle)
    target = ComposeTarget(settings, Sensor.read(settings).manifest, Meeting(3))

    said = {part: check() for part, _, check in target.program_checks()}

    assert said == {"microphone": None, "model": "model is well", "rest": None}


class Alone(Engine):
    """Notes whether another container is run while the first one runs."""

    def __init__(self) -> None:
        self.ran, self._another = 0, threading.Event()
        self.was_alone = False

    def ask(self, *words: str, timeout: float = 0) -> Answer:
        if "run" in words:
            self.ran += 1
            if self.ran == 1:
                self.was_alone = not self._another.wait(0.5)
            else:
                self._another.set()
        return Answer(0)


@pytest.mark.parametrize("network", ["of the page", "of an override"])
def test_where_compose_makes_networks_the_first_container_makes_them(
    bundle: Path, run: Run, network: str
) -> None:
    if network == "of the page":
        result = run("setup", "--program", "demo", "--sensor.web.enabled", "true", "--no-prompt")
        assert result.exit_code == 0, result.stderr
    else:
        (bundle / "docker-compose.override.yml").write_text("networks: {lan: {}}\n")
    settings, engine = Settings(home=bundle), Alone()
    target = ComposeTarget(settings, Sensor.read(settings).manifest, engine)

    for _, _, check in target.program_checks():
        check()

    assert engine.ran == 3
    assert engine.was_alone
