"""What a worker reaches of a real broker: the queue of its program, and nothing else."""

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from acoupi.errors import ConfigurationError, HubUnavailableError
from acoupi.hub.broker import HubBroker, make_hub_app, queue_of
from acoupi.hub.workers import BrokerUser, broker_address, broker_password, broker_user, login_url
from tests.services import RabbitMQ, Redis, eventually, make_authority

TOKEN = "a-token"
PASSWORD = broker_password(TOKEN).encode()


def user(name: str, program: str) -> BrokerUser:
    salt = b"salt"
    return BrokerUser(
        broker_user(name),
        program,
        hashlib.sha256(PASSWORD).digest(),
        salt + hashlib.sha256(salt + PASSWORD).digest(),
    )


@pytest.mark.parametrize("url", [
    "u:secret@h", "redis://:secret@[::1/0", "redis://:secret@h:port/0", "nonsense://u:secret@h",
    "rediss://:secret@h/0?ssl_cert_reqs=x",
])  # fmt: skip
def test_an_address_that_is_none_is_named_and_its_password_is_not(url: str) -> None:
    with pytest.raises(ConfigurationError, match="broker") as told:
        HubBroker(url)

    assert "secret" not in f"{told.value} {told.value.why} {told.value.help}"


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "redis":
        kind: Redis | RabbitMQ = Redis(folder)
    else:
        kind = RabbitMQ(folder, has_management=True, tls=make_authority(folder / "tls"))
    with kind as server:
        yield server


@pytest.fixture
def broker(server: Any) -> Iterator[HubBroker]:
    broker = HubBroker(server.url, management(server))
    yield broker
    broker.settle_users([])


def management(server: Any) -> str | None:
    return server.management if isinstance(server, RabbitMQ) else None


def as_worker(server: Any, name: str, password: bytes = PASSWORD) -> str:
    return login_url(broker_address(server.url), broker_user(name), password.decode())


def taken(url: str, program: str) -> list[int] | None:
    """Take a message as a worker does; None if there is none."""
    app = make_hub_app(url, program)
    with app.connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        with connection.SimpleQueue(app.amqp.queues[queue_of(program)]) as queue:
            try:
                message = queue.get(timeout=1)
            except queue.Empty:
                return None
            message.ack()
            [[job], _, _] = message.payload
            return [job]


def refused(url: str, program: str) -> bool:
    try:
        taken(url, program)
    except Exception:  # noqa: BLE001 - each transport has its own
        return True
    return False


def test_a_worker_reaches_the_queue_of_its_program_only(server: Any, broker: HubBroker) -> None:
    broker.settle_users([user("shed", "birds"), user("barn", "birds:Bats")])
    broker.send("birds", [1, 2])
    broker.send("birds:Bats", [3])

    eventually(lambda: broker.count_waiting("birds") == 2, "the count")
    shed = as_worker(server, "shed")
    assert taken(shed, "birds") == [1]
    assert refused(shed, "birds:Bats")
    assert refused(as_worker(server, "shed", b"wrong"), "birds")
    assert taken(as_worker(server, "barn"), "birds:Bats") == [3]
    with pytest.raises(HubUnavailableError):
        HubBroker(shed, management(server)).settle_users([])

    broker.settle_users([user("barn", "birds")])
    assert refused(shed, "birds")
    assert refused(as_worker(server, "barn"), "birds:Bats")
    assert taken(as_worker(server, "barn"), "birds") == [2]
    assert taken(as_worker(server, "barn"), "birds") is None
    assert broker.count_waiting("nobody.asked") == 0


def test_a_broker_that_was_wiped_gets_its_users_again(tmp_path: Path) -> None:
    with Redis(tmp_path / "redis") as server:
        broker = HubBroker(server.url)
        broker.settle_users([user("shed", "birds")])
        server.kill()
        with pytest.raises(HubUnavailableError, match="does not answer"):
            broker.send("birds", [1])

        server.start()
        with contextlib.suppress(HubUnavailableError):  # the connection of before
            broker.count_waiting("birds")
        broker.settle_users([user("shed", "birds")])
        broker.send("birds", [1])
        assert taken(as_worker(server, "shed"), "birds") == [1]
