"""A store to export."""

from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from tests.unit.exports.heard import fill


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metadata.db"


@pytest.fixture
def found(path: Path) -> dict[UUID, data.Detection]:
    return fill(path)
