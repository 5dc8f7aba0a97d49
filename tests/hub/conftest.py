"""A hub, its clock, and the key of its operator."""

from collections.abc import Iterator

import pytest

from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_settings import set_key
from acoupi.offers import make_key, public_key
from tests.postgres import Postgres


@pytest.fixture
def url(postgres: Postgres) -> str:
    return postgres.new_database("hub")


@pytest.fixture
def hub(url: str) -> Iterator[HubDatabase]:
    database = HubDatabase(url)
    yield database
    database.close()


@pytest.fixture
def key(hub: HubDatabase) -> str:
    private = make_key()
    set_key(hub, public_key(private))
    return private
