"""Messages of sensors from a real broker in the database of a hub: each once, none lost."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from acoupi import data
from acoupi.cli.app import app
from acoupi.components.messengers import MQTTMessenger
from acoupi.components.messengers.mqtt_connection import (
    Broker,
    Connection,
    ConnectionLostError,
)
from acoupi.components.messengers.mqtt_session import Publication, SessionConnection
from acoupi.config.env_files import read_env
from acoupi.errors import AccessRefusedError, ParameterError
from acoupi.hub import publications
from acoupi.hub.bundle.choices import HubHome
from acoupi.hub.bundle.setting_up import set_up_hub
from acoupi.hub.database import HubDatabase
from acoupi.hub.publications import get_strangers, put_publications
from acoupi.hub.sensors import add_sensor, get_sensors
from acoupi.hub.subscribing import Subscriber
from tests.postgres import Postgres
from tests.services import DEADLINE, Mosquitto, eventually, make_authority, require_program


@pytest.fixture
def database(postgres: Postgres) -> Iterator[HubDatabase]:
    with closing(HubDatabase(postgres.new_database("subscribing"))) as database:
        add_sensor(database, "oak-1")
        yield database


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    folder = tmp_path / "broker"
    keeps = f"persistence true\npersistence_location {folder}/"
    with Mosquitto(folder, options=keeps) as broker:
        yield broker


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acoupi.hub.subscribing.FIRST_WAIT", 0.05)
    monkeypatch.setattr("acoupi.hub.subscribing.LONGEST_WAIT", 0.2)


@contextmanager
def subscribed(
    database: HubDatabase, broker: Mosquitto, url: str | None = None
) -> Iterator[Subscriber]:
    """Subscribe from a thread, as the command does, until the end of the block."""
    subscriber = Subscriber(database, url or f"mqtt://localhost:{broker.port}/acoupi", "hub")
    thread = threading.Thread(target=subscriber.run)
    thread.start()
    try:
        yield subscriber
    finally:
        subscriber.end()
        thread.join(DEADLINE)
        assert not thread.is_alive()


@pytest.fixture
def sender(home: Path, broker: Mosquitto) -> Iterator[Callable[[str, str], data.Message]]:
    """Send messages as sensors do, each on a topic."""
    (home / "config").mkdir(parents=True)
    (home / "config" / "device.json").write_text('{"id": "1000beef"}')
    made: dict[str, MQTTMessenger] = {}

    def send(topic: str, content: str) -> data.Message:
        if topic not in made:
            made[topic] = MQTTMessenger(
                "localhost", topic, broker.port, use_message_type=True, timeout=DEADLINE,
                client_id=f"client-{len(made)}",
            )  # fmt: skip
        message = data.Message(content=content, message_type=data.MessageType.DETECTION)
        assert made[topic].send_message(message).status is data.ResponseStatus.SUCCESS
        return message

    yield send
    for one in made.values():
        one.close()


Send = Callable[[str, str], data.Message]


def stored(database: HubDatabase) -> list[tuple[str, str | None, str]]:
    """Return sensor, type and content of every message, in the order of their content."""
    with database.reading() as connection:
        return [
            (sensor, kind, content)
            for sensor, kind, content in connection.execute(
                "SELECT s.id, m.message_type, m.content FROM message m"
                " JOIN sensor s ON s.row = m.sensor_row ORDER BY m.content"
            )
        ]


def wait_for(database: HubDatabase, number: int) -> None:
    eventually(lambda: len(stored(database)) >= number, f"{number} messages")


def test_messages_are_stored_with_their_sensor_and_strangers_are_named(
    database: HubDatabase, broker: Mosquitto, sender: Send
) -> None:
    add_sensor(database, "1000beef")
    with subscribed(database, broker):
        eventually(lambda: has_session(broker), "the subscription")
        sender("acoupi/oak-1", "by its topic")
        sender("acoupi/wood", "by its device")
        wait_for(database, 2)

    assert stored(database) == [
        ("1000beef", "detection", "by its device"),
        ("oak-1", "detection", "by its topic"),
    ]
    assert all(one.reported_on for one in get_sensors(database))
    assert get_strangers(database) == []


def has_session(broker: Mosquitto) -> bool:
    """Return whether the broker keeps messages for the hub: it says whether anybody wants one."""
    with closing(Connection(Broker("localhost", broker.port), "probe")) as connection:
        connection.open(DEADLINE)
        number = connection.publish("acoupi/probe", b"", {}, retain=True)
        return connection.wait_for(number, DEADLINE).value == 0  # 16: nobody subscribes


def test_nothing_is_lost_while_the_hub_or_the_broker_is_down(
    database: HubDatabase, broker: Mosquitto, sender: Send
) -> None:
    with subscribed(database, broker):
        eventually(lambda: has_session(broker), "the subscription")
        sender("acoupi/oak-1", "1 both are there")
        wait_for(database, 1)
    sender("acoupi/oak-1", "2 the hub is down")
    with subscribed(database, broker):
        wait_for(database, 2)
        broker.stop()
        broker.start()
        eventually(lambda: has_session(broker), "the subscription")
        sender("acoupi/oak-1", "3 the broker was down")
        wait_for(database, 3)

    assert [content for _, _, content in stored(database)] == [
        "1 both are there",
        "2 the hub is down",
        "3 the broker was down",
    ]


def test_what_the_database_does_not_take_is_kept_until_it_does(
    database: HubDatabase, broker: Mosquitto, sender: Send
) -> None:
    with database.writing() as connection:
        connection.execute("ALTER TABLE message RENAME TO away")
    with subscribed(database, broker):
        eventually(lambda: has_session(broker), "the subscription")
        sender("acoupi/oak-1", "first")
    # The hub ended with it in hand, and never said that it has it.
    with subscribed(database, broker):
        sender("acoupi/oak-1", "second")
        with database.writing() as connection:
            connection.execute("ALTER TABLE away RENAME TO message")
        wait_for(database, 2)

    assert [content for _, _, content in stored(database)] == ["first", "second"]


def test_the_service_of_a_hub_takes_in_with_the_variables_that_setup_gave_it(
    database: HubDatabase, postgres: Postgres, tmp_path: Path, home: Path
) -> None:
    hub, tls = tmp_path / "hub", make_authority(tmp_path / "tls")
    url = f"mqtts://hub:pass%20word@broker.example.org/acoupi?ca={tls.ca}"
    set_up_hub(HubHome(hub), {"name": "hub.example.org"}, own_servers={"subscribe": url})
    service = yaml.safe_load((hub / "docker-compose.yml").read_text())["services"]["subscribe"]
    pulse = tmp_path / "pulse.json"
    with Mosquitto(tmp_path / "broker", users={"hub": "pass word"}, tls=tls) as broker:
        given = read_env(hub / "secrets" / "subscribe.env")
        there = f"localhost:{broker.port}"
        given["ACOUPI_HUB_MQTT"] = given["ACOUPI_HUB_MQTT"].replace("broker.example.org", there)
        given |= {"ACOUPI_HUB_DATABASE": postgres.url("subscribing"), "ACOUPI_PULSE": str(pulse)}
        client = service["environment"]["ACOUPI_HUB_MQTT_CLIENT"]
        acoupi = Path(sys.executable).with_name("acoupi")
        command = [str(acoupi), *service["command"][1:]]
        environ = {**os.environ, **given, "ACOUPI_HUB_MQTT_CLIENT": client}
        with subprocess.Popen(command, env=environ) as process:
            try:
                eventually(pulse.exists, "a pulse")
                sender = MQTTMessenger(
                    "localhost", "acoupi/oak-1", broker.port, timeout=DEADLINE, username="hub",
                    password="pass word", use_tls=True, ca_certificate=tls.ca,
                )  # fmt: skip
                with closing(sender):
                    sender.send_message(data.Message(content="heard"))
                wait_for(database, 1)
            finally:
                process.terminate()
            assert process.wait(DEADLINE) == 0
        assert client in broker.log()

    assert [content for _, _, content in stored(database)] == ["heard"]


def test_a_broker_that_does_not_let_it_in_ends_it(database: HubDatabase, tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "closed", users={"hub": "secret"}) as broker:
        url = f"mqtt://nobody:wrong@localhost:{broker.port}/acoupi"
        with pytest.raises(AccessRefusedError) as told:
            Subscriber(database, url, "hub").run()
    assert "wrong" not in "".join(told.value.lines())
    assert "--broker mqtts://USER" in str(told.value.help)


def test_a_broker_that_does_not_know_it_for_a_moment_is_tried_again(
    database: HubDatabase, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    users = {"hub": "pass", "oak": "pass"}
    with Mosquitto(tmp_path / "broker", users=users) as broker:
        url = f"mqtt://hub:pass@localhost:{broker.port}/acoupi"
        with subscribed(database, broker, url):
            eventually(lambda: "Sending SUBACK to hub" in broker.log(), "it is let in", DEADLINE)
            broker.reload({"oak": "pass"})
            eventually(lambda: "refused the connection" in caplog.text, "it is refused", DEADLINE)
            sender = MQTTMessenger(
                "localhost", "acoupi/oak-1", broker.port, "oak", "pass", DEADLINE
            )
            with closing(sender):
                sender.send_message(data.Message(content="heard"))
            broker.reload(users)
            wait_for(database, 1)


@contextmanager
def with_rights(folder: Path) -> Iterator[tuple[Mosquitto, Callable[..., object]]]:
    """A broker that has its users and their rights as docs/hub.md advises, and what tells it."""
    folder.mkdir()
    rights = folder / "rights.json"
    tell = [require_program("mosquitto_ctrl")]
    subprocess.run(
        [*tell, "dynsec", "init", rights, "admin"], input="admin\nadmin\n", text=True,
        check=True, capture_output=True, timeout=DEADLINE,
    )  # fmt: skip
    options = (
        f"{with_plugin(rights)}\npersistence true\npersistence_location {folder}/\n"
        "max_queued_messages 0"
    )
    with Mosquitto(folder, options=options) as broker:
        tell += ["-p", str(broker.port), "-u", "admin", "-P", "admin", "dynsec"]
        yield (
            broker,
            lambda *words: subprocess.run(
                [*tell, *words], check=True, capture_output=True, timeout=DEADLINE
            ),
        )


def with_plugin(rights: Path) -> str:
    [plugin] = Path("/usr/lib").glob("*/mosquitto_dynamic_security.so")
    return f"plugin {plugin}\nplugin_opt_config_file {rights}"


def test_users_that_come_while_the_hub_is_away_cost_no_message(
    database: HubDatabase, tmp_path: Path, home: Path
) -> None:
    """As docs/hub.md tells; with `acl_file` and a reload, mosquitto drops what it acknowledged."""
    may = {"hub": ("subscribePattern", "acoupi/#"), "oak": ("publishClientSend", "acoupi/oak-1/#")}
    with with_rights(tmp_path / "broker") as (broker, tell):
        for user, (right, topic) in may.items():
            tell("createClient", user, "-p", "pass")
            tell("createRole", user)
            tell("addRoleACL", user, right, topic, "allow")
            tell("addClientRole", user, user)
        url = f"mqtt://hub:pass@localhost:{broker.port}/acoupi"
        with subscribed(database, broker, url):
            eventually(lambda: "Sending SUBACK to hub" in broker.log(), "it is let in", DEADLINE)
        broker.stop()
        broker.start()
        sender = MQTTMessenger("localhost", "acoupi/oak-1", broker.port, "oak", "pass", DEADLINE)
        with closing(sender):
            for number in range(20):
                tell("createClient", f"new-{number}", "-p", "pass")
                broker.reload()
                answer = sender.send_message(data.Message(content=f"{number:02}"))
                assert answer.status is data.ResponseStatus.SUCCESS
        with subscribed(database, broker, url):
            wait_for(database, 20)


def test_a_connection_that_ends_is_noticed_before_the_broker_agreed(
    broker: Mosquitto, home: Path
) -> None:
    connection = SessionConnection(
        Broker("localhost", broker.port), "hub", lambda _: None, lambda _: None
    )
    connection.open(DEADLINE)
    assert broker.pid
    os.kill(broker.pid, signal.SIGSTOP)
    ending = threading.Thread(target=broker.kill)
    ending.start()
    with closing(connection), pytest.raises(ConnectionLostError):
        connection.follow("acoupi/#", DEADLINE)
    ending.join(DEADLINE)


def test_a_broker_that_does_not_let_it_read_the_topic_ends_it(
    database: HubDatabase, tmp_path: Path
) -> None:
    rights = tmp_path / "rights.json"
    rights.write_text('{"defaultACLAccess": {"subscribe": false}}')
    rights.chmod(0o644)
    with Mosquitto(tmp_path / "broker", options=with_plugin(rights)) as broker:
        url = f"mqtt://localhost:{broker.port}/acoupi"
        with pytest.raises(AccessRefusedError, match="read") as told:
            Subscriber(database, url, "hub").run()
    assert "may read the topic" in str(told.value.help)


def test_a_broker_that_hangs_up_is_tried_again(
    database: HubDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"mqtt://127.0.0.1:{listener.getsockname()[1]}/acoupi"
        subscriber = Subscriber(database, url, "hub")
        thread = threading.Thread(target=subscriber.run)
        thread.start()
        listener.settimeout(DEADLINE)
        for _ in range(3):
            channel, _ = listener.accept()
            channel.close()
        subscriber.end()
        thread.join(DEADLINE)
    assert not thread.is_alive()
    assert "acoupi tries again." in caplog.text


def test_an_address_that_is_none_is_named(database: HubDatabase) -> None:
    with pytest.raises(ParameterError) as told:
        Subscriber(database, "http://localhost", "hub")
    assert str(told.value.help).startswith("--broker mqtts://")


# What is stored


def published(topic: str, content: object, *, retained: bool = False, **labels: str) -> Publication:
    text = content if isinstance(content, str) else json.dumps(content)
    return Publication(topic, text.encode(), labels, retained, 1)


def test_the_same_message_is_stored_once_with_or_without_an_id(database: HubDatabase) -> None:
    with_id = published("acoupi/oak-1", "a", message_id="0" * 31 + "7")
    again = with_id._replace(content=b"b")
    without = published("acoupi/oak-1/heartbeat", "c")

    for _ in range(2):
        put_publications(database, [with_id, again, without])

    assert [content for _, _, content in stored(database)] == ["a", "c"]


def test_heartbeats_and_alarms_are_known_without_a_type_in_the_topic(
    database: HubDatabase,
) -> None:
    beat = {"sent_on": "2026-01-01T00:00:00Z", "device_id": "x", "status": "OK", "a": 1}
    alarm = {"alarm": "silent", "state": "raised", "since": "2026-01-01T00:00:00Z"}
    told = [published("acoupi/oak-1", one) for one in (beat, alarm, "[1]", "{")]
    put_publications(database, told)

    assert {kind for _, kind, _ in stored(database)} == {None, "alarm", "heartbeat"}
    with database.reading() as connection:
        [(created,)] = connection.execute(
            "SELECT created_on_us FROM message WHERE message_type = 'heartbeat'"
        ).fetchall()
    assert data.from_microseconds(created).isoformat() == "2026-01-01T00:00:00+00:00"


def test_states_that_a_broker_keeps_are_no_messages(database: HubDatabase) -> None:
    put_publications(database, [published("acoupi/oak-1/status", "online", retained=True)])

    assert stored(database) == []


def test_strangers_are_counted_named_once_and_bounded(
    database: HubDatabase, monkeypatch: pytest.MonkeyPatch, postgres: Postgres
) -> None:
    monkeypatch.setattr(publications, "MOST_STRANGERS", 2)
    told = [
        published("acoupi/wood/detection", "a", device_id="elm-2"),
        published("acoupi/fir-3/detection", "b"),
        published("acoupi/fir-3", "c"),
        published("acoupi/a", "d"),
        published("acoupi/b", "e"),
    ]
    assert put_publications(database, told) == ["elm-2", "fir-3", "(others)"]
    assert put_publications(database, told) == []

    assert stored(database) == []
    counts = {one.name: (one.messages, one.topic) for one in get_strangers(database)}
    assert counts == {
        "elm-2": (2, "acoupi/wood/detection"),
        "fir-3": (4, "acoupi/fir-3"),
        "(others)": (4, "acoupi/b"),
    }
    url = postgres.url("subscribing")
    shown = CliRunner().invoke(app, ["hub", "sensors", "--database", url])
    assert '2 messages from "elm-2"' in shown.output
    add_sensor(database, "elm-2")
    assert "elm-2" not in {one.name for one in get_strangers(database)}


def test_what_a_stranger_is_called_reaches_no_terminal_as_it_is(
    database: HubDatabase, postgres: Postgres
) -> None:
    put_publications(database, [published("acoupi/a\x1b[2Jb\0", "x" * 100)])

    shown = CliRunner().invoke(app, ["hub", "sensors", "--database", postgres.url("subscribing")])
    assert "\x1b[2J" not in shown.output


def test_who_may_write_below_the_topic_of_one_sensor_does_not_speak_as_another(
    database: HubDatabase,
) -> None:
    for name in ("oak-1", "elm-2"):
        add_sensor(database, name)

    put_publications(database, [
        published("acoupi/elm-2/oak-1/heartbeat", "{}"),
        published("acoupi/elm-2/heartbeat", "{}", device_id="oak-1"),
    ])  # fmt: skip

    with database.reading() as connection:
        found = connection.execute(
            "SELECT s.id FROM message m JOIN sensor s ON s.row = m.sensor_row"
        ).fetchall()
    assert found == [("elm-2",)]
    assert [one.topic for one in get_strangers(database)] == ["acoupi/elm-2/oak-1/heartbeat"]
