"""A program of somebody else, baked into a layer of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.errors import TargetError
from acoupi.system.targets.images import build_image, image_name, why_build
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
