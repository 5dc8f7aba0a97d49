"""The MQTT messenger against real brokers, and against what is none."""

import json
import logging
import re
import subprocess
import sys
import threading
import tracemalloc
from base64 import b64encode
from hashlib import sha1
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from acoupi import devices
from acoupi.components.messengers import MQTTConfig, MQTTMessenger
from acoupi.components.messengers.config import MQTTTransport
from acoupi.data import MessageType, ResponseStatus
from acoupi.errors import AccessRefusedError, HealthCheckError, MessageSendError
from tests.integration.mqtt.conftest import Make, message
from tests.servers import ScriptedBroker, endless_server
from tests.services import (
    DEADLINE,
    Authority,
    Listener,
    Mosquitto,
    eventually,
    free_port,
    make_authority,
)

SECRET = "s3cr3t-pipistrelle"
USERS = {"bat": SECRET, "reader": "reader"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("certificates"))


# --- delivered ---


def test_a_message_arrives_as_it_was_written(broker: Mosquitto, make: Make) -> None:
    sent = message()

    with Listener(broker) as listener:
        response = make(broker).send_message(sent)
        eventually(lambda: bool(listener.on("acoupi/pond")), "the message")

    assert response.status is ResponseStatus.SUCCESS
    assert response.message == sent
    assert listener.on("acoupi/pond") == [b'{"species": "Myotis"}']


def test_the_message_carries_its_id(broker: Mosquitto, make: Make) -> None:
    sent = message()

    with Listener(broker, topic="acoupi/pond") as listener:
        make(broker).send_message(sent)
        eventually(lambda: bool(listener.messages), "the message")

    assert listener.properties[0].UserProperty == [
        ("message_id", str(sent.id)),
        ("device_id", devices.get_device_id()),
    ]


def test_bytes_arrive_as_they_are(broker: Mosquitto, make: Make) -> None:
    with Listener(broker) as listener:
        make(broker).send_message(message(b"\xff\x00"))
        eventually(lambda: bool(listener.on("acoupi/pond")), "the message")

    assert listener.on("acoupi/pond") == [b"\xff\x00"]


def test_the_type_of_a_message_can_be_in_its_topic(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, use_message_type=True)

    with Listener(broker) as listener:
        sender.send_message(message("1", message_type=MessageType.DETECTION))
        sender.send_message(message("2"))
        eventually(lambda: bool(listener.on("acoupi/pond")), "the message")

    assert listener.on("acoupi/pond/detection") == [b"1"]
    assert listener.on("acoupi/pond") == [b"2"]


def test_messages_share_one_connection(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)

    statuses = [sender.send_message(message()).status for _ in range(20)]

    assert statuses == [ResponseStatus.SUCCESS] * 20
    assert broker.log().count(" as sensor-7-default ") == 1


