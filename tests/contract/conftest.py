"""Fixtures of the contracts."""

import pytest

from acoupi.testing import InMemoryStore


@pytest.fixture
def store() -> InMemoryStore:
    return InMemoryStore()
