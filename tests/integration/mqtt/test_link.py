"""The MQTT messenger's connection: lost and found again, announced, and nobody else's."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from paho.mqtt.enums import MQTTErrorCode

from acoupi.components.messengers import MQTTMessenger, mqtt
from acoupi.data import ResponseStatus
from acoupi.errors import HealthCheckError, MessageSendError
from tests.integration.mqtt.conftest import Make, message
from tests.servers import HTTPSink, ScriptedBroker, silent_port
from tests.services import DEADLINE, Listener, Mosquitto, eventually, free_port

STATUS = "acoupi/pond/sensor-7/status"


@contextmanager
def impatience(sender: MQTTMessenger) -> Iterator[None]:
    """Let it wait briefly for what will not come; for what will, a busy machine needs longer."""
    assert sender.check_connection() is MQTTErrorCode.MQTT_ERR_SUCCESS
    patience, sender.timeout = sender.timeout, 0.3
    try:
        yield
    finally:
        sender.timeout = patience


# --- unreachable, silent, lost ---


def test_nobody_there_is_a_send_error(make: Make) -> None:
    sender = make(free_port())

    with pytest.raises(MessageSendError) as raised:
        sender.send_message(message())
    with pytest.raises(HealthCheckError):
        sender.check()

    assert "refused" in str(raised.value.why)


def test_an_unknown_name_is_a_send_error(make: Make) -> None:
    sender = make(1884, host="no-such-host.invalid")

    with pytest.raises(MessageSendError) as raised:
        sender.send_message(message())
    with pytest.raises(HealthCheckError):
        sender.check()

    assert "name is unknown" in str(raised.value.why)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # paho's, after a failed handshake
@pytest.mark.parametrize("settings", [{}, {"use_tls": True}, {"transport": "websockets"}])
def test_a_silent_port_is_a_send_error(make: Make, settings: dict[str, Any]) -> None:
    with silent_port() as port:
        sender = make(port, timeout=0.3, **settings)

        with pytest.raises(MessageSendError) as raised:
            sender.send_message(message())
        with pytest.raises(HealthCheckError):
            sender.check()

    assert "does not answer" in raised.value.message


def test_a_broker_that_never_acknowledges_is_a_timeout(make: Make) -> None:
    with ScriptedBroker(acknowledges=False) as broker:
        sender = make(broker, last_will=False)

        with impatience(sender):
            response = sender.send_message(message())

        assert response.status is ResponseStatus.TIMEOUT
        assert len(broker.published) == 1
        sender.close()


def test_what_timed_out_is_not_sent_again_behind_our_back(make: Make) -> None:
    with ScriptedBroker(acknowledges=False) as broker:
        sender = make(broker, last_will=False)
        with impatience(sender):
            sender.send_message(message("first"))
        eventually(lambda: len(broker.connects) >= 2, "the new connection")
        broker.acknowledges = True

        response = sender.send_message(message("second"))

        assert response.status is ResponseStatus.SUCCESS
        assert [b"first" in body for body in broker.published] == [True, False]
        sender.close()


def test_a_connection_that_breaks_before_the_acknowledgement_is_worth_another_try(
    make: Make,
) -> None:
    with ScriptedBroker(hangs_up_on_publish=True) as broker:
        sender = make(broker, last_will=False)

        response = sender.send_message(message())

        assert response.status is ResponseStatus.FAILED
        assert "may have arrived" in str(response.content)
        sender.close()


def test_a_broker_that_dies_in_mid_session_is_noticed_and_found_again(
    broker: Mosquitto, make: Make
) -> None:
    sender = make(broker)
    before = sender.send_message(message("1"))

    broker.kill()
    try:
        meanwhile = sender.send_message(message("2")).status
    except MessageSendError:
        meanwhile = ResponseStatus.FAILED
    broker.start()
    after = sender.send_message(message("3"))

    assert before.status is after.status is ResponseStatus.SUCCESS
    assert meanwhile is ResponseStatus.FAILED


def test_a_lost_connection_comes_back_without_a_message(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    sender.send_message(message())

    broker.kill()
    eventually(lambda: sender.client is None, "the loss")
    broker.start()

    eventually(lambda: sender.client is not None, "the connection")
    with Listener(broker, topic=STATUS) as listener:
        eventually(lambda: listener.on(STATUS) == [b"online"], "online")


def test_a_broker_that_stalls_in_mid_session_is_a_timeout(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    assert broker.pid is not None

    with impatience(sender):
        os.kill(broker.pid, signal.SIGSTOP)
        try:
            response = sender.send_message(message())
            with pytest.raises(MessageSendError):
                sender.send_message(message())
        finally:
            os.kill(broker.pid, signal.SIGCONT)

    assert response.status is ResponseStatus.TIMEOUT
    assert sender.send_message(message()).status is ResponseStatus.SUCCESS


# --- older brokers ---


def test_a_broker_that_knows_only_the_older_version_is_spoken_to_in_it(make: Make) -> None:
    with ScriptedBroker(speaks=(4,)) as broker:
        sender = make(broker)

        sender.check()
        response = sender.send_message(message())

        assert response.status is ResponseStatus.SUCCESS
        assert [version for version, _ in broker.connects] == [5, 4, 4]
        sender.close()


def test_a_link_that_resets_a_connection_is_not_taken_for_an_old_broker(make: Make) -> None:
    with ScriptedBroker(resets=1) as broker:
        sender, sent = make(broker), message()

        assert sender.send_message(sent).status is ResponseStatus.SUCCESS

        assert [version for version, _ in broker.connects] == [5, 5]
        assert str(sent.id).encode() in broker.published[-1]
        sender.close()


def test_a_broker_that_once_spoke_the_newer_version_is_always_spoken_to_in_it(
    make: Make,
) -> None:
    with ScriptedBroker() as broker:
        sender = make(broker)
        sender.check()
        broker.resets = 3

        with pytest.raises(MessageSendError, match="hung up"):
            sender.send_message(message())
        assert sender.send_message(message()).status is ResponseStatus.SUCCESS

        assert {version for version, _ in broker.connects} == {5}
        sender.close()


def test_a_broker_that_hangs_up_on_the_newer_version_is_spoken_to_in_the_older(
    make: Make,
) -> None:
    with ScriptedBroker(resets=2) as broker:
        sender = make(broker)

        sender.check()
        sender.check()  # it may have been the link: asked again in the newer

        assert [version for version, _ in broker.connects] == [5, 5, 4, 5]
        sender.close()


def test_a_broker_that_speaks_no_version_of_ours_is_a_send_error(make: Make) -> None:
    with ScriptedBroker(speaks=()) as broker, pytest.raises(MessageSendError) as raised:
        make(broker).send_message(message())

    assert "Unsupported protocol version" in str(raised.value.why)


def test_what_is_no_broker_is_a_send_error(make: Make) -> None:
    with HTTPSink() as sink, pytest.raises(MessageSendError):
        make(sink.port, timeout=0.3).send_message(message())


def test_a_closed_messenger_connects_again(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    sender.send_message(message())

    sender.close()
    sender.close()

    assert sender.client is None
    assert sender.send_message(message()).status is ResponseStatus.SUCCESS


def test_check_connection_tells_whether_there_is_one(broker: Mosquitto, make: Make) -> None:
    assert make(broker).check_connection() is MQTTErrorCode.MQTT_ERR_SUCCESS
    assert make(free_port()).check_connection() is MQTTErrorCode.MQTT_ERR_NO_CONN


# --- last will ---


def test_the_status_is_online_while_we_are(broker: Mosquitto, make: Make) -> None:
    make(broker).send_message(message())

    with Listener(broker) as late:
        eventually(lambda: late.on(STATUS) == [b"online"], "online")


def test_the_status_of_a_sensor_is_its_own(
    broker: Mosquitto, make: Make, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(broker).send_message(message())
    other = home.parent / "other"
    (other / "config").mkdir(parents=True)
    (other / "config" / "device.json").write_text('{"id": "sensor/8"}')
    monkeypatch.setenv("ACOUPI_HOME", str(other))
    second = make(broker)
    second.send_message(message())
    second.close()

    with Listener(broker) as late:
        eventually(lambda: len(late.messages) == 2, "both statuses")

    assert dict(late.messages) == {
        STATUS: b"online",
        "acoupi/pond/sensor_8/status": b"offline",
    }


def test_a_topic_with_the_device_in_it_has_its_status_below(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, topic="bats/sensor-7")

    assert sender.status_topic == "bats/sensor-7/status"
    sender.send_message(message())
    sender.close()  # what is kept there is ours, and stays

    with Listener(broker) as late:
        eventually(lambda: late.messages == [("bats/sensor-7/status", b"offline")], "the status")


def test_the_status_that_a_fleet_shared_is_cleared_once(broker: Mosquitto, make: Make) -> None:
    keeper = make(broker, topic="x", last_will=False, client_id="keeper")

    def keep(status: bytes) -> None:
        assert keeper.check_connection() is MQTTErrorCode.MQTT_ERR_SUCCESS
        assert keeper.client is not None
        keeper.client.publish("acoupi/pond/status", status, qos=1, retain=True).wait_for_publish(
            DEADLINE
        )

    def kept() -> list[bytes]:
        with Listener(broker) as late:
            eventually(lambda: bool(late.on(STATUS)), "our status")
            return late.on("acoupi/pond/status")

    keep(b"offline")
    first = make(broker)
    first.send_message(message())
    assert kept() == []
    first.close()

    keep(b"of somebody else")
    make(broker).send_message(message())
    assert kept() == [b"of somebody else"]


def test_two_sensors_with_one_id_are_named(
    broker: Mosquitto,
    make: Make,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(broker).send_message(message())
    twin = home.parent / "twin"
    (twin / "config").mkdir(parents=True)
    (twin / "config" / "device.json").write_text('{"id": "sensor-7"}')
    monkeypatch.setenv("ACOUPI_HOME", str(twin))
    monkeypatch.setattr(mqtt, "FIRST_WAIT", 0.01)

    make(broker).send_message(message())

    eventually(lambda: 'two sensors may have one id, "sensor-7"' in caplog.text, "the error")
    assert "device.json" in caplog.text


def test_closing_says_offline_once_and_the_will_stays_silent(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    with Listener(broker) as listener:
        sender.send_message(message())

        sender.close()
        eventually(lambda: len(listener.on(STATUS)) == 2, "offline")
        eventually(lambda: "sensor-7-default disconnected" in broker.log(), "the farewell")

    assert listener.on(STATUS) == [b"online", b"offline"]


def test_the_broker_says_offline_when_a_process_is_killed(broker: Mosquitto) -> None:
    process = _sender_process(broker, "time.sleep(60)")
    with Listener(broker) as listener:
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n"

        process.kill()
        process.wait(DEADLINE)
        eventually(lambda: listener.on(STATUS)[-1:] == [b"offline"], "offline")
    process.stdout.close()


def test_the_last_will_can_be_switched_off(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, last_will=False)
    with Listener(broker) as listener:
        sender.send_message(message())
        sender.close()
        eventually(lambda: bool(listener.messages), "the message")

    assert {topic for topic, _ in listener.messages} == {"acoupi/pond"}


def test_a_command_beside_the_service_leaves_its_status_alone(
    broker: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = make(broker)
    service.send_message(message())
    monkeypatch.delenv("ACOUPI_SERVICE")
    command = make(broker)

    with Listener(broker) as listener:
        command.check()
        command.send_message(message())
        command.close()
        eventually(lambda: bool(listener.on("acoupi/pond")), "the message")

        assert listener.on(STATUS) == [b"online"]
    assert service.client is not None


# --- client ids ---


def test_the_client_id_is_device_and_service(make: Make) -> None:
    assert make(1884).client_id == "sensor-7-default"


def test_two_messengers_to_one_broker_do_not_push_each_other_off(
    broker: Mosquitto, make: Make
) -> None:
    one, two = make(broker, topic="one"), make(broker, topic="two")

    for _ in range(3):
        assert one.send_message(message()).status is ResponseStatus.SUCCESS
        assert two.send_message(message()).status is ResponseStatus.SUCCESS

    assert {one.client_id, two.client_id} == {"sensor-7-default", "sensor-7-default-1"}
    assert "already connected" not in broker.log()


def test_a_restarted_service_has_its_id_again(broker: Mosquitto, make: Make) -> None:
    first = make(broker)
    first.send_message(message())
    first.close()

    second = make(broker)
    second.send_message(message())

    assert second.client_id == "sensor-7-default"


def test_a_check_beside_the_running_service_does_not_disturb_it(
    broker: Mosquitto, make: Make
) -> None:
    sender = make(broker)
    sender.send_message(message())
    client = sender.client

    sender.check()
    make(broker).check()

    assert sender.client is client
    assert "already connected" not in broker.log()


def test_a_client_id_that_was_set_is_used(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, client_id="thing-1")

    sender.check()
    sender.send_message(message())
    sender.check()

    assert " as thing-1 " in broker.log()
    assert sender.client is not None


def test_one_that_lost_its_id_to_another_says_so(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    taken_over = b"\xe0\x02\x8e\x00"
    with ScriptedBroker(hangs_up_on_publish=True, farewell=taken_over) as broker:
        sender = make(broker, client_id="thing-1", last_will=False)

        assert sender.send_message(message()).status is ResponseStatus.FAILED

        eventually(lambda: 'two sensors have one id, "sensor-7"' in caplog.text, "the log")
        assert 'is called "thing-1"' in caplog.text
        assert "two sensors have one id" in (sender.trouble() or "")
        sender.close()


def test_a_connection_that_never_lasts_is_tried_less_and_less(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt, "FIRST_WAIT", 0.01)
    with ScriptedBroker(hangs_up_on_publish=True) as broker:  # "online" is enough
        sender = make(broker)

        assert sender.check_connection() is MQTTErrorCode.MQTT_ERR_SUCCESS

        eventually(lambda: sender._link().wait > 0.3, "the longer wait")
        assert len(broker.connects) <= 7
        sender.close()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_connection_of_its_own(broker: Mosquitto, make: Make) -> None:
    sender = make(broker)
    sender.send_message(message("parent"))

    with Listener(broker) as listener:
        child = os.fork()
        if child == 0:  # pragma: no cover - another process
            try:
                status = sender.send_message(message("child")).status
                sender.close()
            except BaseException:  # noqa: BLE001 - pytest must not go on here
                os._exit(99)
            os._exit(int(status))
        _, code = os.waitpid(child, 0)
        after = sender.send_message(message("parent again"))
        eventually(lambda: len(listener.on("acoupi/pond")) == 2, "both messages")

    assert os.waitstatus_to_exitcode(code) == 0
    assert after.status is ResponseStatus.SUCCESS
    assert listener.on("acoupi/pond") == [b"child", b"parent again"]
    assert listener.on(STATUS) == [b"online"]
    assert broker.log().count(" as sensor-7-default ") == 1


def _sender_process(broker: Mosquitto, afterwards: str) -> "subprocess.Popen[str]":
    """Start a process that sends a message, says with what status, and goes on."""
    code = (
        "import time\n"
        "from acoupi import data, devices\n"
        "from acoupi.components.messengers import MQTTMessenger\n"
        "devices.get_device_id = lambda: 'sensor-7'\n"
        f"sender = MQTTMessenger('localhost', 'acoupi/pond', port={broker.port})\n"
        "print(int(sender.send_message(data.Message(content='1')).status), flush=True)\n"
        f"{afterwards}\n"
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
