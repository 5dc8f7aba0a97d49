"""The way through the page of the hub, from its first command on, is gone by a new user."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import acoupi
from tests.consoles import Console
from tests.docker.bundles import docker, environment
from tests.sensors import Sensor
from tests.services import free_port

PAGE = (Path(acoupi.__path__[0]) / "docs" / "hub.md").read_text()
LONGEST = 500.0
"""Seconds that building an image may take."""


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def console(image: str, port: int, tmp_path: Path) -> Iterator[Console]:
    """A user whose hub has its images already, and listens where nothing else does."""
    place = tmp_path / "pi"
    place.mkdir()
    console = Console(place, {})
    docker_config = {"DOCKER_CONFIG": str(Path.home() / ".docker")}
    console.environment = docker_config | environment() | console.environment
    for words in ("setup", "--listen", f"127.0.0.1:{port}"), ("images",):
        subprocess.run(
            ["acoupi", "hub", *words],
            env=console.environment, check=True, timeout=LONGEST, capture_output=True,
        )  # fmt: skip
    yield console
    Sensor(place / ".acoupi", place / "none").end()
    hub = place / ".acoupi-hub"
    docker("compose", "down", "--remove-orphans", "--timeout", "0", timeout=120, cwd=hub)


def test_the_page_of_the_hub_shows_what_is_printed(console: Console, port: int) -> None:
    assert console.follow(PAGE.replace(":8090", f":{port}")) > 10
