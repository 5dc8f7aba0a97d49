"""Beat sends what is due, whatever the wall clock does."""

import datetime
import json
import subprocess
import sys
import threading
from itertools import pairwise
from typing import Any

import pytest
from celery.schedules import BaseSchedule, crontab, solar

from acoupi import data
from acoupi.errors import ConfigurationError
from acoupi.services import beat
from acoupi.services.beat import Planner
from acoupi.services.entries import Aligned, Entry, Interval, When
from acoupi.services.task_messages import Publisher, TaskMessage
from acoupi.stack.pulse import AlreadyRunningError, ServiceLock, read_pulse
from acoupi.system import Settings, setup_program
from tests.clocks import Clock
from tests.unit.system.conftest import WriteModule

YEARS = 40 * 365 * 86_400.0


def now() -> datetime.datetime:
    return data.utc_now()


every, aligned = Interval, Aligned


class Sent(list[tuple[float, str, float]]):
    """What was sent: when (seconds since the beginning), what, and for how long it is good."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.began = clock.seconds

    def __call__(self, entry: Entry, expires: float) -> None:
        self.append((round(self.clock.seconds - self.began, 3), entry.name, round(expires, 3)))

    @property
    def times(self) -> list[float]:
        return [when for when, _, _ in self]


def planner(clock: Clock, **schedules: Interval | When) -> tuple[Planner, Sent]:
    sent = Sent(clock)
    entries = [Entry(name, name, "celery", when) for name, when in schedules.items()]
    return Planner(entries, sent), sent


def run(planner: Planner, clock: Clock, seconds: float) -> None:
    """Let it work as beat does: it looks at the clock with every pulse."""
    end = clock.seconds + seconds
    while True:
        wait = min(planner.tick(), beat.PULSE_EVERY)
        if clock.seconds + wait > end:
            return
        clock.advance(max(wait, 0.001))


def test_an_interval_begins_at_once_and_keeps_its_distance(clock: Clock) -> None:
    plan, sent = planner(clock, tick=every(10))

    run(plan, clock, 31)

    assert sent == [(0, "tick", 10), (10, "tick", 10), (20, "tick", 10), (30, "tick", 10)]


def test_an_aligned_schedule_keeps_to_the_clock(clock: Clock) -> None:
    plan, sent = planner(clock, slot=aligned(10))

    run(plan, clock, 25)

    # The clock shows a quarter of a second past the slot.
    assert sent.times == [9.75, 19.75]
    assert [expires for _, _, expires in sent] == [10.0, 10.0]


def test_a_crontab_keeps_to_the_clock(clock: Clock) -> None:
    plan, sent = planner(clock, minute=crontab(nowfun=now))

    run(plan, clock, 150)

    assert sent.times == [59.75, 119.75]


def test_a_solar_schedule_follows_the_sun(clock: Clock) -> None:
    plan, sent = planner(clock, evening=solar("dusk_civil", 51.5, -0.1, nowfun=now))

    run(plan, clock, 2 * 86_400)

    assert len(sent) == 2
    assert sent.times[1] - sent.times[0] == pytest.approx(86_400, abs=300)


@pytest.mark.parametrize("step", [YEARS, -YEARS, 3600.0, -3600.0, 5.0, -5.0])
def test_a_step_of_the_clock_does_not_disturb_an_interval(clock: Clock, step: float) -> None:
    plan, sent = planner(clock, tick=every(10))
    run(plan, clock, 14)

    clock.step(step)
    run(plan, clock, 30)

    assert sent.times == [0, 10, 20, 30, 40]


@pytest.mark.parametrize("step", [YEARS, -YEARS, 3600.0, -3600.0])
@pytest.mark.parametrize("when", [aligned(10), crontab(nowfun=now)])
def test_after_a_step_what_follows_the_clock_goes_on_with_its_next_slot(
    clock: Clock, step: float, when: When
) -> None:
    plan, sent = planner(clock, slot=when)
    run(plan, clock, 65)
    before = len(sent)

    clock.step(step)
    run(plan, clock, 121)

    new = [when for when, _, _ in sent[before:]]
    period = 60 if isinstance(when, crontab) else 10
    # Nothing is made up for, and nothing waits for the clock to catch up.
    assert len(new) == 120 // period
    assert new[0] - 65 <= period + 1
    gaps = {round(later - earlier, 2) for earlier, later in pairwise(new)}
    assert gaps <= {float(period)}


def test_a_clock_that_is_pulled_slowly_is_followed(clock: Clock) -> None:
    plan, sent = planner(clock, slot=aligned(10))

    for _ in range(20):
        run(plan, clock, 5)
        clock.advance(0.0)
        clock.now += datetime.timedelta(milliseconds=25)

    assert 9 <= len(sent) <= 11


def test_slots_that_passed_while_it_hung_are_left_out(clock: Clock) -> None:
    plan, sent = planner(clock, tick=every(10))
    run(plan, clock, 1)

    clock.advance(35)
    run(plan, clock, 10)

    assert sent.times[0] == 0
    assert len(sent) == 3
    assert all(round(when) % 10 == 0 for when in sent.times[2:])


def test_a_schedule_that_fails_does_not_stop_the_others(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(BaseSchedule):
        def is_due(self, last_run_at: Any) -> Any:
            raise ZeroDivisionError

    plan, sent = planner(clock, broken=Broken(nowfun=now), tick=every(10))

    run(plan, clock, 25)

    assert sent.times == [0, 10, 20]
    assert caplog.text.count("Cannot tell when broken is due") == 1


def test_without_entries_it_waits(clock: Clock) -> None:
    plan, _ = planner(clock)

    assert plan.tick() > 1


# As a service.


def waiting(settings: Settings, queue: str) -> list[dict[str, Any]]:
    folder = settings.run_dir / "broker" / "queues" / queue
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.msg"))]


class Once(threading.Event):
    """Is set by whoever waits for it: a loop ends after one round."""

    def wait(self, timeout: float | None = None) -> bool:
        self.set()
        return True


def run_for_one_round(settings: Settings) -> None:
    beat.run(settings, Once())


def test_it_sends_what_the_file_says_to_the_queue_of_each_task(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)

    run_for_one_round(settings)

    (recording,) = waiting(settings, "recording")
    (tidying,) = waiting(settings, "celery")
    assert recording["headers"]["task"] == "recording_task"
    assert recording["headers"]["expires"] is not None
    assert recording["content-type"] == "application/json"
    assert tidying["headers"]["task"] == "tidy_task"
    pulse = read_pulse(settings.run_dir, "beat")
    assert pulse is not None
    assert (pulse.state, pulse.done) == ("stopped", 2)


def test_a_program_with_a_schedule_of_its_own_is_loaded(
    settings: Settings, write_module: WriteModule
) -> None:
    name = write_module(
        "tidal_program",
        """
