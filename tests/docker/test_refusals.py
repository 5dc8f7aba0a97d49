"""What is refused on a real engine, before anything is started."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from acoupi.bundles.images import image_name
from acoupi.bundles.variables import choose
from acoupi.targets.compose import ComposeTarget
from tests.docker.bundles import QUICK, Bundle, bundle_at, docker
from tests.services import require

ACOUPI = Path(sys.executable).with_name("acoupi")
OTHER = image_name().replace("/sensor:", "/test-other-version:")


def up(bundle: Bundle, *before: str, **variables: str) -> tuple[int, list[str]]:
    """Start it as a person would; return the exit code, and the three lines of the error.

    `before` stands before the command.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("ACOUPI_", "COMPOSE_"))}
    done = subprocess.run(
        [*before, ACOUPI, "compose", "up"], stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
        env={**environment, "ACOUPI_HOME": str(bundle.home), "NO_COLOR": "1", **variables},
    )  # fmt: skip
    lines = done.stderr.splitlines()[-3:]
    assert [line.split(":")[0].strip() for line in lines] == ["Error", "Why", "Try"], done.stderr
    return done.returncode, lines


def edited(bundle: Bundle) -> None:
    with (bundle.home / "docker-compose.yml").open("a") as file:
        file.write("# mine\n")


def privileged(bundle: Bundle) -> None:
    text = "services: {default: {privileged: true}}\n"
    (bundle.home / "docker-compose.override.yml").write_text(text)


def engine_in_reach(bundle: Bundle) -> None:
    text = "services: {spy: {image: a, volumes: ['/var/run/docker.sock:/s/docker.sock']}}\n"
    (bundle.home / "docker-compose.override.yml").write_text(text)


def second_ear(bundle: Bundle) -> None:
    text = "services: {spy: {image: a, devices: [/dev/null:/dev/snd/pcm], "
    text += "device_cgroup_rules: ['c 116:* rw']}}\n"
    (bundle.home / "docker-compose.override.yml").write_text(text)


def broken(bundle: Bundle) -> None:
    (bundle.home / "docker-compose.override.yml").write_text("services: 3\n")


def other_version(bundle: Bundle) -> None:
    text = f"FROM {image_name()}\nLABEL org.opencontainers.image.version=0.3.0\n"
    build = ["docker", "build", "--quiet", "--tag", OTHER, "-"]
    subprocess.run(build, input=text, text=True, check=True, capture_output=True, timeout=120)
    choose(bundle.home, {"ACOUPI_IMAGE": OTHER})


def not_ours(bundle: Bundle) -> None:
    choose(bundle.home, {"ACOUPI_IMAGE": "debian:bookworm-slim"})


def without_the_program(bundle: Bundle) -> None:
    path = bundle.settings.manifest_file
    path.write_text(path.read_text().replace("acoupi.programs.demo", "acoupi_far.program"))


REFUSALS: dict[Callable[[Bundle], None], tuple[str, str, int]] = {
    edited: ("docker-compose.yml", "setup generates it", 2),
    privileged: ("isolate its containers", "default has privileged true", 3),
    engine_in_reach: ("isolate its containers", 'spy has "/var/run/docker.sock"', 3),
    second_ear: ("isolate its containers", "spy has device_cgroup_rules", 3),
    broken: ("Docker Compose refuses", "services must be a mapping", 3),
    other_version: ("is from another version", "0.3.0", 3),
    not_ours: ("is not an acoupi image", "label", 3),
    without_the_program: ('the program "acoupi_far.program"', "no module has that name", 3),
}


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_it_is_three_lines_and_nothing_is_started(
    fresh: Bundle, spoil: Callable[[Bundle], None]
) -> None:
    message, why, code = REFUSALS[spoil]
    fresh.set_up(*QUICK)
    project = ComposeTarget(fresh.settings).project
    spoil(fresh)
    try:
        ended, lines = up(fresh)
    finally:
        docker("rmi", "--force", OTHER, check=False)
        (fresh.home / "docker-compose.override.yml").unlink(missing_ok=True)

    assert message in lines[0]
    assert why in lines[1]
    assert ended == code
    label = f"label=com.docker.compose.project={project}"
    assert docker("ps", "--all", "--quiet", "--filter", label).stdout == ""