def test_threads_share_a_messenger(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    statuses: list[ResponseStatus] = []
    threads = [
        threading.Thread(
            target=lambda: statuses.extend(sender.send_message(message()).status for _ in range(25))
        )
        for _ in range(4)
    ]

    with Listener(broker) as listener:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        eventually(lambda: len(listener.on("acoupi/pond")) == 100, "all messages")

    assert statuses == [ResponseStatus.SUCCESS] * 100
    assert broker.log().count(" as sensor-7-default ") == 1


@pytest.mark.parametrize("transport", ["websockets", "unix"])
def test_other_transports_work(tmp_path: Path, make: Make, transport: str) -> None:
    with Mosquitto(tmp_path / "b", transport=transport, users=USERS) as broker:
        config = MQTTConfig(
            host=broker.host,
            port=broker.port,
            username="bat",
            password=SecretStr(SECRET),
            transport=MQTTTransport(transport),
        )
        sender = MQTTMessenger.from_config(config)

        sender.check()
        response = sender.send_message(message())
        sender.close()

    assert response.status is ResponseStatus.SUCCESS


# --- refused ---


def test_the_right_password_lets_us_in(tmp_path: Path, make: Make) -> None:
    with Mosquitto(tmp_path / "b", users=USERS) as broker:
        sender = make(broker, username="bat", password=SECRET)

        sender.check()

        assert sender.send_message(message()).status is ResponseStatus.SUCCESS


@pytest.mark.parametrize(
    "credentials", [{"username": "bat", "password": "wrong"}, {"username": "owl"}, {}]
)
def test_a_broker_that_refuses_us_gets_nothing_and_says_so(
    tmp_path: Path, make: Make, credentials: dict[str, str]
) -> None:
    with Mosquitto(tmp_path / "b", users=USERS) as broker:
        sender = make(broker, **credentials)

        with pytest.raises(AccessRefusedError) as raised:
            sender.send_message(message())
        with pytest.raises(HealthCheckError) as unhealthy:
            sender.check()

    assert str(raised.value.why) == 'it answered "Not authorized"'
    assert unhealthy.value.why == raised.value.why
    assert "messaging.mqtt.username" in str(unhealthy.value.help)


def test_a_broker_that_refuses_everyone_gets_nothing(tmp_path: Path, make: Make) -> None:
    with Mosquitto(tmp_path / "b", users={}) as broker:
        sender = make(broker, username="bat", password=SECRET)

        for _ in range(3):
            with pytest.raises(MessageSendError):
                sender.send_message(message())
        with pytest.raises(HealthCheckError):
            sender.check()


def test_a_forbidden_topic_is_an_error(tmp_path: Path, make: Make) -> None:
    acl = "user bat\ntopic write acoupi/allowed\ntopic write acoupi/+/+/status"
    with Mosquitto(tmp_path / "b", users=USERS, acl=acl) as broker:
        allowed = make(broker, username="bat", password=SECRET, topic="acoupi/allowed")
        forbidden = make(broker, username="bat", password=SECRET, topic="acoupi/forbidden")

        assert allowed.send_message(message()).status is ResponseStatus.SUCCESS
        response = forbidden.send_message(message())

    assert response.status is ResponseStatus.ERROR
    assert response.content == "the broker refused it: Not authorized"
    assert response.is_access_refused


def test_a_broker_that_forbids_the_status_still_gets_the_messages(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedBroker(bars_wills=True) as broker:
        sender = make(broker)

        assert sender.send_message(message()).status is ResponseStatus.SUCCESS

        assert len(broker.published) == 1
        sender.close()
    assert 'forbids the topic "acoupi/pond/sensor-7/status"' in caplog.text


def test_a_refused_message_does_not_cost_the_connection(tmp_path: Path, make: Make) -> None:
    acl = "user bat\ntopic write acoupi/pond\ntopic write acoupi/pond/status"
    with Mosquitto(tmp_path / "b", users=USERS, acl=acl) as broker:
        sender = make(broker, username="bat", password=SECRET, use_message_type=True)

        first = sender.send_message(message(message_type=MessageType.SUMMARY))
        second = sender.send_message(message())

        assert first.status is ResponseStatus.ERROR
        assert second.status is ResponseStatus.SUCCESS
        assert broker.log().count(" as sensor-7-default ") == 1


def test_a_message_larger_than_the_broker_takes_is_an_error(tmp_path: Path, make: Make) -> None:
    with Mosquitto(tmp_path / "b", options="max_packet_size 1000") as broker:
        sender = make(broker)

        response = sender.send_message(message("x" * 2000))

        assert response.status is ResponseStatus.ERROR
        assert "1000" in str(response.content)
        assert sender.send_message(message()).status is ResponseStatus.SUCCESS


def test_a_broker_that_takes_no_message_at_all_says_nothing_about_this_one(make: Make) -> None:
    with ScriptedBroker(most_bytes=1) as broker, pytest.raises(MessageSendError) as caught:
        make(broker).send_message(message())

    assert "no message of more than 1 bytes" in str(caught.value.why)


@pytest.mark.parametrize("transport", ["tcp", "websockets"])
def test_a_packet_of_any_size_is_not_read(make: Make, transport: str) -> None:
    flood = b"x" * 2_000_000

    def answer(asked: bytes) -> bytes:
        if transport == "tcp":
            return b"\x20\xff\xff\xff\x7f" + flood  # a CONNACK of 256 MB
        key = re.search(rb"Sec-Websocket-Key: (\S+)", asked, re.IGNORECASE)
        assert key
        seal = sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        frame = b"\x82\x7f" + (1 << 28).to_bytes(8, "big") + flood
        return (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + b64encode(seal) + b"\r\n\r\n" + frame
        )

    with endless_server(answer, flood) as port:
        sender = make(SimpleNamespace(host="localhost", port=port), transport=transport)
        tracemalloc.start()
        with pytest.raises(MessageSendError, match="hung up"):
            sender.send_message(message())
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 10_000_000


def test_rubbish_for_a_small_message_is_no_verdict_on_it(make: Make) -> None:
    with ScriptedBroker(hangs_up_on_publish=True, farewell=b"\xe0\x01\x05") as broker:
        sender = make(broker, last_will=False)
        try:
            status = sender.send_message(message()).status
        except MessageSendError:  # it may be gone before the message is
            status = ResponseStatus.FAILED
    assert status is ResponseStatus.FAILED


@pytest.mark.parametrize(
    ("first", "again", "options"),
    [
        (b"", b"\x20", {}),
        (b"\x20\x7f\x00\x00\x7c", b"\x00", {}),
        (b"HTTP/1.1 101 Switching\r\nX: ", b"a", {"transport": "websockets"}),
        (b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb", b"a", {"use_tls": True, "verify": False}),
    ],
)  # fmt: skip
def test_a_broker_that_never_ends_is_left_at_the_deadline(
    make: Make, first: bytes, again: bytes, options: dict[str, Any]
) -> None:
    with endless_server(first, again) as port:
        sender = make(SimpleNamespace(host="localhost", port=port), timeout=0.5, **options)
        with pytest.raises(MessageSendError):
            sender.send_message(message())
        sender.close()
        eventually(lambda: not [one for one in threading.enumerate() if "mqtt-open" in one.name])


def test_a_message_that_the_broker_refuses_in_its_own_way_is_an_error(
    tmp_path: Path, make: Make
) -> None:
    with Mosquitto(tmp_path / "b", options="message_size_limit 1000") as broker:
        sender = make(broker)

        assert sender.send_message(message("x" * 2000)).status is ResponseStatus.ERROR
        assert sender.send_message(message()).status is ResponseStatus.SUCCESS


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0x10, ResponseStatus.SUCCESS),  # nobody listens
        (0x80, ResponseStatus.ERROR),
        (0x97, ResponseStatus.FAILED),  # quota exceeded
        (0x99, ResponseStatus.ERROR),
    ],
)
def test_the_reason_of_the_broker_decides(make: Make, code: int, status: ResponseStatus) -> None:
    with ScriptedBroker(puback_code=code) as broker:
        sender = make(broker)

        assert sender.send_message(message()).status is status

        sender.close()


