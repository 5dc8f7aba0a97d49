"""A broker that somebody else runs: redis over TCP and RabbitMQ, shared with workers of Celery."""

import contextlib
import os
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from celery import Celery
from kombu import Exchange, Queue
from kombu.connection import Connection

from acoupi.components import SqliteStore
from acoupi.errors import TargetError
from acoupi.services.address import masked_url
from acoupi.services.broker import make_app
from acoupi.services.publisher import open_publisher
from acoupi.services.task_messages import task_message
from acoupi.stack.celery_settings import CelerySettings
from acoupi.system import Settings, get_status, purge_queues, setup_program, start_workers
from tests.sensors import Sensor, kill, sensor_at, wait_for
from tests.services import DEADLINE, RabbitMQ, Redis, json_lines

pytestmark = pytest.mark.integration

Broker = Redis | RabbitMQ


@pytest.fixture(scope="module", params=["redis", "rabbitmq"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    kind = Redis if request.param == "redis" else RabbitMQ
    with kind(tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def broker(server: Broker) -> Broker:
    """A broker whose queues are empty."""
    with Connection(server.url) as connection:
        for queue in ("recording", "detection", "celery", "elsewhere"):
            with contextlib.suppress(Exception):  # there is none
                connection.channel().queue_purge(queue)
    return server


@pytest.fixture
def sensor(tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sensor]:
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        sensor.set_up(broker=broker.url)
        yield sensor


def order_what_is_forbidden(url: str) -> None:
    """Order a recording where a worker without a microphone listens, also in a roundabout way."""
    with Celery(broker=url, set_as_current=False) as app:
        app.send_task("recording_task", queue="celery")
        app.send_task("celery.map", [{"task": "recording_task", "args": []}, [[]]], queue="celery")


@contextlib.contextmanager
def worker_of_celery(sensor: Sensor, queue: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run ``celery -A app worker`` in the home, as somebody would on another computer."""
    options = ["--queues", queue, "--concurrency", "1", "--hostname", "guest@elsewhere"]
    log = sensor.home.parent / "celery.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", "-A", "app", "worker", *options],
            cwd=sensor.home, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        process.wait(DEADLINE)
    assert "Traceback" not in log.read_text()


def test_tasks_travel_through_it(sensor: Sensor) -> None:
    sensor.target.up()

    wait_for(lambda: len(sensor.events("detected")) >= 5, "five detections", sensor)
    wait_for(lambda: get_status(sensor.settings).celery.state == "ok", "all well", sensor)


def test_a_worker_runs_only_tasks_of_its_own_queues_and_survives_what_it_cannot_read(
    sensor: Sensor, broker: Broker
) -> None:
    sensor.set_up("--interval", "3600", broker=broker.url)
    sensor.target.up()
    wait_for(lambda: sensor.is_ready("default"), "the worker", sensor)
    wait_for(lambda: sensor.events("detected"), "the first slot", sensor)
    pid = sensor.pulse("default").pid

    order_what_is_forbidden(broker.url)
    with Connection(broker.url) as connection:
        deep = "[" * 200_000
        producer = connection.Producer()
        for headers in ({"task": "hold", "id": "1"}, {"task": ["hold"]}, {"task": "no task"}, {}):
            producer.publish(
                deep, routing_key="celery", headers=headers, content_type="application/json",
                content_encoding="utf-8", declare=[Queue("celery", Exchange("celery"), "celery")],
            )  # fmt: skip
    sensor.let_go()
    sensor.send("hold")
    wait_for(lambda: sensor.events("let go"), "the task after those", sensor)

    assert len(sensor.events("recorded")) == 1
    assert sensor.pulse("default").pid == pid
    kept = json_lines(sensor.settings.run_dir / "default.aside.jsonl")
    assert len(kept) == 6
    assert ["does not belong to this worker" in one["why"] for one in kept[:2]] == [True, True]


def test_a_periodic_task_that_hangs_leaves_the_other_thread_to_the_others(
    sensor: Sensor, broker: Broker
) -> None:
    sensor.set_up("--hangs", broker=broker.url)
    sensor.target.up()
    wait_for(lambda: sensor.events("holds"), "the task that hangs", sensor)

    tidied = len(sensor.events("tidied"))
    wait_for(lambda: len(sensor.events("tidied")) > tidied + 5, "its other tasks", sensor)

    assert len(sensor.events("holds")) == 1
    wait_for(lambda: sensor.pulse("default").last_error, "the word about it", sensor)
    assert "hold: it is still running" in (sensor.pulse("default").last_error or "")
    sensor.let_go()
    wait_for(lambda: len(sensor.events("holds")) > 1, "its next time", sensor)


def test_a_task_begins_as_soon_as_the_one_before_has_ended(sensor: Sensor) -> None:
    start_workers(sensor.settings)
    for _ in range(20):
        sensor.send("recording_task", queue="recording")

    wait_for(lambda: len(sensor.events("recorded")) == 20, "twenty recordings", sensor)

    times = [event["on"] for event in sensor.events("recorded")]
    # A worker whose acknowledgement waits for its loop would need a second for each.
    assert times[-1] - times[0] < 10


def test_a_plain_worker_of_celery_can_join(sensor: Sensor) -> None:
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    own = {event["pid"] for event in sensor.events("detected")}

    with worker_of_celery(sensor, "detection"):
        wait_for(
            lambda: bool({event["pid"] for event in sensor.events("detected")} - own),
            "a detection by the guest",
            sensor,
        )
        seen = len(sensor.events("recorded"))
        wait_for(lambda: len(sensor.events("recorded")) > seen + 3, "more recordings", sensor)

    detected = [event["recording"] for event in sensor.events("detected")]
    assert len(detected) == len(set(detected)), "each by one of the two"


def test_a_worker_that_stops_finishes_its_task_and_leaves_the_others(
    sensor: Sensor, broker: Broker
) -> None:
    start_workers(sensor.settings)
    for _ in range(3):
        sensor.send("hold_in_detection", queue="detection")
    wait_for(lambda: bool(sensor.events("holds")), "a task in hand", sensor)

    stopping = threading.Thread(target=sensor.target.down)
    stopping.start()
    wait_for(lambda: sensor.pulse("detection").state == "stopping", "the order to stop", sensor)
    sensor.let_go()
    stopping.join()

    assert len(sensor.events("let go")) == 1
    assert sensor.processes() == []
    assert purge_queues(sensor.settings)["detection"] == 2


def test_a_worker_that_is_killed_is_started_again_and_works(sensor: Sensor) -> None:
    sensor.target.up()
    wait_for(lambda: bool(sensor.events("detected")), "a detection", sensor)
    killed = sensor.pulse("detection").pid

    kill(killed)

    wait_for(
        lambda: sensor.pulse("detection").pid != killed and sensor.is_ready("detection"),
        "a new detection worker",
        sensor,
    )
    seen = len(sensor.events("detected"))
    wait_for(lambda: len(sensor.events("detected")) > seen + 2, "more detections", sensor)


@pytest.mark.slow
def test_no_recording_is_lost_when_a_worker_is_killed(
    tmp_path: Path, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACOUPI_SIMULATED_AUDIO", "synthetic")
    limits = ["--celery.task_soft_time_limit", "15", "--celery.task_time_limit", "20"]
    recording = ["--recording.duration", "1", "--recording.interval", "3"]
    with sensor_at(tmp_path / "home", monkeypatch) as sensor:
        options = {"broker": broker.url, "target": "process"}
        setup_program(sensor.settings, "acoupi.programs.demo", [*recording, *limits], **options)
        sensor.target.up()
        wait_for(lambda: sensor.pulse("detection").done >= 1, "a detection", sensor)
        worker = psutil.Process(sensor.pulse("detection").pid)
        for child in worker.children():
            child.suspend()  # so that it keeps its task
        wait_for(
            lambda: get_status(sensor.settings).celery.waiting["detection"] >= 1,
            "a message behind the one in hand",
            sensor,
        )

        kill(worker.pid)
        store = SqliteStore(sensor.home / "data" / "metadata.db")
        recorded = {one.id for one in store.get_captured_recordings()}
        assert len(recorded) >= 2

        def analysed() -> set[uuid.UUID]:
            return {output.recording.id for output in store.get_model_outputs()}

        wait_for(lambda: recorded <= analysed(), "the analysis of each recording", sensor, 400)
        outputs = [output.recording.id for output in store.get_model_outputs()]
        assert len(outputs) == len(set(outputs))
        store.close()


def test_a_broker_that_comes_late_or_goes_is_waited_for(
    tmp_path: Path, server: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("recording", "detection", "default")
    broker = type(server)(tmp_path / "broker")
    with sensor_at(tmp_path / "home", monkeypatch) as sensor, contextlib.closing(_Ended(broker)):
        sensor.set_up(broker=broker.url)
        sensor.target.up()
        wait_for(
            lambda: all(sensor.message(one).startswith("the broker ") for one in names),
            "workers that say that they wait",
            sensor,
        )
        assert all(masked_url(broker.url) in sensor.message(one) for one in names)
        broker.start()
        wait_for(lambda: len(sensor.events("detected")) > 2, "detections", sensor)
        pids = {one: sensor.pulse(one).pid for one in (*names, "beat")}

        broker.kill()
        wait_for(
            lambda: {sensor.pulse(one).state for one in pids} == {"waiting for the broker"},
            "services that wait again",
            sensor,
        )
        with pytest.raises(TargetError, match="cannot reach the broker"):
            purge_queues(sensor.settings)
        broker.start()

        seen = len(sensor.events("detected"))
        wait_for(lambda: len(sensor.events("detected")) > seen + 2, "more detections", sensor)
        wait_for(lambda: get_status(sensor.settings).celery.state == "ok", "all well", sensor)
        assert {one: sensor.pulse(one).pid for one in pids} == pids
        for log in map(sensor.log, pids):
            assert RabbitMQ.PASSWORD not in log


class _Ended:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def close(self) -> None:
        self._broker.stop()


# What beat sends.


CHANGING = {"id", "root_id", "correlation_id", "reply_to", "delivery_tag", "expires", "origin"}


def received(url: str, queue: str) -> dict[str, Any]:
    """The only message in a queue, as it came."""
    with Connection(url) as connection:
        message = connection.default_channel.basic_get(queue, no_ack=True)
        assert message is not None
        assert connection.default_channel.basic_get(queue, no_ack=True) is None
        found = {
            "headers": dict(message.headers),
            "properties": dict(message.properties),
            "body": message.body,
            "content": (message.content_type, message.content_encoding),
            "delivery": {"exchange": message.delivery_info["exchange"],
                         "routing_key": message.delivery_info["routing_key"]},
        }  # fmt: skip
    for name in ("headers", "properties"):
        found[name] = {
            key: type(value) if key in CHANGING else value
            for key, value in found[name].items()
            if key not in ("delivery_info", "application_headers")
        }
    return found


@pytest.mark.parametrize(("args", "kwargs"), [((), {}), ((1, "x"), {"deep": True})])
def test_the_message_of_beat_is_that_of_celery(
    settings: Settings, broker: Broker, args: Any, kwargs: Any
) -> None:
    celery = make_app(settings, CelerySettings(broker_url=broker.url))
    options = {"queue": "elsewhere", "expires": 10.0, "ignore_result": True}
    with celery.connection_for_write() as connection:
        options["connection"] = connection
        celery.send_task("recording_task", args=args, kwargs=kwargs, **options)
    theirs = received(broker.url, "elsewhere")

    publisher = open_publisher(settings, broker.url)
    publisher.send("elsewhere", task_message("recording_task", args, kwargs, expires=10.0))
    publisher.close()

    assert received(broker.url, "elsewhere") == theirs


def test_a_publisher_whose_link_was_lost_sends_its_next_message_all_the_same(
    settings: Settings, broker: Broker
) -> None:
    publisher = open_publisher(settings, broker.url)
    publisher.send("elsewhere", task_message("first", expires=60))
    for connection in psutil.Process().net_connections():
        if connection.raddr and connection.raddr.port == broker.port:
            ours = socket.socket(fileno=os.dup(connection.fd))
            ours.shutdown(socket.SHUT_RDWR)
            ours.close()

    publisher.send("elsewhere", task_message("second", expires=60))
    publisher.close()

    with Connection(broker.url) as connection:
        channel = connection.default_channel
        found = [channel.basic_get("elsewhere", no_ack=True) for _ in range(3)]
    assert [one and one.headers["task"] for one in found] == ["first", "second", None]


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home=home)
