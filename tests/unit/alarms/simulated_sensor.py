"""A sensor on a made-up clock, with real stores, pulses, rules and messages, in hours of sound.

What is made up: the time, the sound (measured as the recorder measures it), the disk, the sensors
of the board, and the services, which write real pulses. `scripts/bench alarms` runs days of it.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from acoupi import data
from acoupi.alarms.floors import hour_floor, hour_of
from acoupi.alarms.limits import Alarms
from acoupi.audio.health import HealthMeter
from acoupi.components import SqliteMessageStore, SqliteStore
from acoupi.components.stores.alarms import SqliteAlarmStore
from acoupi.devices import board
from acoupi.effort import CapturePlan
from acoupi.services.alarm_facts import FactFinder
from acoupi.stack.pulse import PulseFile
from acoupi.tasks.alarms import generate_alarms_task
from tests.clocks import Clock
from tests.unit.alarms.field_sound import floors

SAMPLERATE = 16_000
SECONDS = 0.5
"""Of sound that is measured in each recording."""
DURATION = 3.0
INTERVAL = 10.0
"""As the default program has them, seconds."""
LOOK_EVERY = 30.0
SERVICES = ("recording", "detection", "default", "beat")
FULL = 32_767
GIGABYTE = 1e9

Sound = NDArray[np.float64]


class Told(NamedTuple):
    """A message about an alarm that has arrived."""

    at: float
    """On the monotonic clock, seconds."""
    alarm: str
    state: str


def sound(level: float, random: np.random.Generator) -> Sound:
    """Sound of the field with a noise floor (dBFS), full scale being 1.

    Loud weather has gusts and drops, and now and then something calls.
    """
    count = int(SAMPLERATE * SECONDS)
    samples = random.normal(0, 10 ** (level / 20), count)
    loud = max(0.0, level + 70)  # dB above a calm day: wind and rain
    if loud:
        gust = np.repeat(random.uniform(0.5, 1.5, 10), count // 10)
        samples[: len(gust)] *= gust
        drops = random.integers(0, count, int(loud))
        samples[drops] += random.choice((-1, 1), len(drops)) * 10 ** ((level + 25) / 20)
    if random.random() < 0.2:
        start, length = random.integers(0, count // 2), count // 8
        call = np.sin(np.arange(length) * random.uniform(0.3, 2.5))
        samples[start : start + length] += call * 10 ** (random.uniform(-50, -15) / 20)
    return samples


def measured(samples: Sound) -> data.MicrophoneHealth:
    """What the recorder would say of the microphone."""
    whole = np.clip(np.round(samples * FULL), -FULL - 1, FULL).astype(np.int16)
    meter = HealthMeter(SAMPLERATE, 1)
    meter.add(whole.tobytes())
    health = meter.result()
    assert health is not None
    return health


@dataclass
class Faults:
    """What is wrong now."""

    change: Callable[[Sound], Sound] = field(default=lambda samples: samples)
    """What the microphone makes of the sound."""
    is_unplugged: bool = False
    is_full: bool = False
    """The disk is."""
    dead: frozenset[str] = frozenset()
    """Services that do not run."""
    without_broker: frozenset[str] = frozenset()
    """Services that wait for the broker."""


class SimulatedSensor:
    """A sensor that records through what `floors` says of the weather.

    Parameters
    ----------
    folder
        Of its stores.
    patch
        Sets attributes for as long as the sensor is used, as pytest's monkeypatch.
    seed
        Of the weather.
    start
        When it begins to record.
    learnt_days, learnt_hours
        Days about which it knows the usual noise floor already, for so many hours from `start`.
    interval
        Seconds from one recording to the next.
    """

    def __init__(
        self,
        folder: Path,
        patch: Any,
        seed: int,
        start: datetime,
        *,
        learnt_days: int = 3,
        learnt_hours: float = 3,
        interval: float = INTERVAL,
    ) -> None:
        self._interval = interval
        self.clock = Clock(start)
        self.clock.install(patch)
        self.faults = Faults()
        self.free = 20 * GIGABYTE
        self.told: list[Told] = []
        self.link_is_up = True
        self._folder = folder
        self._random = np.random.default_rng(seed)
        self._stub_the_board(patch)
        self._store = SqliteStore(folder / "metadata.db")
        self._alarms = SqliteAlarmStore(folder / "alarms.db")
        self._outbox = SqliteMessageStore(folder / "messages.db")
        began = start - timedelta(days=learnt_days)
        self._deployment = data.Deployment(name="oak", started_on=began)
        self._store.store_deployment(self._deployment)
        before = data.EffortSpan(began, start, data.EffortState.CONDITION_REFUSED, "not simulated")
        self._store.note_effort(self._deployment, [before])
        rarely = CapturePlan(duration=DURATION, interval=86_400)
        self._store.note_plan(self._deployment, rarely, began)
        plan = CapturePlan(duration=DURATION, interval=interval)
        self._store.note_plan(self._deployment, plan, start)
        weather = dict(floors(began, learnt_days + 3, seed))
        self.weather = {time: level for time, level in weather.items() if time >= start}
        day, hours = timedelta(days=1), timedelta(hours=learnt_hours)
        known = {time: level for time, level in weather.items() if time < start}
        self._learn({time: one for time, one in known.items() if (time - start) % day < hours})
        self._pulses = {name: PulseFile(folder / "run", name) for name in SERVICES}
        self._waiting: list[data.Recording] = []
        self._stream = uuid4()
        self._start, self._began = start, self.clock.seconds
        self._heartbeat = self.clock.seconds
        self._since_look = 0.0
        self._make_look()

    def _stub_the_board(self, patch: Any) -> None:
        """Be the disk, the clock and the sensors of the board."""
        usage = shutil.disk_usage("/")
        patch.setattr(
            shutil, "disk_usage", lambda _: usage._replace(free=self.free, total=32 * GIGABYTE)
        )
        kernel = self._folder / "sys"
        patch.setattr(board, "SYS", kernel)
        self._temperature = kernel / "thermal" / "thermal_zone0" / "temp"
        voltage = kernel / "hwmon" / "hwmon0"
        for folder in (self._temperature.parent, voltage):
            folder.mkdir(parents=True)
        (voltage / "name").write_text("rpi_volt")
        (voltage / "in0_lcrit_alarm").write_text("0")

    def _make_look(self) -> None:
        limits = Alarms(enabled=True)
        find = FactFinder(
            self._store,
            self._outbox,
            self._alarms,
            limits,
            run_dirs=[self._folder / "run"],
            services=SERVICES,
            folders=[self._folder],
            messengers=["list"],
        )
        self._look = generate_alarms_task(
            find, limits, self._alarms, self._outbox, lambda: "board-1"
        )

    def _learn(self, weather: dict[datetime, float]) -> None:
        """Know the hours before, from a recording every five minutes."""
        hours: dict[datetime, list[float]] = {}
        for time, level in weather.items():
            if time.minute % 5 == 0:
                floor = measured(sound(level, self._random)).noise_floor_dbfs
                hours.setdefault(hour_of(time), []).append(floor)
        known = [hour_floor(hour, levels) for hour, levels in hours.items()]
        if known:
            self._alarms.put_floors(known, known[0].hour)

    def run(self, minutes: float) -> None:
        """Let time pass."""
        for _ in range(round(minutes * 60 / self._interval)):
            self._step()

    def close(self) -> None:
        """Close its stores."""
        for store in (self._store, self._alarms, self._outbox):
            store.close()

    def active(self) -> set[str]:
        return {one.key for one in self._alarms.get_active()}

    def restart(self, service: str) -> None:
        """A service ends, and is started again."""
        before = self._pulses[service].pulse
        self._pulses[service] = PulseFile(self._folder / "run", service)
        self._pulses[service].pulse.restarts = before.restarts + 1
        if service == "default":
            self._make_look()

    def cut_power(self, minutes: float) -> None:
        """The whole board is off for a while."""
        self.clock.advance(60 * minutes)
        for name in SERVICES:
            self._pulses[name] = PulseFile(self._folder / "run", name)
        self._stream = uuid4()
        self._make_look()

    def _step(self) -> None:
        self._record()
        self._analyse()
        for name, file in self._pulses.items():
            if name not in self.faults.dead:
                is_waiting = name in self.faults.without_broker
                file.pulse.state = "waiting for the broker" if is_waiting else "ready"
                file.write()
        self._since_look += self._interval
        if self._since_look >= LOOK_EVERY and "default" not in self.faults.dead:
            self._since_look = 0.0
            self._temperature.write_text(str(round(1000 * self._random.normal(50, 5))))
            self._look()
            self._send()

    def _record(self) -> None:
        """Record for some seconds, or note why not; then wait for the next slot."""
        begun = self.clock.now
        self.clock.advance(DURATION)
        missing = self._why_not()
        if missing is not None:
            note = data.EffortSpan(begun, self.clock.now, *missing)
            self._store.note_effort(self._deployment, [note])
        elif "recording" not in self.faults.dead:
            self._store_recording(begun)
        self.clock.advance(self._interval - DURATION)

    def _why_not(self) -> tuple[data.EffortState, str] | None:
        if "recording" in self.faults.dead:
            return None
        if self.faults.is_unplugged:
            return data.EffortState.DEVICE_MISSING, "unplugged"
        if self.faults.is_full:
            return data.EffortState.DISK_FULL, "no space left on device"
        return None

    def _store_recording(self, begun: datetime) -> None:
        level = self.weather[self._weather_time.replace(second=0, microsecond=0)]
        report = data.CaptureReport(
            stream_id=self._stream,
            first_frame=round(self.clock.seconds * SAMPLERATE),
            frames=round(DURATION * SAMPLERATE),
            samplerate_measured=None,
            clock_synchronised=self.clock.state.is_synchronised,
            clock_error_s=0.01,
            health=measured(self.faults.change(sound(level, self._random))),
        )
        recording = data.Recording(
            path=self._folder / f"{uuid4()}.wav",
            duration=DURATION,
            samplerate=SAMPLERATE,
            deployment=self._deployment,
            created_on=begun,
            capture=report,
        )
        self._store.store_recording(recording)
        self._waiting.append(recording)

    @property
    def _weather_time(self) -> datetime:
        """The true time, whatever the clock was set to."""
        return self._start + timedelta(seconds=self.clock.seconds - self._began)

    def _analyse(self) -> None:
        """Analyse what waits, and delete it."""
        if "detection" in self.faults.dead:
            return
        for recording in self._waiting[:20]:
            self._store.end_recording(recording, data.RecordingState.DELETED)
        self._waiting = self._waiting[20:]

    def _send(self) -> None:
        """Deliver the messages of the outbox; one an hour is a heartbeat."""
        if self.clock.seconds - self._heartbeat >= 3600:
            self._heartbeat = self.clock.seconds
            self._outbox.store_message(data.Message(content="{}", created_on=self.clock.now))
        if not self.link_is_up:
            return
        for message in self._outbox.claim_messages("list", limit=100):
            response = data.Response(status=data.ResponseStatus.SUCCESS, message=message)
            self._outbox.settle_message("list", response)
            content = json.loads(message.content)
            if content:
                self.told.append(Told(self.clock.seconds, content["alarm"], content["state"]))


class Fault(NamedTuple):
    """Something that goes wrong with a sensor, and is put right."""

    alarm: str
    begin: Callable[[SimulatedSensor], None]
    cleared_within: float = 5
    """Minutes after it is put right."""


def _has(**faults: Any) -> Callable[[SimulatedSensor], None]:
    def begin(sensor: SimulatedSensor) -> None:
        sensor.faults = Faults(**faults)

    return begin


def _hears(change: Callable[[Sound], Sound]) -> Callable[[SimulatedSensor], None]:
    return _has(change=change)


def _fill(sensor: SimulatedSensor) -> None:
    sensor.free = 0.01 * GIGABYTE


def _again_and_again(service: str) -> Callable[[SimulatedSensor], None]:
    def begin(sensor: SimulatedSensor) -> None:
        for _ in range(2):
            sensor.restart(service)
            sensor.run(1)
        sensor.restart(service)

    return begin


FAULTS = {
    "unplugged": Fault("cannot_record", _has(is_unplugged=True)),
    "muted": Fault("microphone_silent", _hears(lambda samples: 0 * samples)),
    "20 dB less": Fault("microphone_deaf", _hears(lambda samples: samples / 10)),
    "saturated": Fault("microphone_clipped", _hears(lambda samples: samples * 3000)),
    "offset": Fault("microphone_offset", _hears(lambda samples: samples + 0.2)),
    "disk filled": Fault("disk_low", _fill),
    "no space left": Fault("cannot_record", _has(is_full=True)),
    "clock set forward": Fault("clock_stepped", lambda sensor: sensor.clock.step(3600), 62),
    "clock set back": Fault("clock_stepped", lambda sensor: sensor.clock.step(-3600), 62),
    "broker gone": Fault("service_down", _has(without_broker=frozenset(SERVICES))),
    **{
        f"{name} dead": Fault("service_down", _has(dead=frozenset({name})))
        for name in SERVICES
        if name != "default"
    },
    **{
        f"{name} restarts": Fault("service_restarts", _again_and_again(name), 62)
        for name in SERVICES
    },
}
"""A worker of the default queue that is dead tells nobody: the dead man's switch does."""


def inject(sensor: SimulatedSensor, fault: Fault) -> tuple[float | None, float | None]:
    """Let a fault happen, and put it right; return the seconds until each was told.

    None: it was not told within 10 minutes, or its end not within what the fault says.
    """
    fault.begin(sensor)
    told = _until(sensor, fault.alarm, "raised", 10)
    sensor.faults, sensor.free = Faults(), 20 * GIGABYTE
    return told, _until(sensor, fault.alarm, "cleared", fault.cleared_within)


def _until(sensor: SimulatedSensor, alarm: str, state: str, minutes: float) -> float | None:
    begun, known = sensor.clock.seconds, len(sensor.told)
    for _ in range(round(minutes * 2)):
        sensor.run(0.5)
        for one in sensor.told[known:]:
            if (one.alarm, one.state) == (alarm, state):
                return one.at - begun
    return None