MACHINES = {
    "no Compose": ('mount -t tmpfs none "$PLUGINS"', "cannot run Docker Compose", "no Compose v2"),
    "no space": (
        'mount -t tmpfs -o size=50m none "$ENGINE"',
        "there is no space for its containers",
        "free, but",
    ),
    "engine elsewhere": (
        'cd "$ACOUPI_HOME/.." && mv sensor mine && mkdir sensor && mount --bind mine sensor',
        "the Docker engine cannot mount",
        "it has no such folder",
    ),
    "home is read-only": (
        'mount --bind "$ACOUPI_HOME" "$ACOUPI_HOME" && mount -o remount,bind,ro "$ACOUPI_HOME"',
        "cannot write in ACOUPI_HOME",
        "this user has no permission",
    ),
}
"""What the command finds: how its own view of the file systems is made so, and what it says."""


@pytest.mark.parametrize("name", MACHINES)
def test_what_the_machine_lacks_is_named(fresh: Bundle, name: str) -> None:
    require("another view of the file systems needs root", os.geteuid() == 0)
    change, message, why = MACHINES[name]
    plugins = json.loads(docker("info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    compose = next(one["Path"] for one in plugins if one["Name"] == "compose")
    engine = docker("info", "--format", "{{.DockerRootDir}}").stdout.strip()
    fresh.set_up(*QUICK)

    code, lines = up(
        fresh, "unshare", "--mount", "sh", "-c", f'{change} && exec "$@"', "sh",
        PLUGINS=str(Path(compose).parent), ENGINE=engine,
    )  # fmt: skip

    assert message in lines[0]
    assert why in lines[1]
    assert code == 3


def test_an_engine_that_refuses_this_user_is_named(image: str) -> None:
    require("becoming another user needs root", os.geteuid() == 0)
    # The other user may read whatever root's folders hold, as if all this was installed for it.
    reading = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
    other = ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", *reading)
    with TemporaryDirectory(prefix="acoupi-") as folder:  # its own: nobody looks into tmp_path
        Path(folder).chmod(0o755)
        with bundle_at(Path(folder) / "sensor") as bundle:
            bundle.set_up(*QUICK)

            code, lines = up(bundle, *other)

    assert "cannot reach the Docker engine" in lines[0]
    assert "this user may not use its socket: permission denied" in lines[1]
    assert "usermod -aG docker" in lines[2]
    assert code == 3


def test_an_engine_that_is_not_there_is_named(fresh: Bundle, tmp_path: Path) -> None:
    fresh.set_up(*QUICK)

    code, lines = up(fresh, DOCKER_HOST=f"unix://{tmp_path}/docker.sock")

    assert "cannot reach the Docker engine" in lines[0]
    assert code == 3


def test_the_current_context_says_which_engine_is_asked(fresh: Bundle, tmp_path: Path) -> None:
    fresh.set_up(*QUICK)
    far = f"host=unix://{tmp_path}/far.sock"
    known = {**os.environ, "DOCKER_CONFIG": str(tmp_path / "docker")}
    for words in (["create", "far", "--docker", far], ["use", "far"]):
        context = ["docker", "context", *words]
        subprocess.run(context, env=known, check=True, capture_output=True, timeout=30)

    ps = subprocess.run(
        [ACOUPI, "compose", "ps"], capture_output=True, text=True, timeout=60, check=False,
        env={**known, "ACOUPI_HOME": str(fresh.home)},
    )  # fmt: skip

    assert ps.returncode == 3
    assert "unknown" in ps.stdout
    assert "FileNotFoundError" in ps.stdout


def test_a_project_name_in_use_is_named(bundles: tuple[Bundle, Bundle]) -> None:
    one, two = bundles
    for bundle in bundles:
        bundle.set_up(*QUICK)
        choose(bundle.home, {"COMPOSE_PROJECT_NAME": "acoupi-test-of-one-name"})
    one.compose("up", "-d", "redis")

    code, lines = up(two)

    assert 'the project name "acoupi-test-of-one-name" is in use' in lines[0]
    assert str(one.home) in lines[1]
    assert code == 3


def test_a_port_in_use_is_named(fresh: Bundle) -> None:
    import socket  # noqa: PLC0415 - only here

    fresh.set_up(*QUICK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f"services: {{page: {{image: a, ports: ['127.0.0.1:{port}:80']}}}}\n"
        (fresh.home / "docker-compose.override.yml").write_text(text)

        code, lines = up(fresh)

    assert f"the port {port}/tcp is in use" in lines[0]
    assert code == 3
