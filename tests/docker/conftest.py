"""The image, built once, and bundles that run from it."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.bundles.images import build_image, image_name, why_build
from tests.docker.bundles import QUICK, SECRETS, WITH_SERVERS, Bundle, bundle_at, has_engine
from tests.services import require

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(HERE):
            item.add_marker(pytest.mark.docker)


@pytest.fixture(scope="session")
def engine() -> None:
    """A Docker engine, or the test is skipped (on CI it fails)."""
    require("no Docker engine with Compose v2 answers: scripts/docker-host", has_engine())


@pytest.fixture(scope="session")
def image(engine: None) -> str:
    """The image of this very code."""
    if why_build(image_name()):
        return build_image()
    return image_name()


@pytest.fixture(scope="session")
def servers_image(image: str) -> str:
    """An HTTP server and an MQTT broker, to be put beside a bundle."""
    return build_on(image, "servers")


@pytest.fixture(scope="session")
def microphone_image(image: str) -> str:
    """A sensor that hears the virtual microphone."""
    return build_on(image, "microphone")


def build_on(image: str, folder: str) -> str:
    """Build an image for tests on top of that of the sensor."""
    name = image.replace("/sensor:", f"/test-{folder}:")
    build = ["docker", "build", "--quiet", "--network=host", "--tag", name,
             "--build-arg", f"SENSOR={image}", str(HERE / folder)]  # fmt: skip
    done = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return name


@pytest.fixture(scope="session")
def bundle(servers_image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """A bundle that runs, started by ``docker compose up -d`` alone, with servers beside it."""
    with bundle_at(tmp_path_factory.mktemp("bundle") / "home") as bundle:
        bundle.set_up(*QUICK, *WITH_SERVERS, environ=SECRETS)
        bundle.add_servers(servers_image)
        bundle.compose("up", "-d")
        bundle.eventually(bundle.are_ready, "every service ready")
        yield bundle


@pytest.fixture
def fresh(image: str, tmp_path: Path) -> Iterator[Bundle]:
    """A bundle that is not set up yet."""
    with bundle_at(tmp_path / "sensor") as bundle:
        yield bundle


@pytest.fixture
def bundles(image: str, tmp_path: Path) -> Iterator[tuple[Bundle, Bundle]]:
    """Two of them."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(bundle_at(tmp_path / "one"))
        two = stack.enter_context(bundle_at(tmp_path / "two"))
        yield one, two
