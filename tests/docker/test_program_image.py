"""A program of somebody else, baked into a layer of its own."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acoupi.bundles.images import BASE, build_image, image_name, why_build
from acoupi.bundles.variables import choose
from acoupi.errors import TargetError
from acoupi.offers import Offer, make_key, public_key, sealed
from acoupi.system import Settings
from acoupi.system.planning import SetupRequest, plan_setup
from acoupi.targets.balena import write_balena_folder
from tests.docker.bundles import Bundle, docker

ROOT = Path(__file__).parents[2]
NIGHTJAR = ROOT / "tests" / "integration" / "published" / "acoupi_nightjar"
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "acoupi-nightjar"
version = "0.1"
dependencies = ["{numpy}"]
"""


@contextlib.contextmanager
def package_of(folder: Path, numpy: str) -> Iterator[str]:
    """Give a folder with a program, as its author has it."""
    shutil.copytree(NIGHTJAR, folder / "acoupi_nightjar")
    (folder / "pyproject.toml").write_text(PROJECT.format(numpy=numpy))
    try:
        yield str(folder)
    finally:
        docker("rmi", "--force", image_name([str(folder)]), check=False)


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    """A program that takes what the sensor image has."""
    with package_of(tmp_path / "nightjar", "numpy") as folder:
        yield folder


@pytest.fixture
def older_package(tmp_path: Path) -> Iterator[str]:
    """A program whose model wants an older numpy than the sensor image has, as BirdNET's does."""
    with package_of(tmp_path / "nightjar", "numpy<2") as folder:
        yield folder


def test_a_program_is_a_thin_layer_on_the_sensor_image(image: str, package: str) -> None:
    name = build_image([package])

    code = "import acoupi_nightjar, shutil; print(shutil.which('pip'))"
    said = docker("run", "--rm", "--network", "none", "--read-only", name, "python", "-c", code)
    size, sensor = (
        int(docker("image", "inspect", "--format", "{{.Size}}", one).stdout)
        for one in (name, image)
    )
    assert said.stdout.strip() == "None"
    assert size - sensor < 1_000_000
    assert why_build(name, [package]) is None
    (Path(package) / "acoupi_nightjar" / "more.py").write_text("")
    assert why_build(name, [package]) is not None


def test_the_image_checks_settings_that_a_hub_signed(image: str) -> None:
    key = make_key()
    offer = Offer(sensor="oak-1", number=7, minutes=1, settings={"detections": {"threshold": 0.6}})
    envelope = sealed(key, offer).model_dump_json()
    code = (
        "import sys; from acoupi.offers import Envelope; "
        "print(Envelope.model_validate_json(sys.argv[1]).opened(sys.argv[2], 'oak-1').number)"
    )

    run = ("run", "--rm", "--network", "none", "--read-only", image, "python", "-c", code)

    assert docker(*run, envelope, public_key(key)).stdout.split() == ["7"]
    others = docker(*run, envelope, public_key(make_key()), check=False)
    assert "signed by another key" in others.stderr


