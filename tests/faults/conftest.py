"""A disk whose power can be cut."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.rig import part_of_rig, require_disk


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    """A disk of its own, mounted; it writes nothing by itself."""
    require_disk()
    disk = part_of_rig("disk").Disk(tmp_path)
    disk.make()
    try:
        yield disk
    finally:
        disk.unmount()
