"""A sensor that reports to a hub: real HTTP, a real PostgreSQL, and what can go wrong between."""

import dataclasses
import datetime
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from pydantic import SecretStr

from acoupi import data
from acoupi.components.message_stores.outbox import OutboxLimits
from acoupi.components.messengers.hub import HubMessenger
from acoupi.components.stores.reader import SqliteReader, StatementReader
from acoupi.components.stores.reporting import reports_of
from acoupi.components.stores.unreported import Change, Unreported
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import CapturePlan
from acoupi.errors import ConfigurationError
from acoupi.heard import Filters, Verdict, VerdictRow
from acoupi.hub.database import HubDatabase
from acoupi.hub.fleet_standing import get_values
from acoupi.hub.reader import HubReader
from acoupi.hub.sensors import add_sensor, get_sensors
from acoupi.hub.taking_in import take_in
from acoupi.reports import ReportSequence, SettingsReport
from acoupi.services.construction import load_program
from acoupi.services.program_hooks import call_hook
from acoupi.services.program_hooks import main as call_hook_of_home
from acoupi.services.reporting import generate_hub_task
from acoupi.stack.settings import Settings
from acoupi.system.backlog import left_over
from acoupi.system.deployments import end_deployment, start_deployment
from acoupi.system.lifecycle import finish, setup_program
from acoupi.system.sensor import Sensor as HomeSensor
from tests.clocks import Clock
from tests.hub.reporting import Hub, Sensor
from tests.postgres import Postgres
from tests.services import DEADLINE, eventually
from tests.stores import SITE, at, deployment, detection, output, recording


@pytest.fixture
def hub(postgres: Postgres) -> Iterator[Hub]:
    hub = Hub(postgres.new_database("reported"))
    yield hub
    hub.stop()


@pytest.fixture
def sensor(hub: Hub, tmp_path: Path) -> Iterator[Sensor]:
    sensor = Sensor(tmp_path, hub.url, hub.token)
    yield sensor
    sensor.close()


def record(sensor: Sensor, first: int, number: int, site: data.Deployment = SITE) -> list[UUID]:
    """Record, and analyse every second recording."""
    ids = []
    for index in range(first, first + number):
        sound = recording(f"{index}.wav", index * 10, deployment=site)
        sensor.store.store_recording(sound)
        if index % 2:
            found = detection(0.5 + index % 5 / 10, ("species", f"Myotis {index % 3}", 0.9))
            sensor.store.store_model_output(output(sound, found))
        ids.append(sound.id)
    return ids


def known_to(reader: StatementReader) -> dict[str, Any]:
    """Return all that a reader says."""

    def named(row: Any) -> Any:
        return dataclasses.replace(row, path=row.path and Path(row.path.name))

    with reader:
        deployments = reader.get_deployments()
        return {
            "deployments": deployments,
            "recordings": [named(one) for one in reader.recordings(Filters())],
            "detections": [
                dataclasses.replace(one, recording=named(one.recording))
                for one in reader.detections(Filters())
            ],
            "verdicts": list(reader.verdicts(Filters())),
            "effort": [reader.get_effort(one) for one in deployments],
        }


def assert_same(sensor: Sensor, hub: Hub) -> None:
    here, there = known_to(SqliteReader(sensor.path)), known_to(HubReader(hub.database))
    for what, rows in here.items():
        assert there[what] == rows, what


def test_everything_arrives_once_though_hub_and_link_fail(hub: Hub, sensor: Sensor) -> None:
    ids = record(sensor, 0, 300)
    assert (sensor.report().trouble or "").startswith("cannot reach the server")
    hub.start_process()
    sending = threading.Thread(target=sensor.report)
    sending.start()
    eventually(lambda: sensor.standing().acknowledged_on is not None, "a first acknowledgement")
    hub.kill()
    sending.join(DEADLINE)
    # while the link is down, all goes on
    record(sensor, 300, 50, deployment(name="Beech", started_on=at(3000)))
    [(known, _)] = sensor.store.get_recordings([ids[1]])
    sensor.store.end_recording(known, data.RecordingState.DELETED)
    sensor.store.store_model_output(output(known, detection(0.9), name_model="birds"))
    sensor.store.add_verdict(VerdictRow(ids[3], None, Verdict.WRONG, None, "x", "no", at(80)))
    notes = [EffortSpan(at(5000), at(5060), EffortState.OFF_SCHEDULE)]
    sensor.store.note_effort(SITE, notes)
    sensor.report()
    waiting = sensor.standing().waiting
    hub.start_process()

    standing = sensor.report()

    assert waiting > 0
    assert (standing.waiting, standing.trouble) == (0, None)
    assert_same(sensor, hub)


