"""``acoupi compose``: what it runs, what it says, and what it refuses before anything starts."""

import fcntl
import json
import shlex
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import Result

from acoupi import __version__
from acoupi.bundles.engine import Answer, Engine
from acoupi.bundles.images import image_name
from acoupi.bundles.variables import choose
from acoupi.cli.watching import describe
from acoupi.system import Sensor, Settings, target_for
from acoupi.targets import ServiceStatus
from acoupi.targets.compose import ComposeTarget
from tests.cli.fake_docker import FakeDocker
from tests.cli.support import READY, Run, Services, lines_of
from tests.services import DEADLINE


def error_of(result: Result) -> list[str]:
    """The three lines at the end of what a command said."""
    lines = result.stderr.splitlines()[-3:]
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"], result.stderr
    assert sum(line.startswith("Error:") for line in result.stderr.splitlines()) == 1
    return lines


# ---- up


def test_up_looks_starts_and_waits_until_all_work(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({"recording": "starting", "default": "starting"}, READY)

    result = run("compose", "up")

    assert result.exit_code == 0, result.stderr
    assert docker.started == ["compose up --detach --remove-orphans"]
    assert "recording    starting" in result.stderr
    assert "✓ All 5 services are working" in result.stdout
    for command in ("acoupi compose ps", "acoupi compose logs", "acoupi compose down"):
        assert command in result.stdout


@pytest.mark.parametrize("words", [("compose", "up"), ("deployment", "start", "--name", "Oak")])
def test_a_setup_of_another_shell_is_waited_for(
    run: Run,
    docker: FakeDocker,
    bundle: Path,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    services(READY)
    compose = bundle / "docker-compose.yml"
    whole, lock, tries = compose.read_text(), fcntl.flock, []

    def flock(handle: int, how: int) -> None:
        """The other shell holds the lock when it is first asked for, and ends then."""
        tries.append(handle)
        if len(tries) == 1:
            raise BlockingIOError
        compose.write_text(whole)
        lock(handle, how)

    compose.write_text(f"{whole}# half written\n")
    monkeypatch.setattr(fcntl, "flock", flock)

    result = run(*words)

    assert "by hand" not in result.stderr
    assert docker.started[0].startswith("compose up"), result.stderr


def test_up_notes_the_image_for_the_outputs_of_models(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    labels = {"org.opencontainers.image.version": __version__, "io.acoupi.source": "abc"}
    found = {"Id": "sha256:12", "Config": {"Labels": labels}}
    docker.answer("image inspect", json.dumps(found))
    services(READY)

    assert run("compose", "up").exit_code == 0

    assert "ACOUPI_IMAGE_ID=sha256:12@abc" in (bundle / ".env").read_text().splitlines()


def test_the_command_that_runs_is_shown_so_that_it_can_be_copied(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services(READY)
    (bundle / "docker-compose.override.yml").write_text("services: {}\n")

    silent = run("compose", "up")
    result = run("-v", "compose", "up")

    assert "+ " not in silent.stderr
    (shown,) = [line for line in result.stderr.splitlines() if line.startswith("+ ")]
    words = shlex.split(shown.removeprefix("+ "))
    assert words[:2] == ["docker", "compose"]
    assert str(bundle / "docker-compose.yml") in words
    assert str(bundle / "docker-compose.override.yml") in words, "the override is respected"


def test_a_service_that_does_not_come_up_is_shown_with_its_last_words(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({"recording": "ready", "default": "starting"})

    result = run("compose", "up", "--timeout", "1")

    lines = error_of(result)
    assert "default does not work" in lines[0]
    assert "the model is broken" in lines[1]
    assert "acoupi compose logs default" in lines[2]
    assert "    it ended" in result.stderr.splitlines()
    assert result.exit_code == 1


def test_what_the_engine_refused_to_make_is_not_waited_for(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    docker.answer("compose up", err="Error response from daemon: invalid mount\n", code=1)
    services(READY).is_up = False

    result = run("compose", "up", "--timeout", "1000")

    assert "nothing was started" in error_of(result)[0]
    assert result.exit_code == 1


def test_a_service_that_ends_again_and_again_is_not_waited_for(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services({"recording": "ready", "default": "restarting"}).restarts = {"default": 3}

    result = run("compose", "up", "--timeout", "1000")

    assert "default does not work" in error_of(result)[0]


def test_a_service_that_works_may_have_ended_often_before(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    looks = services({"recording": "ready", "default": "starting"}, READY)
    looks.restarts = {"recording": 7}

    assert run("compose", "up", "--timeout", "1000").exit_code == 0


@pytest.mark.parametrize("option", ["--no-wait", "-d", "--detach"])
def test_with_no_wait_it_ends_as_docker_compose_does(
    run: Run, docker: FakeDocker, bundle: Path, option: str
) -> None:
    docker.answer("compose up", code=17)

    assert run("compose", "up", option).exit_code == 17


def test_an_interrupt_leaves_the_bundle_as_it_is_and_says_so(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services(READY).interrupts = True

    result = run("compose", "up")

    assert result.exit_code == 130
    assert "left as they are" in result.stderr
    assert "acoupi compose down" in result.stderr
    assert "Traceback" not in result.stderr
    assert docker.started == ["compose up --detach --remove-orphans"], "nothing is stopped"


def test_an_interrupt_of_docker_compose_itself_is_one_too(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    docker.answer("compose up", code=130)

    result = run("compose", "up")

    assert result.exit_code == 130
    assert "left as they are" in result.stderr


def test_an_image_from_elsewhere_that_is_absent_is_fetched(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services(READY)
    content = json.loads(json.dumps(dict(_config(docker))))
    for service in content["services"].values():
        service["image"] = "ghcr.io/heath/sensor:1"
    docker.answer("compose config", json.dumps(content))
    docker.answer("image inspect", code=1, err="Error: No such image\n")

    result = run("compose", "up")

    assert result.exit_code == 0, result.stderr
    assert docker.started[0].startswith("compose pull")
    assert docker.started[1].startswith("compose up")


def test_an_image_that_cannot_be_fetched_is_three_lines(
    run: Run, docker: FakeDocker, bundle: Path
) -> None:
    docker.answer("image inspect", code=1, err="Error: No such image\n")
    docker.answer("compose pull", code=18)

    result = run("compose", "up", "--pull")

    assert "cannot fetch" in error_of(result)[0]
    assert not any(line.startswith("compose up") for line in docker.started)


def test_an_image_of_ours_that_is_absent_is_built(
    run: Run, docker: FakeDocker, bundle: Path, services: Services
) -> None:
    services(READY)
    docker.answer("buildx build", "#5 [sensor 2/7] RUN apt-get update\n#5 1.02 Reading lists\n")
    docker.answer("image inspect", code=1, err="Error: No such image\n")

    result = run("compose", "up")

    assert result.exit_code == 0, result.stderr
    (build,) = [line for line in docker.started if line.startswith("buildx build")]
    assert "images/sensor/Dockerfile" in build
    assert "Building the image: step 2/7, RUN apt-get update" in result.stderr
    assert "Reading lists" not in result.stderr
    assert "Reading lists" in run("-v", "compose", "up").stderr
    assert "is not here yet" in result.stderr


def _config(docker: FakeDocker) -> dict[str, Any]:
    texts = [out for start, (_, out, _) in docker.answers if start == "compose config"]
    found: dict[str, Any] = json.loads(texts[0])
    return found


# ---- what is refused before anything is started


def no_docker(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.remove()
    monkeypatch.setenv("PATH", str(docker.folder))


def no_engine(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("info", '{"ServerErrors": ["Cannot connect to the Docker daemon"]}', code=1)


def no_permission(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("info", code=1, err="Got permission denied while trying to connect\n")


def old_engine(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("info", json.dumps({"ServerVersion": "18.09.1", "DockerRootDir": "/"}))


def no_compose(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("compose version", code=1, err="docker: 'compose' is not a docker command.\n")


def no_space(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("image inspect", code=1, err="Error: No such image\n")
    full = SimpleNamespace(total=1_000_000_000, used=700_000_000, free=300_000_000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: full)


def edited(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (home / "docker-compose.yml").open("a") as stream:
        stream.write("# mine\n")


def name_in_use(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = _config(docker)["name"]
    files = "/srv/other/docker-compose.yml"
    others = [{"Name": name, "Status": "running(5)", "ConfigFiles": files}]
    docker.answer("compose ls", json.dumps(others))


def other_version(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = {"org.opencontainers.image.version": "0.3.0"}
    docker.answer("image inspect", json.dumps({"Config": {"Labels": labels}}))


def no_program(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.answer("run", code=1, err='cannot find the program "demo". no module has that name.\n')


def bad_override(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "docker-compose.override.yml").write_text("services: 3\n")
    docker.answer("compose config", code=15, err="services must be a mapping\n")


def wide_override(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _config(docker)
    content["services"]["default"]["privileged"] = True
    docker.answer("compose config", json.dumps(content))


def port_in_use(docker: FakeDocker, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = _config(docker)
    content["services"]["page"] = {
        "image": "page",
        "ports": [{"host_ip": "127.0.0.1", "published": str(docker.taken_port), "protocol": "tcp"}],
    }
    docker.answer("compose config", json.dumps(content))
    (home / "docker-compose.override.yml").write_text("services: {page: {image: page}}\n")


REFUSALS: dict[Callable[[FakeDocker, Path, pytest.MonkeyPatch], None], tuple[str, str, int]] = {
    no_docker: ("cannot reach the Docker engine", "not installed", 3),
    no_engine: ("cannot reach the Docker engine", "Cannot connect", 3),
    no_permission: ("cannot reach the Docker engine", "permission denied", 3),
    old_engine: ("18.09.1 is too old", "20.10", 3),
    no_compose: ("cannot run Docker Compose", "no Compose v2", 3),
    no_space: ("no space for the images", "300 MB free", 3),
    edited: ("docker-compose.yml", "setup generates it", 2),
    name_in_use: ("is in use", "/srv/other/docker-compose.yml", 3),
    other_version: ("of another version", "0.3.0", 3),
    no_program: ('the program "demo"', "no module has that name", 3),
    wide_override: ("keep its containers apart", "default is privileged", 3),
    port_in_use: ("/tcp is in use", "docker-compose.override.yml", 3),
    bad_override: ("Docker Compose refuses", "services must be a mapping", 3),
}


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_up_refuses_in_three_lines_and_starts_nothing(
    run: Run,
    docker: FakeDocker,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    spoil: Callable[[FakeDocker, Path, pytest.MonkeyPatch], None],
) -> None:
    message, why, code = REFUSALS[spoil]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        docker.taken_port = listener.getsockname()[1]
        spoil(docker, bundle, monkeypatch)

        result = run("compose", "up")

    lines = lines_of(result)
    assert message in lines[0]
    assert why in lines[1]
    assert result.exit_code == code
    assert docker.started == []


def test_what_could_not_start_again_is_not_stopped(
    run: Run,
    docker: FakeDocker,
    bundle: Path,
    services: Services,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    services({**READY, "beat": "ready"})
    wide_override(docker, bundle, monkeypatch)

    result = run("workers", "restart")

    assert "keep its containers apart" in lines_of(result)[0]
    assert not any(line.startswith(("compose stop", "compose down")) for line in docker.asked)


def test_what_up_refuses_a_deployment_refuses_too(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_permission(docker, bundle, monkeypatch)

    result = run("deployment", "start", "--name", "heath")

    assert "permission denied" in lines_of(result)[1]
    assert docker.started == []
    assert not Settings(home=bundle).deployment_file.exists()


# ---- the other commands


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

    assert "the bundle runs ghcr.io/heath/sensor:1" in result.stderr
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