# --- TLS ---


def test_tls_with_a_client_certificate_works(
    authority: Authority, tmp_path: Path, make: Make
) -> None:
    with Mosquitto(tmp_path / "b", tls=authority, ask_client=True) as broker:
        sender = make(
            broker,
            use_tls=True,
            ca_certificate=authority.ca,
            client_certificate=authority.client,
            client_key=authority.client_key,
        )

        sender.check()

        assert sender.send_message(message()).status is ResponseStatus.SUCCESS


def test_without_the_client_certificate_nothing_is_delivered(
    authority: Authority, tmp_path: Path, make: Make
) -> None:
    with Mosquitto(tmp_path / "b", tls=authority, ask_client=True) as broker:
        sender = make(broker, use_tls=True, ca_certificate=authority.ca)

        with pytest.raises(MessageSendError):
            sender.send_message(message())
        with pytest.raises(HealthCheckError):
            sender.check()


def test_an_unknown_certificate_is_refused_unless_verification_is_off(
    authority: Authority, tmp_path: Path, make: Make
) -> None:
    with Mosquitto(tmp_path / "b", tls=authority) as broker:
        with pytest.raises(MessageSendError) as raised:
            make(broker, use_tls=True).send_message(message())
        response = make(broker, use_tls=True, verify=False).send_message(message())

    assert "certificate is not trusted" in str(raised.value.why)
    assert "ca_certificate" in str(raised.value.help)
    assert response.status is ResponseStatus.SUCCESS


def test_tls_where_none_is_spoken_is_a_send_error(broker: Mosquitto, make: Make) -> None:
    with pytest.raises(MessageSendError):
        make(broker, use_tls=True, timeout=2).send_message(message())


def test_a_missing_certificate_file_is_named(make: Make) -> None:
    sender = make(free_port(), use_tls=True, ca_certificate=Path("/nowhere/ca.pem"))

    with pytest.raises(MessageSendError) as raised:
        sender.send_message(message())

    assert raised.value.message == 'cannot read ca_certificate "/nowhere/ca.pem".'


# --- the rest ---


def test_making_a_messenger_touches_nothing(home: Path, make: Make) -> None:
    before = sorted(home.rglob("*"))

    make(1884, host="nowhere.invalid", use_tls=True, client_certificate=Path("/nowhere/c.pem"))

    assert sorted(home.rglob("*")) == before


def test_the_name_tells_places_apart_and_holds_no_secret(make: Make) -> None:
    sender = make(1884, host="broker.example.org", username="bat", password=SECRET)

    assert sender.name == "mqtt:broker.example.org:1884/acoupi/pond"


def test_no_secret_is_in_an_error_or_a_log(
    tmp_path: Path, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with Mosquitto(tmp_path / "b", users={"bat": "another"}) as broker:
        sender = make(broker, username="bat", password=SECRET)
        with pytest.raises(MessageSendError) as raised:
            sender.send_message(message())

    shown = "".join(raised.value.lines()) + repr(raised.value) + caplog.text
    assert SECRET not in shown + repr(sender) + repr(vars(sender))


def test_the_configuration_masks_the_password() -> None:
    config = MQTTConfig(host="h", username="bat", password=SecretStr(SECRET))

    assert SECRET not in repr(config) + json.dumps(config.model_dump(mode="json"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"host": ""}, "host"),
        ({"port": 0}, "port"),
        ({"timeout": 0}, "timeout"),
        ({"topic": ""}, "topic"),
        ({"topic": "acoupi/#"}, "topic"),
        ({"topic": "acoupi/+/x"}, "topic"),
        ({"password": SECRET}, "username"),
        ({"use_tls": True, "client_key": "k.pem"}, "client_certificate"),
        ({"ca_certificate": "ca.pem"}, "use_tls"),
        ({"use_tls": True, "transport": "unix"}, "unix"),
        ({"transport": "pigeon"}, "transport"),
    ],
)
def test_what_contradicts_itself_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as raised:
        MQTTConfig.model_validate({"host": "localhost", **settings})

    assert words in str(raised.value)
    assert SECRET not in str(raised.value)


def test_a_configuration_costs_no_network_library() -> None:
    code = (
        "import sys; from acoupi.components.messengers import HTTPConfig, MQTTConfig;"
        "print([name for name in ('paho', 'requests') if name in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout == "[]\n"
