"""``acoupi compose``: what it runs, what it says, and what it refuses before anything starts."""

import fcntl
import json
import shlex
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi import __version__
from acoupi.system import Settings
from tests.cli.fake_docker import FakeDocker
from tests.cli.support import READY, Run, Services, error_of, lines_of

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
    assert "is not on this machine yet" in result.stderr


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
    other_version: ("from another version", "0.3.0", 3),
    no_program: ('the program "demo"', "no module has that name", 3),
    wide_override: ("isolate its containers", "default is privileged", 3),
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

    assert "isolate its containers" in lines_of(result)[0]
    assert not any(line.startswith(("compose stop", "compose down")) for line in docker.asked)


def test_what_up_refuses_a_deployment_refuses_too(
    run: Run, docker: FakeDocker, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_permission(docker, bundle, monkeypatch)

    result = run("deployment", "start", "--name", "heath")

    assert "permission denied" in lines_of(result)[1]
    assert docker.started == []
    assert not Settings(home=bundle).deployment_file.exists()