def test_the_documentation_is_in_the_image_and_read_without_a_network(image: str) -> None:
    listed = docker("run", "--rm", "--network", "none", "--read-only", image, "acoupi", "help")
    page = docker(
        "run", "--rm", "--network", "none", "--read-only", image, "acoupi", "help", "exit-codes"
    )

    folder = ROOT / "acoupi" / "docs"
    names = {str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.md")}
    assert {line.split()[0] for line in listed.stdout.splitlines() if line[:2] == "  "} == names
    assert page.stdout == (folder / "reference" / "exit-codes.md").read_text()


def test_a_package_that_there_is_not_is_named(image: str) -> None:
    with pytest.raises(TargetError, match="acoupi-is-not-published-anywhere") as raised:
        build_image(["acoupi-is-not-published-anywhere"])

    assert raised.value.why
    assert raised.value.help


OPTIONS = ("--microphone.device_name", "default", "--microphone.samplerate", "48000")


VERSIONS = """
import importlib.metadata as known, numpy
print(numpy.__version__, *known.distribution("numpy").read_text("METADATA").splitlines()[2].split())
print(*sorted(one.version for one in known.distributions() if one.name in ("numpy", "celery")))
"""


def test_a_host_without_the_program_sets_it_up_and_runs_it(
    fresh: Bundle, older_package: str
) -> None:
    package = older_package
    given = ("setup", "--package", package, "--program", "acoupi_nightjar.program", "--no-prompt")

    all_day = ("--recording.schedule_start", "0:00", "--recording.schedule_end", "0:00")

    done = fresh.acoupi(*given, *OPTIONS, *all_day, timeout=250)

    assert done.returncode == 0, done.stderr
    shown, building, _ = done.stderr.partition("Building the image: step 1/")
    assert building
    assert "Licence of acoupi-nightjar 0.1: not stated" in shown
    assert f"ACOUPI_IMAGE={image_name([package])}\n" in (fresh.home / ".env").read_text()
    choose(fresh.home, {"ACOUPI_SIMULATED_AUDIO": "synthetic"})
    assert fresh.acoupi("config", "set", "recording.duration", "2").returncode == 0
    assert fresh.acoupi("config", "get", "recording.duration").stdout.strip() == "2"
    check = fresh.acoupi("check")
    assert check.returncode == 0, check.stderr
    assert "The model works (container detection)" in check.stdout
    up = fresh.acoupi("compose", "up")
    assert up.returncode == 0, up.stderr
    fresh.eventually(fresh.are_ready, "every service ready")
    fresh.goes_on("a recording and its analysis")
    versions = fresh.python_in("detection", VERSIONS).split()
    assert versions[0] == versions[2] == versions[3]
    assert versions[0].startswith("1.26.")
    assert f"celery=={versions[4]} " in (ROOT / "images/sensor/requirements.txt").read_text()
    assert len(versions) == 5, "one of each, nothing of the newer is left"
    assert fresh.acoupi("deployment", "status").returncode == 0
    assert fresh.acoupi("compose", "down").returncode == 0


def test_what_is_wrong_is_said_from_inside_and_nothing_is_set_up(
    fresh: Bundle, package: str
) -> None:
    given = ("setup", "--package", package, "--program", "acoupi_nightjar.program", "--no-prompt")

    done = fresh.acoupi(*given, *OPTIONS, "--recording.duratoin", "2", timeout=250)

    assert done.returncode == 2
    assert 'there is no setting "--recording.duratoin"' in done.stderr
    assert "--recording.duration" in done.stderr
    assert not (fresh.home / "docker-compose.yml").exists()


def test_what_is_installed_carries_all_that_its_image_is_made_from(image: str) -> None:
    code = "from acoupi.bundles import images; print(images._digest(()), images.source_dir())"

    said = docker("run", "--rm", "--network", "none", image, "python", "-c", code).stdout.split()
    label = '{{index .Config.Labels "io.acoupi.source"}}'

    assert said[0] == docker("image", "inspect", "--format", label, image).stdout.strip()
    assert said[1].endswith("/acoupi/_bundle")


def test_a_folder_for_balena_builds_from_itself_with_the_program_in_it(
    image: str, package: str, tmp_path: Path
) -> None:
    network = docker("image", "inspect", "--format", "{{len .RepoDigests}}", BASE, check=False)
    here = "host" if network.stdout.strip() == "0" else "default"
    settings = Settings(home=tmp_path / "nowhere")
    stack = plan_setup(settings, SetupRequest("demo", target="balena", environ={})).stack
    folder, tag = tmp_path / "fleet", f"acoupi-test-folder-{os.getpid()}"
    write_balena_folder(folder, stack, settings, packages=[package])
    build = yaml.safe_load((folder / "docker-compose.yml").read_text())["x-service"]["build"]
    context = folder / build["context"]

    docker("build", "--network", here, "--tag", tag, "--file",
           str(context / build["dockerfile"]), str(context), timeout=280)  # fmt: skip
    try:
        code = "import acoupi_nightjar, os; print(os.stat('/run/keys/recording').st_uid)"
        said = docker("run", "--rm", "--network", "none", tag, "python", "-c", code).stdout
    finally:
        docker("rmi", tag)

    assert said.strip() == "1000"