class Killed(BaseException):
    """The worker that sends is killed."""


class Dying(Unreported):
    """Ends the worker at its first acknowledgement, before or after it is noted."""

    def __init__(self, path: Path, *, after: bool) -> None:
        super().__init__(path)
        self.after = after

    def acknowledge(self, changes: Any) -> None:
        if self.after:
            super().acknowledge(changes)
        raise Killed


@pytest.mark.parametrize("after", [False, True])
def test_a_worker_that_is_killed_while_it_reports_loses_and_doubles_nothing(
    hub: Hub, sensor: Sensor, after: bool
) -> None:
    hub.start()
    record(sensor, 0, 30)
    with closing(Dying(sensor.path, after=after)) as dying, pytest.raises(Killed):
        sensor.report(dying)
    record(sensor, 30, 5)

    assert sensor.report().waiting == 0
    assert_same(sensor, hub)


def test_a_note_that_the_clock_has_moved_is_at_the_hub_once(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    first = EffortSpan(at(0), at(60), EffortState.OFF_SCHEDULE)
    sensor.store.note_effort(SITE, [first])
    sensor.report()
    with sensor.unreported._database.writing() as connection:
        connection.execute("UPDATE effort_note SET start_us = start_us + 7200 * 1000000,"
                           " end_us = end_us + 7200 * 1000000")  # fmt: skip

    assert sensor.report().waiting == 0
    assert_same(sensor, hub)


def test_a_plan_that_the_clock_has_moved_is_at_the_hub_once(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    record(sensor, 0, 1)
    plan = CapturePlan(duration=1, interval=60)
    years = datetime.timedelta(days=9999)
    sensor.store.note_plan(SITE, plan, data.utc_now() + years)
    sensor.report()
    with sensor.unreported._database.writing() as connection:
        connection.execute("UPDATE effort_plan SET since_us = since_us - 9999 * 86400 * 1000000")

    assert sensor.report().waiting == 0
    assert_same(sensor, hub)


def test_a_hub_that_was_put_back_from_a_copy_gets_again_what_it_lost(
    hub: Hub, sensor: Sensor, postgres: Postgres
) -> None:
    hub.start()
    record(sensor, 0, 10)
    sensor.report()
    hub.stop()
    copy = postgres.copy_of(hub.database)
    hub.start()
    record(sensor, 10, 5)
    sensor.report()
    hub.stop()
    hub.database = copy

    hub.start()
    record(sensor, 15, 1)
    sensor.report()
    assert sensor.report().waiting == 0

    assert_same(sensor, hub)
    assert sensor.unreported.mark(sensor.messenger.token_sha256) is not None
    record(sensor, 16, 1)
    assert sensor.report().waiting == 0
    assert sensor.standing().hub == sensor.messenger.name  # and nothing is sent a third time


def test_a_wrong_token_is_told_and_nothing_is_lost(hub: Hub, tmp_path: Path) -> None:
    hub.start()
    sensor = Sensor(tmp_path, hub.url, "wrong")
    record(sensor, 0, 3)

    standing = sensor.report()
    sensor.close()

    assert "HTTP 401: this token is not valid" in (standing.trouble or "")
    assert "acoupi hub add-sensor" in (standing.trouble or "")
    assert (standing.waiting, standing.acknowledged_on) == (4, None)
    assert standing.rests_until is not None


def test_a_worker_that_starts_anew_asks_at_once(hub: Hub, sensor: Sensor) -> None:
    """Its token may be another one now; it rests all the same where that is refused, too."""
    hub.start()
    right, sensor.messenger = sensor.messenger, HubMessenger(hub.url, SecretStr("wrong"))
    record(sensor, 0, 3)
    refused = sensor.task()
    refused()
    rests_until = sensor.standing().rests_until
    refused()
    assert sensor.standing().rests_until == rests_until is not None

    sensor.messenger = right
    sensor.task()()

    assert (sensor.standing().waiting, sensor.standing().trouble) == (0, None)


def test_what_belongs_to_another_sensor_keeps_nothing_else_from_arriving(
    hub: Hub, sensor: Sensor
) -> None:
    hub.start()
    record(sensor, 0, 2)
    with closing(HubDatabase(hub.database)) as database:
        add_sensor(database, "elm-2")
        for report in reports_of(sensor.path):
            take_in(database, "elm-2", report)
    record(sensor, 2, 4, deployment(name="Beech"))

    sensor.report()
    standing = sensor.report()

    assert "belongs to another" in (standing.trouble or "")
    assert standing.waiting == 3  # the deployment, and its two recordings
    with closing(HubDatabase(hub.database)) as database:
        counts = {one.name: one.recordings for one in get_sensors(database)}
    assert counts == {"elm-2": 2, "oak-1": 4}


@pytest.mark.parametrize("days", [-4000, 0, 4000])
def test_a_copy_that_is_imported_counts_as_old_as_it_is(
    hub: Hub, sensor: Sensor, tmp_path: Path, days: float
) -> None:
    now = data.utc_now() + timedelta(days=days)  # by the clock where it is imported
    hub.start()
    record(sensor, 0, 3)
    sounds = [
        sensor.store.get_recordings_by_path([Path(f"/spool/{name}.wav")])[0][0] for name in range(3)
    ]
    sensor.report()

    def states() -> list[str]:
        with HubReader(hub.database) as reader:
            found = sorted(reader.recordings(Filters()), key=lambda one: one.started_on)
        return [one.state.value for one in found]

    def delete(one: data.Recording) -> None:
        sensor.store.end_recording(one, data.RecordingState.DELETED)

    delete(sounds[0])
    with (
        closing(sqlite3.connect(sensor.path)) as store,
        closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        store.backup(copy)
    delete(sounds[1])
    sensor.report()
    with closing(HubDatabase(hub.database)) as database:
        for report in reports_of(tmp_path / "copy.db", now):
            take_in(database, "oak-1", report)
    assert states() == ["deleted", "deleted", "captured"]

    delete(sounds[2])
    with closing(HubDatabase(hub.database)) as database:
        for report in reports_of(sensor.path, now):
            take_in(database, "oak-1", report)
    assert states() == ["deleted", "deleted", "deleted"]

    record(sensor, 3, 1)
    sensor.report()
    [last] = sensor.store.get_recordings_by_path([Path("/spool/3.wav")])
    delete(last[0])
    sensor.report()
    assert states() == ["deleted"] * 4


def test_a_hub_of_another_version_is_told_and_nothing_is_lost(hub: Hub, sensor: Sensor) -> None:
    with closing(HubDatabase(hub.database)) as database, database.writing() as connection:
        connection.execute("UPDATE acoupi_hub SET version = 99")
    record(sensor, 0, 2)
    hub.start()

    standing = sensor.report()

    assert "of version 99" in (standing.trouble or "")
    assert standing.waiting == 3


def test_a_message_arrives_as_it_was_made(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    message = data.Message(content='{"status": "OK"}', message_type=data.MessageType.HEARTBEAT)
    sensor.messages.store_message(message)

    sensor.report()

    with closing(HubDatabase(hub.database)) as database, database.reading() as connection:
        found = connection.execute("SELECT id, message_type, content FROM message").fetchall()
    assert found == [(message.id.bytes, "heartbeat", '{"status": "OK"}')]


def test_a_message_that_the_hub_has_not_got_is_not_removed(sensor: Sensor) -> None:
    sensor.messages.store_message(data.Message(content="{}"))
    [sent] = sensor.messages.claim_messages("http")
    answer = data.Response(status=data.ResponseStatus.SUCCESS, message=sent)
    sensor.messages.settle_message("http", answer)
    sensor.report()  # no hub answers

    assert sensor.messages.remove_delivered(data.utc_now(), ["http"]) == 0


def test_where_nothing_changes_the_hub_still_hears_of_the_sensor(hub: Hub, sensor: Sensor) -> None:
    hub.start()
    first = sensor.report().acknowledged_on
    second = sensor.report().acknowledged_on

    assert first is not None
    assert second == first  # not before an hour is over


def test_no_more_is_sent_than_a_day_may_cost(
    hub: Hub, sensor: Sensor, clock: Clock
) -> None:  # it does not get midnight meanwhile
    hub.start()
    sensor.messages.outbox = OutboxLimits(bytes_per_day=10_000)
    record(sensor, 0, 300)

    standing = sensor.report()
    again = sensor.report()

    assert standing.acknowledged_on is not None
    assert again.waiting == standing.waiting > 0
    assert again.trouble is None
    assert sum(sensor.messages.get_bytes_sent().values()) >= 8_000


class Asked(HubMessenger):
    """Counts what it is asked to send to a hub that answers 503."""

    def __init__(self) -> None:
        super().__init__("http://127.0.0.1:9", SecretStr("x"))
        self.asked = 0

    def send_packed(self, report: bytes, sequence: ReportSequence | None = None) -> data.Response:
        self.asked += 1
        return data.Response(
            status=data.ResponseStatus.FAILED,
            message=data.Message(content=report),
            content="HTTP 503: busy",
            retry_after=3600,
        )


def test_a_hub_that_asks_for_patience_is_left_alone(tmp_path: Path) -> None:
    sensor = Sensor(tmp_path, "http://127.0.0.1:9", "x")
    record(sensor, 0, 2)
    messenger = Asked()
    task = generate_hub_task(sensor.unreported, sensor.reporter, messenger)
    for _ in range(3):
        task()
    standing = sensor.standing()
    sensor.close()

    assert messenger.asked == 1
    assert standing.trouble == "HTTP 503: busy"
    assert standing.rests_until is not None
    assert (standing.rests_until - data.utc_now()).total_seconds() > 1800


def test_the_hub_reads_what_it_is_sent(sensor: Sensor) -> None:
    change = Change(1, "deployment", 1, 0)
    record(sensor, 0, 1)

    assert sensor.reporter.report([change], at(0)).deployments[0].deployment == SITE


def settings_at(hub: Hub) -> dict[str, Any]:
    """Return the settings of the only sensor that told them."""
    with closing(HubDatabase(hub.database)) as database:
        [values] = get_values(database).values()
    return values


def test_the_settings_in_force_are_reported_when_they_change(hub: Hub, sensor: Sensor) -> None:
    found: list[SettingsReport] = [
        SettingsReport(program="demo", version="1", values={"recording.duration": duration})
        for duration in (3, 3, 5)
    ]
    left = iter(found)

    def find() -> SettingsReport:
        report = next(left, None)
        if report is None:
            raise ConfigurationError("it cannot be read.")
        return report

    task = generate_hub_task(
        sensor.unreported, sensor.reporter, sensor.messenger, find_settings=find
    )
    task()  # the hub is not there yet
    hub.start()
    sensor.unreported.settle(None)
    task()
    assert settings_at(hub) == {"recording.duration": 3}
    task()
    assert settings_at(hub) == {"recording.duration": 5}
    record(sensor, 0, 1)
    task()  # what cannot be read does not keep the rest from being reported
    assert sensor.standing().waiting == 0


def end_here(settings: Settings) -> data.Deployment:
    """End a deployment as a command does."""
    ended = finish(HomeSensor.read(settings))
    assert ended is not None
    return ended


def end_as_in_a_container(settings: Settings) -> data.Deployment:
    """End a deployment as a command has it done where the program is."""
    ended = end_deployment(settings)
    assert call_hook_of_home(["end", ended.model_dump_json()]) == 0
    return ended


@pytest.mark.parametrize("end", [end_here, end_as_in_a_container])
def test_the_end_of_a_deployment_is_reported_before_the_sensor_is_silent(
    hub: Hub, home: Path, end: Callable[[Settings], data.Deployment]
) -> None:
    hub.start()
    options = ("--sensor.hub.url", hub.url)
    secret = {"ACOUPI_SENSOR__HUB__TOKEN": hub.token}
    settings = Settings(home=home)
    setup_program(settings, "demo", [*options], target="process", environ=secret)
    started = start_deployment(settings, "Old oak", 51, 0)
    call_hook(load_program(settings), "start", started)

    ended = end(settings)

    with HubReader(hub.database) as reader:
        [known] = reader.get_deployments()
    assert (known.id, known.ended_on) == (started.id, ended.ended_on)


def test_a_deployment_ends_also_where_the_hub_does_not_answer(hub: Hub, home: Path) -> None:
    settings = Settings(home=home)
    secret = {"ACOUPI_SENSOR__HUB__TOKEN": hub.token}
    setup_program(settings, "demo", ["--sensor.hub.url", hub.url], target="process", environ=secret)
    call_hook(load_program(settings), "start", start_deployment(settings, "Old oak", 51, 0))

    ended = finish(HomeSensor.read(settings))

    assert ended is not None
    assert ended.ended_on is not None
    assert left_over(settings) == ["1 change waits to be reported to the hub after the next start."]
