"""``acoupi fleet status --mqtt``: what a real broker retains, and what comes meanwhile."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from acoupi import data
from acoupi.cli.app import app
from acoupi.components.messengers import MQTTMessenger
from acoupi.components.messengers.mqtt_connection import Broker, Connection
from acoupi.errors import MessageSendError
from tests.integration.mqtt.conftest import Make, message
from tests.services import DEADLINE, Mosquitto, eventually, free_port

LISTEN = ("fleet", "status", "--seconds", "1", "--mqtt")


def beat(device: str) -> data.Message:
    said = {"sent_on": data.utc_now().isoformat(), "device_id": device, "status": "OK"}
    return message(json.dumps(said), message_type=data.MessageType.HEARTBEAT)


def retain(broker: Mosquitto, topic: str, content: bytes, **login: str) -> None:
    password = SecretStr(login["password"]) if login else None
    place = Broker("localhost", broker.port, username=login.get("username"), password=password)
    with closing(Connection(place, "a-broker-that-retains")) as connection:
        connection.open(60)
        number = connection.publish(topic, content, {}, retain=True)
        assert not connection.wait_for(number, 60).is_failure


@contextmanager
def sending(messenger: MQTTMessenger, device: str) -> Iterator[None]:
    """Send heartbeats again and again."""
    ended = threading.Event()

    def send() -> None:
        while not ended.wait(0.1):
            messenger.send_message(beat(device))

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(DEADLINE)


def test_what_is_retained_and_what_comes_is_judged(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, use_message_type=True)
    sender.send_message(beat("before"))  # nobody keeps it; that sensor-7 is online is kept
    retain(broker, "acoupi/oak/gone/status", b"offline")
    retain(broker, "acoupi/oak/heartbeat", str(beat("kept").content).encode())
    url = f"mqtt://localhost:{broker.port}/acoupi"

    def found() -> dict[str, str]:
        result = CliRunner().invoke(app, [*LISTEN, url, "--json"])
        assert result.exit_code == 3, result.output
        return {one["sensor"]: one["state"] for one in json.loads(result.stdout)["sensors"]}

    wanted = {"gone": "silent", "kept": "well", "live": "well", "sensor-7": "well"}
    with sending(sender, "live"):
        eventually(lambda: found() == wanted, "all that is retained, and what comes")


def test_a_broker_that_wants_a_password_gets_it(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "closed", users={"wood": "p@ss"}) as broker:
        retain(
            broker, "acoupi/a/heartbeat", str(beat("a").content).encode(),
            username="wood", password="p@ss",
        )  # fmt: skip
        url = "mqtt://wood:{}@localhost:" + str(broker.port)

        def is_let_in() -> bool:
            return CliRunner().invoke(app, [*LISTEN, url.format("p%40ss")]).exit_code == 0

        eventually(is_let_in, "the heartbeat that is retained")
        wrong = CliRunner().invoke(app, [*LISTEN, url.format("wrong")])

    assert isinstance(wrong.exception, MessageSendError) or wrong.exit_code == 1
    assert "wrong" not in wrong.output


def test_where_nothing_is_published_that_is_said(broker: Mosquitto) -> None:
    result = CliRunner().invoke(app, [*LISTEN, f"mqtt://localhost:{broker.port}/other"])

    assert result.exit_code == 3
    assert "Check the topic" in result.output


def test_a_broker_that_is_not_there_is_named() -> None:
    result = CliRunner().invoke(app, [*LISTEN, f"mqtt://localhost:{free_port()}"])

    assert isinstance(result.exception, MessageSendError) or "localhost" in result.output
    assert result.exit_code == 1


def test_a_connection_that_ends_before_its_time_is_told(
    broker: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    retain(broker, "acoupi/a/status", b"online")
    monkeypatch.setattr(
        "acoupi.fleet.reading.put_published", lambda *_: broker.stop()
    )  # as soon as something arrived
    words = ["fleet", "status", "--seconds", "60", "--mqtt"]

    result = CliRunner().invoke(app, [*words, f"mqtt://localhost:{broker.port}"])

    assert result.exit_code == 1
    assert "has ended" in str(getattr(result.exception, "message", result.output))
