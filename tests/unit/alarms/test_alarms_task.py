"""Alarms on a sensor: found in its stores, kept, told once, and called for."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from acoupi import data
from acoupi.alarms.episodes import Alarm
from acoupi.alarms.facts import Facts
from acoupi.alarms.floors import HourFloor
from acoupi.alarms.limits import Alarms
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.devices import board as of_the_board
from acoupi.effort import CapturePlan
from acoupi.errors import AlarmStoreError, MessageStoreError
from acoupi.services.alarm_facts import FactFinder, hours_until_full
from acoupi.services.pulses import count_restarts
from acoupi.stack.pulse import Pulse, PulseFile
from acoupi.tasks.alarms import generate_alarms_task
from acoupi.testing import ListMessenger
from tests.clocks import Clock
from tests.unit.alarms.field_sound import health

NOW = datetime(2024, 6, 20, 12, tzinfo=UTC)
LIMITS = Alarms(enabled=True, microphone_times=2)


@pytest.fixture
def store(tmp_path: Path) -> SqliteAlarmStore:
    return SqliteAlarmStore(tmp_path / "alarms.db")


@pytest.fixture
def outbox(tmp_path: Path) -> SqliteMessageStore:
    return SqliteMessageStore(tmp_path / "messages.db")


def contents(outbox: SqliteMessageStore) -> list[dict[str, Any]]:
    return [json.loads(one.content) for one in outbox.get_unsent_messages()]


# The store


def test_an_alarm_is_kept_as_it_is(store: SqliteAlarmStore) -> None:
    raised = Alarm("disk_low", NOW, "full", NOW, None, is_told=True)
    over = Alarm("clock_unknown", NOW - timedelta(days=2), "", NOW, NOW, True, True)

    store.put_look([raised, over], {"x": [1]})

    assert store.get_open() == store.get_active() == [raised]
    assert store.get_alarms() == [over, raised]
    assert store.get_alarms(until=NOW - timedelta(days=1)) == [over]
    assert store.get_alarms(since=NOW + timedelta(days=1)) == [raised]
    assert store.get_notes() == {"x": [1]}


def test_an_alarm_that_is_stored_again_is_the_same_one(store: SqliteAlarmStore) -> None:
    store.put_look([Alarm("disk_low", NOW)], {"x": 1, "y": 1})
    over = Alarm("disk_low", NOW, ended_on=NOW, is_told=True, is_end_told=True)

    store.put_look([over], {"y": 2})

    assert store.get_alarms() == [over]
    assert store.get_open() == []
    assert store.get_notes() == {"x": 1, "y": 2}


def test_noise_floors_are_forgotten_when_they_are_old(store: SqliteAlarmStore) -> None:
    known = [HourFloor(NOW - timedelta(hours=n), -60.5, -62) for n in (3, 2, 1)]
    store.put_floors(known[:2], NOW - timedelta(days=1))
    store.put_floors(known[2:], NOW - timedelta(hours=2))

    assert store.get_floors(NOW - timedelta(days=1)) == known[1:]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "alarms.db"
    path.write_text("not a database at all, but a text that is long enough to be one" * 50)

    with pytest.raises(AlarmStoreError):
        SqliteAlarmStore(path).get_notes()
    assert path.read_text().startswith("not a database")


# The task


class Sensor:
    """A sensor of which a test says the facts."""

    def __init__(self, store: SqliteAlarmStore, outbox: Any) -> None:
        self.now = NOW
        self.facts: dict[str, Any] = {}
        self.task = generate_alarms_task(self.find, LIMITS, store, outbox, lambda: "board-1")

    def find(self, notes: Any) -> tuple[Facts, dict[str, Any]]:
        self.now += timedelta(seconds=30)
        return Facts(now=self.now, **self.facts), {"looks": notes.get("looks", 0) + 1}

    def look(self, times: int = 1, **facts: Any) -> None:
        self.facts = facts
        for _ in range(times):
            self.task()


def test_an_alarm_is_told_once_and_so_is_its_end(
    store: SqliteAlarmStore, outbox: SqliteMessageStore
) -> None:
    sensor = Sensor(store, outbox)

    sensor.look(4, has_low_voltage=True)
    assert [one["state"] for one in contents(outbox)] == ["raised"]
    sensor.look(4, has_low_voltage=False)

    told = contents(outbox)
    assert [one["state"] for one in told] == ["raised", "cleared"]
    assert told[0]["alarm"] == "voltage_low"
    assert told[0]["since"] == told[1]["since"]
    assert told[0]["until"] is None
    assert datetime.fromisoformat(told[1]["until"]) > datetime.fromisoformat(told[0]["since"])
    assert told[0]["device_id"] == "board-1"
    kinds = {one.message_type for one in outbox.get_unsent_messages()}
    assert kinds == {data.MessageType.ALARM}
    assert store.get_notes()["looks"] == 8


def test_two_episodes_are_two_alarms(store: SqliteAlarmStore, outbox: SqliteMessageStore) -> None:
    sensor = Sensor(store, outbox)
    for _ in range(2):
        sensor.look(has_low_voltage=True)
        sensor.look(has_low_voltage=False)

    assert [one["state"] for one in contents(outbox)] == ["raised", "cleared"] * 2
    assert len(store.get_alarms()) == 2


class Interrupted(SqliteAlarmStore):
    """Power is cut after a message was stored, before that is noted."""

    cuts = 1

    def put_look(self, alarms: Any, notes: Any) -> None:
        if any(one.is_told for one in alarms) and self.cuts:
            self.cuts -= 1
            raise KeyboardInterrupt
        super().put_look(alarms, notes)


def test_a_power_cut_between_two_steps_tells_nothing_twice(
    tmp_path: Path, outbox: SqliteMessageStore
) -> None:
    sensor = Sensor(Interrupted(tmp_path / "alarms.db"), outbox)
    with pytest.raises(KeyboardInterrupt):
        sensor.look(has_low_voltage=True)
    assert len(contents(outbox)) == 1

    sensor.look(has_low_voltage=True)

    assert [one["state"] for one in contents(outbox)] == ["raised"]


class FullOutbox(SqliteMessageStore):
    is_full = True

    def store_message(self, message: data.Message) -> None:
        if self.is_full:
            raise MessageStoreError("cannot write.", "make room", why="the disk is full.")
        super().store_message(message)


def test_what_the_outbox_refused_is_told_later(store: SqliteAlarmStore, tmp_path: Path) -> None:
    outbox = FullOutbox(tmp_path / "messages.db")
    sensor = Sensor(store, outbox)
    for wrong in (True, False):
        with pytest.raises(MessageStoreError):
            sensor.look(has_low_voltage=wrong)
    outbox.is_full = False

    sensor.look(has_low_voltage=False)

    assert [one["state"] for one in contents(outbox)] == ["raised", "cleared"]
    assert store.get_open() == []


def test_a_program_that_sends_nothing_keeps_its_alarms(store: SqliteAlarmStore) -> None:
    sensor = Sensor(store, None)
    sensor.look(has_low_voltage=True)
    assert len(store.get_active()) == 1
    sensor.look(has_low_voltage=False)

    assert [one.is_active for one in store.get_alarms()] == [False]
    assert store.get_open() == []


# The facts


class Board:
    """A home whose stores a test fills."""

    def __init__(self, tmp_path: Path, store: SqliteAlarmStore, clock: Clock) -> None:
        self.clock = clock
        self.folder = tmp_path
        self.alarms = store
        self.store = SqliteStore(tmp_path / "metadata.db")
        self.outbox = SqliteMessageStore(tmp_path / "messages.db")
        self.deployment = data.Deployment(name="oak", started_on=clock.now)
        self.store.store_deployment(self.deployment)
        plan = CapturePlan(duration=10, interval=10)
        self.store.note_plan(self.deployment, plan, clock.now)

    def record(self, count: int = 1, floor: float = -60, **changes: Any) -> None:
        """Record without a gap."""
        for _ in range(count):
            report = data.CaptureReport(
                stream_id=uuid4(),
                first_frame=0,
                frames=480_000,
                samplerate_measured=None,
                clock_synchronised=True,
                clock_error_s=None,
                health=health(floor, **changes),
            )
            recording = data.Recording(
                path=self.folder / f"{uuid4()}.wav",
                duration=10,
                samplerate=48_000,
                deployment=self.deployment,
                created_on=self.clock.now,
                capture=report,
            )
            self.store.store_recording(recording)
            self.clock.advance(10)

    def miss(self, seconds: float) -> None:
        """Have no microphone for a while."""
        start = self.clock.now
        self.clock.advance(seconds)
        missing = data.EffortState.DEVICE_MISSING
        note = data.EffortSpan(start, self.clock.now, missing, "unplugged")
        self.store.note_effort(self.deployment, [note])

    def find(self, notes: Any = None) -> tuple[Facts, dict[str, Any]]:
        return self.finder()(notes or {})

    def finder(self) -> FactFinder:
        return FactFinder(
            self.store,
            self.outbox,
            self.alarms,
            LIMITS,
            run_dirs=[self.folder / "run"],
            services=["recording", "beat"],
            folders=[self.folder / "not" / "there" / "yet"],
            messengers=["list"],
        )


@pytest.fixture
def board(tmp_path: Path, store: SqliteAlarmStore, clock: Clock) -> Board:
    return Board(tmp_path, store, clock)


def test_a_sensor_that_records_has_nothing_missing(board: Board) -> None:
    board.record(30, floor=-61)

    facts, _ = board.find()

    assert facts.cannot_record == ""
    assert facts.missing_s == 0
    assert facts.planned_s == facts.recorded_s == 300
    assert [one.floor for one in facts.heard] == [-61, -61]
    assert facts.heard[0].bytes_per_second == 96_000
    assert facts.free_bytes is not None
    assert facts.free_bytes > 0
    assert facts.oldest_message_s == 0
    assert facts.oldest_recording_s == 300


def test_a_recording_in_progress_is_not_missing(board: Board) -> None:
    board.record(3)
    board.clock.advance(9)

    facts, _ = board.find()

    assert facts.missing_s == 0
    assert facts.recorded_s == facts.planned_s == 30


def test_a_microphone_that_is_unplugged_is_missing_since_then(board: Board) -> None:
    board.record(30)
    board.miss(900)

    facts, _ = board.find()

    assert facts.cannot_record == "device missing: unplugged"
    assert facts.missing_s == 900
    assert (facts.recorded_s, facts.planned_s) == (300, 1200)
    board.record()
    facts, _ = board.find()
    assert (facts.cannot_record, facts.missing_s) == ("", 0)


def test_hours_outside_the_plan_are_not_missing(board: Board) -> None:
    board.record(3)
    start = board.clock.now
    board.clock.advance(7200)
    for state in (data.EffortState.OFF_SCHEDULE, data.EffortState.CONDITION_REFUSED):
        board.store.note_effort(
            board.deployment, [data.EffortSpan(start, board.clock.now, state, "raining")]
        )

        facts, _ = board.find()

        assert facts.missing_s == 0
        assert facts.planned_s == 30


def test_without_a_deployment_nothing_is_missing(board: Board) -> None:
    ended = board.deployment.model_copy(update={"ended_on": board.clock.now})
    board.store.update_deployment(ended)
    board.clock.advance(86_400)

    facts, _ = board.find()

    assert (facts.cannot_record, facts.missing_s, facts.heard) == ("", 0, ())


def test_the_usual_noise_floor_is_learnt_by_the_hour(board: Board) -> None:
    for _ in range(4):
        board.record(3, floor=-60)
        board.clock.advance(86_400 - 30)
        board.find()
    board.record(2, floor=-80)

    facts, _ = board.find()

    assert facts.floor_days == 4
    assert facts.floor_limit == pytest.approx(-70)


def test_a_suspect_hour_teaches_nothing(board: Board) -> None:
    board.record(3, floor=-95)
    deaf = Alarm("microphone_deaf", board.deployment.started_on, ended_on=board.clock.now)
    board.alarms.put_look([deaf], {})
    board.clock.advance(7200)
    board.find()

    assert board.alarms.get_floors(board.deployment.started_on - timedelta(hours=1)) == []


def test_the_age_of_the_oldest_message_is_that_of_one_that_still_waits(board: Board) -> None:
    sent, waiting = (
        data.Message(content=text, created_on=board.clock.now - timedelta(hours=hours))
        for text, hours in (("a", 9), ("b", 7))
    )
    board.outbox.store_message(sent)
    board.outbox.store_message(waiting)
    assert board.find()[0].oldest_message_s == 9 * 3600

    messenger = ListMessenger("list")
    claimed = board.outbox.claim_messages("list", limit=1)
    board.outbox.settle_message("list", messenger.send_message(claimed[0]))
    board.outbox.release_messages("list", [])

    assert board.find()[0].oldest_message_s == 7 * 3600


class SlowStore(SqliteStore):
    """One that takes 4 s to add up a day."""

    clock: Clock
    asked = 0

    def get_grouped_effort(self, *args: Any, **kwargs: Any) -> Any:
        self.asked += 1
        self.clock.advance(4)
        return super().get_grouped_effort(*args, **kwargs)


def test_adding_up_a_day_takes_a_small_part_of_the_time(board: Board) -> None:
    board.record(3)
    board.store = SlowStore(board.folder / "metadata.db")
    board.store.clock = board.clock
    find = board.finder()

    for _ in range(10):
        board.clock.advance(26)
        assert find({})[0].recorded_s == 30

    assert board.store.asked == 2


class BrokenStore(SqliteStore):
    def get_deployments(self) -> list[data.Deployment]:
        raise OSError("the disk fails")


def test_what_cannot_be_read_is_not_known(board: Board) -> None:
    board.store = BrokenStore(board.folder / "metadata.db")

    facts, _ = board.find()

    assert facts.heard == ()
    assert facts.planned_s is None
    assert facts.free_bytes is not None


def test_a_service_that_starts_again_and_again_is_counted(board: Board) -> None:
    notes: dict[str, Any] = {}
    counts = []
    for restarts in range(4):
        pulse = PulseFile(board.folder / "run", "recording")
        pulse.pulse.restarts = restarts
        pulse.pulse.started_on = board.clock.now
        pulse.write()
        facts, notes = board.find(notes)
        notes = json.loads(json.dumps(notes))
        counts.append(facts.restarts["recording"])
        board.clock.advance(60)
    board.clock.advance(3600)

    assert counts == [0, 1, 2, 3]
    assert board.find(notes)[0].restarts["recording"] == 0


def pulse(started: datetime, restarts: int = 0) -> Pulse:
    return Pulse(name="beat", pid=1, started_on=started, pulse_on=started, restarts=restarts)


def test_the_start_of_a_deployment_is_no_restart() -> None:
    before = count_restarts({}, [pulse(NOW)], NOW, None)
    begun = NOW + timedelta(minutes=5)
    later = begun + timedelta(minutes=1)

    assert count_restarts(before, [pulse(later)], later, begun)["beat"]["times"] == []
    assert len(count_restarts(before, [pulse(later, 3)], later, None)["beat"]["times"]) == 3


def test_a_disk_that_fills_is_full_at_the_pace_of_the_last_day() -> None:
    samples = [[(NOW - timedelta(hours=5)).timestamp(), 100.0]]

    assert hours_until_full(samples, 50, NOW) == 5
    assert hours_until_full(samples, 100, NOW) == float("inf")
    assert hours_until_full(samples, 50, NOW - timedelta(hours=4.5)) is None
    assert hours_until_full([], 50, NOW) is None


# The board


def test_temperature_and_voltage_are_what_the_kernel_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(of_the_board, "SYS", tmp_path)
    zone, volt = tmp_path / "thermal" / "thermal_zone0", tmp_path / "hwmon" / "hwmon1"
    other = tmp_path / "thermal" / "thermal_zone1"
    for folder in (zone, volt, other):
        folder.mkdir(parents=True)
    assert of_the_board.board_temperature() is None
    assert of_the_board.has_low_voltage() is None
    (zone / "temp").write_text("61234\n")
    (other / "temp").write_text("nonsense")
    (volt / "name").write_text("rpi_volt\n")
    (volt / "in0_lcrit_alarm").write_text("1\n")

    assert of_the_board.board_temperature() == 61.234
    assert of_the_board.has_low_voltage() is True
    (volt / "in0_lcrit_alarm").write_text("0\n")
    assert of_the_board.has_low_voltage() is False
