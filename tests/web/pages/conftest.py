"""One home for all tests that only read its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.stack.settings import Settings
from tests.web.heard_home import Visitor, page_of, set_up


@pytest.fixture(scope="session")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which something was heard; it is not to be changed."""
    home = tmp_path_factory.mktemp("heard") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ACOUPI_HOME", str(home))
        patch.setenv("HOME", str(home.parent))
        patch.setenv("ACOUPI_TARGET", "process")
        patch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic,pace=fast")
        return set_up(home)


@pytest.fixture
def visitor(heard: Settings, tmp_path: Path) -> Iterator[Visitor]:
    with Visitor(page_of(heard, tmp_path)) as visitor:
        yield visitor
