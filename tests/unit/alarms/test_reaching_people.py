"""What leaves the sensor: messages to people's phones, and calls of the dead man's switch."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from pydantic import BaseModel

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.limits import Alarms
from acoupi.components import SqliteStore
from acoupi.components.messengers import AppriseMessenger, HTTPMessenger
from acoupi.components.messengers.dead_man import call_dead_mans_switch
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.config.sensor import sensor_schema
from acoupi.errors import ConfigurationError, HealthCheckError, MessageSendError
from acoupi.programs import AcoupiProgram
from acoupi.services.alarms import calls_server, dead_mans_task
from acoupi.services.broker import load_celery_settings
from acoupi.services.construction import load_program
from acoupi.services.sensor_tasks import add_sensor_tasks
from acoupi.stack.settings import Settings
from acoupi.stack.stack import stack_of_program
from acoupi.system import setup_program
from acoupi.tasks.alarms import alarm_message
from tests.servers import HTTPSink, silent_port

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
ALARM = Alarm("microphone_silent", NOW, "silent in the last 5 recordings")


def messenger(port: int, **settings: float) -> AppriseMessenger:
    return AppriseMessenger(f"json://me:s3cret@127.0.0.1:{port}/in", **settings)  # type: ignore[arg-type]


# Apprise


def test_an_alarm_arrives_in_words() -> None:
    with HTTPSink() as sink:
        response = messenger(sink.port).send_message(alarm_message(ALARM, "raised", "board-1"))

    assert response.status is data.ResponseStatus.SUCCESS
    (request,) = sink.posts
    assert request.json()["title"] == "RAISED: The microphone delivers no sound."
    body = request.json()["message"]
    assert body.split("\n")[0] == "silent in the last 5 recordings"
    assert "board-1" in body
    assert "2024-06-20 12:00 UTC" in body


def test_an_alarm_arrives_by_http_as_it_is() -> None:
    with HTTPSink() as sink:
        sender = HTTPMessenger(base_url=sink.url)
        response = sender.send_message(alarm_message(ALARM, "raised", "board-1"))

    assert response.status is data.ResponseStatus.SUCCESS
    (request,) = sink.posts
    assert request.json()["alarm"] == "microphone_silent"
    assert request.json()["state"] == "raised"


def test_what_is_not_for_people_is_not_sent() -> None:
    with HTTPSink() as sink:
        message = data.Message(content="{}", message_type=data.MessageType.DETECTION)
        response = messenger(sink.port).send_message(message)

        assert response.status is data.ResponseStatus.SUCCESS
        assert sink.posts == []
        wanted = AppriseMessenger(
            f"json://127.0.0.1:{sink.port}", message_types=[data.MessageType.DETECTION]
        )
        wanted.send_message(message)
        assert [one.json()["message"] for one in sink.posts] == ["{}"]


@pytest.mark.parametrize("content", ["no JSON", "[]", "{}", b"\xff\xfe"])
def test_a_strange_alarm_is_sent_as_it_is(content: str | bytes) -> None:
    with HTTPSink() as sink:
        message = data.Message(content=content, message_type=data.MessageType.ALARM)
        messenger(sink.port).send_message(message)

    assert sink.posts[0].json()["title"] == "acoupi: alarm"


def test_a_service_that_refuses_keeps_the_message_waiting() -> None:
    with HTTPSink(status=503) as sink, pytest.raises(MessageSendError) as caught:
        messenger(sink.port).send_message(alarm_message(ALARM, "raised", "board-1"))

    assert "s3cret" not in str(caught.value)


def test_a_service_that_never_answers_ends_at_the_deadline() -> None:
    with HTTPSink(stall=True) as sink:
        slow = messenger(sink.port, timeout=0.2)
        response = slow.send_message(alarm_message(ALARM, "raised", "board-1"))

        assert response.status is data.ResponseStatus.TIMEOUT


def test_the_name_tells_destinations_apart_and_no_secret() -> None:
    one, other = messenger(1), messenger(2)

    assert one.name.startswith("apprise:json:")
    assert one.name != other.name
    assert one.name == messenger(1).name
    assert "s3cret" not in one.name


@pytest.mark.parametrize("url", ["nonsense", "nosuchservice://x", ""])
def test_an_address_that_apprise_does_not_know_is_refused(url: str) -> None:
    strange = AppriseMessenger(url)

    with pytest.raises(HealthCheckError, match="not an address that Apprise supports"):
        strange.check()
    with pytest.raises(MessageSendError, match="not an address that Apprise supports"):
        strange.send_message(alarm_message(ALARM, "raised", "board-1"))


def test_an_address_that_apprise_knows_is_well() -> None:
    messenger(9).check()


def test_only_the_worker_that_sends_pays_for_apprise() -> None:
    code = (
        "import sys; from acoupi.components.messengers import AppriseMessenger;"
        "AppriseMessenger('json://localhost'); print('apprise' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert found.stdout.strip() == "False"


# The dead man's switch


def test_a_call_arrives() -> None:
    with HTTPSink() as sink:
        assert call_dead_mans_switch(sink.url) is None
    assert [one.method for one in sink.requests] == ["GET"]


def test_a_call_that_fails_says_why_without_the_address() -> None:
    with HTTPSink(status=500) as sink:
        assert call_dead_mans_switch(sink.url) == "it answered 500"
    why = call_dead_mans_switch("http://127.0.0.1:9/secret-token")
    assert why is not None
    assert "secret-token" not in why
    assert call_dead_mans_switch("http://[nonsense/secret-token") is not None


def test_a_call_has_one_deadline() -> None:
    with silent_port() as port:
        url = f"http://127.0.0.1:{port}/"
        assert call_dead_mans_switch(url, seconds=0.2) == "no answer within 0.2 s"


class Hearing:
    """A sensor that records when a test says so."""

    def __init__(self, folder: Path) -> None:
        self.alarms = SqliteAlarmStore(folder / "alarms.db")
        self.store = SqliteStore(folder / "metadata.db")
        self.deployment = data.Deployment(name="oak", started_on=NOW)
        self.number = 0

    def record(self) -> None:
        start = NOW + timedelta(seconds=10 * self.number)
        self.number += 1
        self.store.store_recording(
            data.Recording(
                path=None,
                duration=10,
                samplerate=8000,
                deployment=self.deployment,
                created_on=start,
            )
        )


def test_the_switch_is_called_only_when_there_is_new_sound(tmp_path: Path) -> None:
    hearing = Hearing(tmp_path)
    with HTTPSink() as sink:
        call = dead_mans_task(sink.url, hearing.store, hearing.alarms)
        call()
        assert len(sink.requests) == 0
        for number in (1, 2):
            hearing.record()
            for _ in range(3):
                call()
            assert len(sink.requests) == number


def test_a_call_that_did_not_arrive_is_made_again_and_harms_nothing(tmp_path: Path) -> None:
    hearing = Hearing(tmp_path)
    hearing.record()
    with HTTPSink(status=502) as sink:
        call = dead_mans_task(sink.url, hearing.store, hearing.alarms)
        call()
        call()
        sink.status = 200
        call()
        call()

        assert len(sink.requests) == 3


URL = {"dead_mans_url": "https://example.org/ping"}


def test_the_worker_that_calls_the_switch_has_a_network(home: Path) -> None:
    settings = Settings(home=home)
    setup_program(settings, "default", [])
    program = load_program(settings)
    celery = load_celery_settings(settings)

    def with_network(**options: bool) -> list[str]:
        stack = stack_of_program(program, settings, celery, "default", **options)
        return [one.name for one in stack.services if one.network]

    assert with_network() == []
    assert with_network(calls_server=True) == ["default"]


def test_only_alarms_that_are_on_call_the_switch() -> None:
    assert calls_server(Alarms.model_validate({"enabled": True, **URL}))
    assert not calls_server(Alarms.model_validate(URL))
    assert json.loads(Alarms.model_validate(URL).model_dump_json())["dead_mans_url"] == "*" * 10


class Nothing(BaseModel):
    """No settings."""


class NoStore(AcoupiProgram[Nothing]):
    """A program that records nothing."""

    config_schema = Nothing

    def setup(self, config: Nothing) -> None:
        """Register nothing."""


@pytest.mark.parametrize(
    "setting", [{"alarms": {"enabled": True}}, {"metrics": {"textfile": "data/acoupi.prom"}}]
)
def test_a_program_without_a_store_cannot_look_after_itself(
    tmp_path: Path, setting: dict[str, dict[str, Any]]
) -> None:
    program = NoStore(program_config=Nothing(), app=Celery())
    (section,) = setting
    (name,) = setting[section]
    schema = sensor_schema()

    add_sensor_tasks(program, Settings(home=tmp_path), "nothing", schema())
    with pytest.raises(
        ConfigurationError, match=f"this program cannot use sensor.{section}.{name}"
    ):
        add_sensor_tasks(
            program, Settings(home=tmp_path), "nothing", schema.model_validate(setting)
        )
