"""A program of somebody else, baked into a layer of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from acoupi.errors import TargetError
from acoupi.system import Settings
from acoupi.system.planning import plan_setup
from acoupi.system.targets.balena import write_balena_folder
from acoupi.system.targets.images import BASE, build_image, image_name, why_build
from tests.docker.bundles import docker

NIGHTJAR = Path(__file__).parents[1] / "integration" / "published" / "acoupi_nightjar"
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "acoupi-nightjar"
version = "0.1"
dependencies = ["numpy"]
"""


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    """A folder with a program, as its author has it."""
    folder = tmp_path / "nightjar"
    shutil.copytree(NIGHTJAR, folder / "acoupi_nightjar")
    (folder / "pyproject.toml").write_text(PROJECT)
    yield str(folder)
    docker("rmi", "--force", image_name([str(folder)]), check=False)


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


def test_a_package_that_there_is_not_is_named(image: str) -> None:
    with pytest.raises(TargetError, match="acoupi-is-not-published-anywhere") as raised:
        build_image(["acoupi-is-not-published-anywhere"])

    assert raised.value.why
    assert raised.value.help


def test_a_folder_for_balena_builds_from_itself_with_the_program_in_it(
    image: str, package: str, tmp_path: Path
) -> None:
    network = docker("image", "inspect", "--format", "{{len .RepoDigests}}", BASE, check=False)
    here = "host" if network.stdout.strip() == "0" else "default"
    settings = Settings(home=tmp_path / "nowhere")
    stack = plan_setup(settings, "demo", target="balena", environ={}).stack
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
