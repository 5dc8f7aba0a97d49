"""One home for all tests that only read its page."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.stack.settings import Settings
from tests.web.heard_home import Visitor, page_of, set_up


@pytest.fixture(scope="session")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home in which something was heard; it is not to be changed."""
    return set_up(tmp_path_factory.mktemp("heard") / "home")


@pytest.fixture
def visitor(heard: Settings, tmp_path: Path) -> Iterator[Visitor]:
    with Visitor(page_of(heard, tmp_path)) as visitor:
        yield visitor
