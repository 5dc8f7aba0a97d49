"""A hub, its clock, and the key of its operator."""

from collections.abc import Iterator

import pytest
from moto.server import ThreadedMotoServer

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


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Serve what an object store is asked, from memory."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def key(hub: HubDatabase) -> str:
    private = make_key()
    set_key(hub, public_key(private))
    return private
