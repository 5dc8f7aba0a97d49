"""Once the clock is set all has a reason, whatever happened to it, the power and the recorder.

Each seed is another walk of kills, power cuts, boots without a clock and steps of it. Time is not
waited for; the recorder's log, the store and the correction of times are the real ones.
"""

import datetime
import logging
from pathlib import Path
from random import Random
from uuid import UUID, uuid4

import pytest

from acoupi import data
from acoupi.audio.system_clock import ClockState, Timeline
from acoupi.components import SqliteStore
from acoupi.data import EffortState
from acoupi.effort import NO_REASON, CapturePlan, ledger
from acoupi.tasks.clocks import ClockCorrection
from acoupi.tasks.effort_log import EffortLog
from tests.clocks import Clock

SECONDS, RATE = 2.0, 1000
PLAN = CapturePlan(duration=SECONDS, interval=SECONDS)
LOGGER = logging.getLogger(__name__)
SET, NOT_SET = ClockState(is_synchronised=True, error=0.01), ClockState(False, None)
YEARS = 5 * 365 * 86400.0
WRONG = (-YEARS, YEARS, -7200.0, 7200.0, -600.0, 180.0, -180.0, -20.0, 20.0, -3.0, 3.0)
"""How far a clock is off, seconds."""


class Walk:
    """A sensor to which things happen; it knows what is true."""

    def __init__(self, path: Path, clock: Clock, seed: int) -> None:
        self.random = Random(seed)
        self.clock, self.path = clock, path
        self.site = data.Deployment(name="oak", started_on=clock.now)
        self.wrong = 0.0
        self.right_ones = 0
        """Recordings since the clock is right."""
        self.begins: dict[UUID, datetime.datetime] = {}
        """Of all that was recorded, by the true clock."""
        self.recorded = 0.0
        self.on_disk: list[data.Recording] = []
        """Files that no row tells of: recovery adopts them."""
        self.start()

    @property
    def now(self) -> datetime.datetime:
        return self.clock.now - datetime.timedelta(seconds=self.wrong)

    def start(self) -> None:
        """Begin a process of the recorder."""
        self.store = SqliteStore(self.path)
        self.log = EffortLog(self.store, PLAN, LOGGER)
        self.correction = ClockCorrection(self.store, LOGGER)
        self.timeline, self.stream, self.frame = Timeline(), uuid4(), 0

    def made(self, seconds: float) -> data.Recording:
        self.timeline.settle()
        begin = self.now
        created_on = data.from_microseconds(round((data.monotonic() + self.timeline.offset) * 1e6))
        clock, state = self.timeline.boot_clock, self.timeline.state
        self.clock.advance(seconds)
        self.timeline.look()
        recording = data.Recording(
            path=None,
            created_on=created_on,
            duration=seconds,
            samplerate=RATE,
            deployment=self.site,
            capture=data.CaptureReport(
                stream_id=self.stream,
                first_frame=self.frame,
                frames=round(seconds * RATE),
                samplerate_measured=RATE,
                clock_synchronised=state.is_synchronised,
                clock_error_s=state.error,
                boot_clock=clock,
            ),
        )
        self.frame += round(seconds * RATE)
        self.begins[recording.id] = begin
        self.recorded += seconds
        return recording

    # --- what happens ---

    def record(self, times: int) -> None:
        for _ in range(times):
            self.log.begin(self.site)
            recording = self.made(SECONDS)
            self.log.recorded(recording)
            self.store.store_recording(recording)
            self.log.stored()
            self.correction.recorded(recording, self.log.steps)
            self.right_ones = 0 if self.wrong else self.right_ones + 1

    def miss(self, times: int) -> None:
        for _ in range(times):
            self.log.begin(self.site)
            self.clock.advance(SECONDS)
            self.log.failed(RuntimeError("unplugged"))
        self.stream, self.frame = uuid4(), 0

    def wait(self, seconds: int) -> None:
        """Let nobody ask for a recording."""
        for _ in range(seconds):
            self.clock.advance(1)
            self.log.waited()
        self.stream, self.frame = uuid4(), 0

    def kill(self) -> None:
        self.log.begin(self.site)
        seconds = self.random.uniform(0.1, SECONDS)
        if self.random.random() < 0.6:
            self.on_disk.append(self.made(seconds))
        else:  # the power was cut before anything of it was on the disk
            self.clock.advance(seconds)
        self.clock.advance(self.random.uniform(0.3, 5))
        self.start()
        if self.random.random() < 0.5:
            self.adopt()

    def adopt(self) -> None:
        for recording in self.on_disk:
            self.store.store_recording(recording)
            self.store.correct_late(recording)
        self.on_disk = []

    def boot(self, wrong: float) -> None:
        """Begin another boot, with a clock that is not set."""
        now = self.clock.now
        self.clock.seconds, self.clock.boot_id = 30.0 + self.random.random(), uuid4()
        self.clock.now = now
        self.step(wrong)
        self.start()

    def step(self, wrong: float) -> None:
        self.clock.step(wrong - self.wrong)
        self.wrong, self.clock.state, self.right_ones = wrong, NOT_SET, 0

    def set_clock(self) -> None:
        self.step(0.0)
        self.clock.state = SET

    def go(self, steps: int) -> None:
        self.record(3)
        for _ in range(steps):
            self._something()
        self.adopt()
        self.set_clock()
        self.record(4)

    def _something(self) -> None:
        what = self.random.choice(["record", "miss", "wait", "kill", "boot", "boot", "step", "set"])
        if what in ("record", "miss"):
            getattr(self, what)(self.random.randint(1, 4))
        elif what == "wait":
            self.wait(self.random.randint(10, 20))
        elif what == "kill":
            self.kill()
        elif what == "step" and not self.wrong:
            self.step(self.random.choice(WRONG[:-2]))
        elif what == "set" and self.wrong:
            self.set_clock()
        elif what == "boot":
            if self.wrong or self.right_ones < 2:  # of another boot nobody knows how wrong it was
                self.adopt()
                self.set_clock()
                self.record(3)
            self.kill()
            self.boot(self.random.choice(WRONG))


@pytest.mark.parametrize("seed", range(200))
def test_once_the_clock_is_set_every_time_is_right_and_every_second_has_its_reason(
    tmp_path: Path, clock: Clock, seed: int
) -> None:
    walk = Walk(tmp_path / "metadata.db", clock, seed)

    walk.go(8)

    stored = {one.id: one.created_on for one, _ in walk.store.get_recordings(list(walk.begins))}
    off = {abs((stored[one] - begin).total_seconds()) for one, begin in walk.begins.items()}
    assert max(off) < 0.2
    history = walk.store.get_effort(walk.site)
    assert history is not None
    spans = ledger(history, clock.now)
    assert [span for span in spans if NO_REASON in span.detail and span.duration > 0.1] == []
    assert EffortState.CLOCK_UNKNOWN not in {span.state for span in spans}
    told = sum(span.duration for span in spans if span.state is EffortState.RECORDED)
    assert told == pytest.approx(walk.recorded, abs=0.5)
    assert spans[0].start >= walk.site.started_on
