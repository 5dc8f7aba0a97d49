"""A sensor in Home Assistant, by a real broker; Home Assistant is a client that says "online"."""

import json
from pathlib import Path
from typing import Any

import paho.mqtt.publish as publish
import pytest

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.components.messengers import MQTTMessenger
from acoupi.components.messengers.home_assistant import ENTITIES
from acoupi.errors import MessageSendError
from acoupi.services.construction import load_program
from acoupi.stack.settings import Settings
from acoupi.system import setup_program
from acoupi.tasks.alarms import alarm_message
from tests.integration.mqtt.conftest import Make, message
from tests.services import Listener, Mosquitto, eventually

CONFIG = "homeassistant/device/acoupi_sensor-7/config"
STATE = "acoupi/pond/sensor-7/state"


def born(broker: Mosquitto, content: str = "online") -> None:
    """Home Assistant has started."""
    publish.single("homeassistant/status", content, qos=1, port=broker.port, hostname="localhost")


def test_a_sensor_announces_itself_when_it_connects(broker: Mosquitto, make: Make) -> None:
    make(broker, home_assistant=True).send_message(message())

    with Listener(broker, topic=CONFIG) as home_assistant:  # retained: it may start later
        eventually(lambda: home_assistant.on(CONFIG), "the announcement")

    document = json.loads(home_assistant.on(CONFIG)[0])
    assert len(document["components"]) == len(ENTITIES) + 1
    assert document["components"]["online"]["state_topic"] == "acoupi/pond/sensor-7/status"


def test_without_the_setting_nothing_is_announced(broker: Mosquitto, make: Make) -> None:
    with Listener(broker) as everything:
        make(broker).send_message(message())
        eventually(lambda: everything.on("acoupi/pond"), "the message")

        assert [topic for topic, _ in everything.messages if topic.startswith("home")] == []


def test_states_are_kept_and_only_what_changed_is_sent(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, home_assistant=True)
    first = {f"{STATE}/recording": "ON", f"{STATE}/temperature": "51"}

    with Listener(broker, topic=f"{STATE}/#") as home_assistant:
        sender.publish_states(first)
        sender.publish_states(first | {f"{STATE}/temperature": "52"})
        eventually(lambda: len(home_assistant.messages) == 3, "the states")
        assert home_assistant.on(f"{STATE}/temperature") == [b"51", b"52"]

    with Listener(broker, topic=f"{STATE}/#") as later:
        eventually(lambda: len(later.messages) == 2, "the states that are kept")
    assert dict(later.messages) == {f"{STATE}/recording": b"ON", f"{STATE}/temperature": b"52"}


def test_when_home_assistant_starts_it_is_told_again(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, home_assistant=True)
    with Listener(broker) as home_assistant:
        sender.publish_states({f"{STATE}/recording": "ON"})
        eventually(lambda: len(home_assistant.on(CONFIG)) == 1, "the first announcement")

        born(broker, "offline")
        born(broker)

        eventually(lambda: len(home_assistant.on(CONFIG)) == 2, "the second one")
        eventually(lambda: len(home_assistant.on(f"{STATE}/recording")) == 2, "its states")
        assert home_assistant.on(CONFIG)[0] == home_assistant.on(CONFIG)[1]


def test_a_broker_that_forgot_is_told_all(broker: Mosquitto, make: Make) -> None:
    sender = make(broker, home_assistant=True)
    states = {f"{STATE}/recording": "ON"}
    sender.publish_states(states)
    broker.kill()  # it keeps nothing on its disk
    broker.start()

    def publishes() -> bool:
        try:
            sender.publish_states(states)
        except MessageSendError:
            return False
        return True

    with Listener(broker) as home_assistant:
        eventually(publishes, "the connection")
        eventually(lambda: home_assistant.on(f"{STATE}/recording"), "the state")
        eventually(lambda: home_assistant.on(CONFIG), "the announcement")


def test_a_new_container_has_the_same_ids(broker: Mosquitto, make: Make) -> None:
    with Listener(broker, topic=CONFIG) as home_assistant:
        for _ in range(2):
            sender: MQTTMessenger = make(broker, home_assistant=True)
            sender.send_message(message())
            sender.close()
        eventually(lambda: len(home_assistant.on(CONFIG)) == 2, "two announcements")

    assert len(set(home_assistant.on(CONFIG))) == 1


def test_an_alarm_arrives_on_a_topic_of_its_own(broker: Mosquitto, make: Make) -> None:
    alarm = alarm_message(Alarm("disk_low", data.utc_now()), "raised", "sensor-7")
    with Listener(broker, topic="acoupi/pond/alarm") as listener:
        make(broker, use_message_type=True).send_message(alarm)
        eventually(lambda: listener.messages, "the alarm")

    assert json.loads(listener.on("acoupi/pond/alarm")[0])["alarm"] == "disk_low"


def test_a_command_announces_nothing(
    broker: Mosquitto, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACOUPI_SERVICE")
    with Listener(broker) as everything:
        make(broker, home_assistant=True).send_message(message())
        eventually(lambda: everything.on("acoupi/pond"), "the message")

        assert everything.on(CONFIG) == []


def test_a_topic_that_is_forbidden_is_named(tmp_path: Path, make: Make) -> None:
    acl = "topic readwrite acoupi/pond/sensor-7/status\ntopic read #"
    with Mosquitto(tmp_path / "strict", acl=acl) as strict:
        sender = make(strict, home_assistant=True)

        with pytest.raises(MessageSendError) as raised:
            sender.publish_states({f"{STATE}/recording": "ON"})

    assert f'refuses "{STATE}/recording"' in raised.value.message


def test_the_worker_of_the_default_queue_publishes_how_the_sensor_is(
    broker: Mosquitto, home: Path
) -> None:
    settings = Settings(home=home)
    options = {"host": "localhost", "port": broker.port, "home_assistant": "true"}
    given = [
        text for name, value in options.items() for text in (f"--messaging.mqtt.{name}", value)
    ]
    setup_program(settings, "connected", [str(one) for one in given])
    program: Any = load_program(settings)
    try:
        with Listener(broker) as home_assistant:
            program.tasks["home_assistant_task"].function()
            topics = [f"acoupi/sensor-7/state/{one.key}" for one in ENTITIES]
            eventually(lambda: all(map(home_assistant.on, topics)), "all states")

        assert home_assistant.on("acoupi/sensor-7/state/recording") == [b"OFF"]
        assert home_assistant.on("acoupi/sensor-7/state/detections_today") == [b"0"]
        assert home_assistant.on("acoupi/sensor-7/status")[-1] == b"online"
    finally:
        for messenger in program.messengers:
            messenger.close()