from celery.schedules import BaseSchedule
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram, DEFAULT_WORKER_CONFIG

class Tide(BaseSchedule):
    def is_due(self, last_run_at):
        return True, 3600.0

class Config(BaseModel):
    site: str = "shore"

class Program(AcoupiProgram[Config]):
    config_schema = Config
    worker_config = DEFAULT_WORKER_CONFIG

    def setup(self, config):
        def recording_task(): return None
        self.add_task(recording_task, schedule=Tide(), queue="recording")
""",
    )
    setup_program(settings, name)

    run_for_one_round(settings)

    assert len(waiting(settings, "recording")) == 1


def test_a_schedule_that_the_program_has_no_more_is_named(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name)
    content = json.loads(settings.schedule_file.read_text())
    content["entries"][0] |= {
        "name": "tide",
        "task": "tide_task",
        "schedule": {"kind": "program", "class": "tides.Tide"},
    }
    settings.schedule_file.write_text(json.dumps(content))

    with pytest.raises(ConfigurationError, match='"tide_task" is due') as caught:
        beat.run(settings, threading.Event())

    assert len(caught.value.lines()) == 3


HANGS = """
import time
from celery.schedules import BaseSchedule
from pydantic import BaseModel
from acoupi.programs import AcoupiProgram, DEFAULT_WORKER_CONFIG

