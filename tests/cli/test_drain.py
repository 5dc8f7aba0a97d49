"""``acoupi deployment stop --drain``: recording ends first, and then what waits is done."""

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi import data
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.unreported import Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.errors import TargetError
from acoupi.programs.status import StatusReport
from acoupi.stack.stack import Service
from acoupi.system import Settings, draining
from acoupi.system.draining import NOTHING, Work, check_can_drain, wait_until_drained
from acoupi.system.sensor import Sensor
from acoupi.testing import InMemoryStore, make_recording
from tests.cli.fake_docker import FakeDocker
from tests.cli.support import Calls, Run, data_of, lines_of
from tests.clocks import Clock

SERVER = "http:127.0.0.1:9"
"""Nobody answers there."""
HUB = "hub:127.0.0.1:9"


@pytest.fixture
def started(run: Run, sensor: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> SqliteStore:
    """The store of a sensor that runs and sends to one server, one look directly after another."""
    monkeypatch.setattr(draining, "INTERVAL", 0)
    run("config", "set", "messaging.http", '{"base_url": "http://127.0.0.1:9"}')
    assert run("deployment", "start", "--name", "Oak", "--no-check").exit_code == 0
    return SqliteStore(sensor / "data" / "metadata.db")


def record(store: SqliteStore) -> data.Recording:
    [deployment] = store.get_deployments()
    recording = make_recording(
        deployment=deployment, created_on=data.utc_now(), path=Path("/spool/one.wav")
    )
    store.store_recording(recording)
    return recording


def queue(home: Path, messenger: str = SERVER) -> Callable[[], None]:
    """Let a message wait; return what delivers it."""
    store = SqliteMessageStore(home / "data" / "messages.db")
    message = data.Message(content="{}")
    store.store_message(message)
    store.claim_messages(messenger)
    answer = data.Response(message=message, status=data.ResponseStatus.SUCCESS)
    return lambda: store.store_response(answer)


def test_the_deployment_ends_when_the_recorder_has_stopped(
    run: Run, started: SqliteStore, target: Calls, clock: Clock
) -> None:
    target.meanwhile = {
        "stop_recorder": lambda: clock.advance(10),  # the recording in progress
        "down": lambda: clock.advance(3000),
    }
    begun = clock.now

    result = run("deployment", "stop", "--drain", "--json")

    assert result.exit_code == 0, result.stderr
    assert target.names == ["up", "stop_recorder", "down"]
    ended = data.Deployment.model_validate(data_of(result)).ended_on
    [oak] = started.get_deployments()
    assert ended is not None
    assert (ended - begun).total_seconds() == 10
    assert oak.ended_on == ended


def test_an_unnamed_deployment_ends_when_the_recorder_has_stopped(
    run: Run, sensor: Path, target: Calls, clock: Clock
) -> None:
    store = SqliteStore(sensor / "data" / "metadata.db")
    unnamed, target.state = store.get_current_deployment(), "ready"
    target.meanwhile = {"down": lambda: clock.advance(3000)}
    begun = clock.now

    result = run("deployment", "stop", "--drain")

    assert result.exit_code == 0, result.stderr
    [ended] = store.get_deployments()
    assert (ended.id, ended.ended_on) == (unnamed.id, begun)


def test_it_waits_until_all_is_processed_and_sent(
    started: SqliteStore, sensor: Path, clock: Clock
) -> None:
    recording, deliver = record(started), queue(sensor)
    shown: list[Work] = []
    acts = iter([lambda: started.end_recording(recording, data.RecordingState.DELETED), deliver])

    def show(work: Work) -> None:
        shown.append(work)
        next(acts)()

    left = wait_until_drained(Sensor.read(Settings(home=sensor)), 60, show)

    assert shown == [Work(1, 1), Work(0, 1)]
    assert left == NOTHING


@pytest.mark.parametrize("how", ["limit", "Ctrl-C"])
def test_the_waiting_ends_at_its_limit_or_when_it_is_interrupted(
    started: SqliteStore, sensor: Path, clock: Clock, how: str
) -> None:
    record(started)

    def show(work: Work) -> None:
        if how == "Ctrl-C":
            raise KeyboardInterrupt
        clock.advance(59)

    left = wait_until_drained(Sensor.read(Settings(home=sensor)), 60, show)

    assert left == Work(1, 0)


def test_a_messenger_of_before_is_not_waited_for(started: SqliteStore, sensor: Path) -> None:
    queue(sensor, "former")

    assert wait_until_drained(Sensor.read(Settings(home=sensor)), 60, pytest.fail) == NOTHING


def test_it_waits_until_the_hub_has_all_of_it(
    run: Run, started: SqliteStore, sensor: Path, target: Calls
) -> None:
    settings = '{"url": "http://127.0.0.1:9", "token": "t", "audio": "all"}'
    assert run("config", "set", "--json", "sensor.hub", settings).exit_code == 0
    unreported, sound = Unreported(started.db_path), UnsentSound(started.db_path)
    unreported.start(HUB)
    sound.start(HUB, "all")
    kept = record(started)
    started.update_recording_path(kept, sensor / "kept.wav")
    deliver, shown = queue(sensor, HUB), list[Work]()

    def send() -> None:
        owed = sound.next()
        assert owed is not None
        sound.acknowledge(owed)

    acts = iter([deliver, lambda: unreported.acknowledge(unreported.next(100)), send])

    def show(work: Work) -> None:
        shown.append(work)
        next(acts)()

    waiting = run("deployment", "stop", "--drain", "--drain-limit", "0")
    left = wait_until_drained(Sensor.read(Settings(home=sensor)), 60, show)

    assert "2 changes wait to be reported to the hub" in waiting.stdout
    assert "1 sound file waits to be sent to the hub" in waiting.stdout
    assert [(one.messages > 0, one.unreported > 0, one.sounds) for one in shown] == [
        (True, True, 1), (False, True, 1), (False, False, 1),
    ]  # fmt: skip
    assert left == NOTHING


def test_what_is_left_at_the_limit_is_said(
    run: Run, started: SqliteStore, sensor: Path, target: Calls
) -> None:
    record(started)
    queue(sensor)

    result = run("deployment", "stop", "--drain", "--drain-limit", "0")

    assert result.exit_code == 0, result.stderr
    assert "ended with work left: 1 recording to process, 1 message to send" in result.stderr
    assert "1 recording waits to be processed by the next start" in result.stdout
    assert target.names[-1] == "down"


def test_progress_is_told_when_it_changes(
    run: Run, started: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording, looks = record(started), itertools.count()

    class Watched(Clock):
        def monotonic(self) -> float:
            if next(looks) == 50:
                started.end_recording(recording, data.RecordingState.DELETED)
            return super().monotonic()

    Watched().install(monkeypatch)

    result = run("deployment", "stop", "--drain")

    assert result.stderr.count("Waiting: 1 recording to process, 0 messages to send") == 1
    assert "ended with" not in result.stderr


def test_an_interrupt_ends_the_waiting_and_all_is_stopped(
    run: Run, started: SqliteStore, target: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(started)
    looks = itertools.count()

    class Interrupted(Clock):
        def monotonic(self) -> float:
            if next(looks) == 50:
                raise KeyboardInterrupt
            return super().monotonic()

    Interrupted().install(monkeypatch)

    result = run("deployment", "stop", "--drain")

    assert result.exit_code == 0, result.stderr
    assert "ended with work left: 1 recording to process" in result.stderr
    assert target.names[-2:] == ["stop_recorder", "down"]


def test_a_store_that_cannot_be_read_ends_the_waiting_and_all_is_stopped(
    run: Run, started: SqliteStore, sensor: Path, target: Calls
) -> None:
    path = sensor / "config" / "deployment.json"

    def damage() -> None:
        started.close()
        for file in started.db_path.parent.glob("metadata.db*"):
            file.unlink()
        started.db_path.write_bytes(b"no database" * 100)

    target.meanwhile = {"stop_recorder": damage}

    result = run("deployment", "stop", "--drain")

    assert result.exit_code == 1
    lines_of(result)
    assert target.names[-1] == "down"
    assert '"ended_on": null' not in path.read_text()


def test_a_recorder_that_does_not_stop_leaves_the_deployment_as_it_is(
    run: Run, started: SqliteStore, target: Calls
) -> None:
    target.error = TargetError("it does not stop.", "look", why="it hangs.")

    assert run("deployment", "stop", "--drain").exit_code == 1

    [oak] = started.get_deployments()
    assert oak.ended_on is None


def service(name: str, role: Any, *queues: str) -> Service:
    return Service(name=name, role=role, command=(), queues=queues)


@pytest.mark.parametrize(
    "services",
    [
        [service("acoupi", "recorder", "recording", "celery")],
        [
            service("acoupi", "recorder", "recording", "detection"),
            service("default", "worker", "celery"),
        ],
        [service("default", "worker", "celery")],
    ],
    ids=["one worker", "a recorder with a model", "no recorder"],
)
def test_a_sensor_whose_recorder_does_the_rest_cannot_be_drained(services: list[Service]) -> None:
    recorder = next((one for one in services if one.role == "recorder"), None)
    sensor: Any = SimpleNamespace(target=SimpleNamespace(recorder=recorder, services=services))

    with pytest.raises(TargetError, match="cannot finish the waiting work"):
        check_can_drain(sensor)


def test_the_container_of_the_recorder_is_stopped_first(
    run: Run, bundle: Path, docker: FakeDocker
) -> None:
    Sensor.read(Settings(home=bundle)).target.stop_recorder()

    assert docker.asked[-1].endswith("stop recording")


def test_a_heartbeat_meanwhile_does_not_miss_recordings(clock: Clock) -> None:
    store = InMemoryStore()
    ended = data.Deployment(name="Oak", started_on=clock.now, ended_on=clock.now)
    store.store_deployment(ended)
    report = StatusReport(store)

    assert report() == report() == "OK"


@pytest.mark.parametrize("command", [["stop"], ["deployment", "stop"]])
def test_a_limit_without_drain_is_refused_and_nothing_is_stopped(
    run: Run, started: SqliteStore, target: Calls, command: list[str]
) -> None:
    result = run(*command, "--drain-limit", "5")

    assert result.exit_code == 2
    assert "--drain-limit is given without --drain" in lines_of(result)[0]
    assert "acoupi stop --drain --drain-limit 5" in lines_of(result)[-1]
    assert target.names == ["up"]