class Stuck(BaseSchedule):
    def is_due(self, last_run_at):
        time.sleep(3600)

class Config(BaseModel):
    site: str = "shore"

class Program(AcoupiProgram[Config]):
    config_schema = Config
    worker_config = DEFAULT_WORKER_CONFIG

    def setup(self, config):
        def recording_task(): return None
        self.add_task(recording_task, schedule=Stuck(), queue="recording")
"""


def test_one_that_hangs_ends_itself_and_says_where(
    settings: Settings, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup_program(settings, write_module("hanging_program", HANGS))
    monkeypatch.setenv("PYTHONPATH", sys.path[0])
    code = (
        "import threading\n"
        "from acoupi.services import beat\n"
        "from acoupi.stack.settings import Settings\n"
        "beat.run(Settings(), threading.Event(), watchdog=beat.Watchdog(0.2))\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )

    assert result.returncode == 1
    assert "in is_due" in result.stderr


class HungBroker(Publisher):
    """A broker that never answers; notes what beat says of itself meanwhile."""

    def __init__(self, settings: Settings, stop: threading.Event, turns: list[float]) -> None:
        self._settings, self._stop, self._turns = settings, stop, turns
        self.states: list[str | None] = []
        self.turns_before: list[int] = []

    def send(self, queue: str, message: TaskMessage) -> None:
        pulse = read_pulse(self._settings.run_dir, "beat")
        self.states.append(pulse and pulse.state)
        self.turns_before.append(len(self._turns))
        if len(self.states) == 3:
            self._stop.set()
        raise ConnectionError("redis does not answer")

    def close(self) -> None:
        pass


class NotingStop(threading.Event):
    """Notes how long beat sleeps, and stops it."""

    def __init__(self) -> None:
        super().__init__()
        self.sleeps: list[float | None] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.sleeps.append(timeout)
        self.set()
        return True


def test_it_sleeps_until_its_next_pulse_if_nothing_is_due(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name, ["--interval", "3600"])
    stop = NotingStop()

    assert beat.run(settings, stop) == 0

    assert stop.sleeps == [beat.PULSE_EVERY]


class CountingWatchdog(beat.Watchdog):
    """Notes the turns of the loop and ends nothing."""

    def __init__(self, turns: list[float]) -> None:
        super().__init__()
        self._turns = turns

    def turn(self) -> None:
        self._turns.append(data.monotonic())


def test_a_broker_that_hangs_is_reported_at_once_and_does_not_count_as_being_stuck(
    settings: Settings, program_name: str
) -> None:
    setup_program(settings, program_name, ["--interval", "0.1"])
    stop, turns = threading.Event(), list[float]()
    broker = HungBroker(settings, stop, turns)

    assert beat.run(settings, stop, publisher=broker, watchdog=CountingWatchdog(turns)) == 0

    assert broker.states == ["starting", "waiting for the broker", "waiting for the broker"]
    assert broker.turns_before == sorted(set(broker.turns_before))


def test_it_does_not_import_the_program(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)
    code = (
        "import sys, threading\n"
        "from acoupi.services import beat\n"
        "from acoupi.stack.settings import Settings\n"
        "class Once(threading.Event):\n"
        "    def wait(self, timeout=None): self.set()\n"
        "beat.run(Settings(), Once())\n"
        "heavy = ['small_program', 'numpy', 'jinja2', 'sounddevice', 'requests', 'paho']\n"
        "heavy += ['celery.worker', 'acoupi.components']\n"
        "print([name for name in heavy if name in sys.modules])\n"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )

    assert result.stdout.strip() == "[]", result.stderr


def test_a_second_beat_is_refused(settings: Settings, program_name: str) -> None:
    setup_program(settings, program_name)

    with ServiceLock(settings.run_dir, "beat"), pytest.raises(AlreadyRunningError):
        beat.run(settings, threading.Event())


def test_without_a_schedule_it_says_so(settings: Settings) -> None:
    with pytest.raises(ConfigurationError, match="no schedule"):
        beat.run(settings, threading.Event())
