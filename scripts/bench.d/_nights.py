"""A simulated night of a sensor with a slow model: real store, real tasks, a clock of its own.

Calls come in bouts, more of them at dusk, so that a sample that is not even in time is wrong.
"""

import datetime
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from acoupi import clock, data
from acoupi.backlog import Backlog
from acoupi.components import SavingThreshold, SqliteStore, types
from acoupi.components.stores.reader import SqliteReader
from acoupi.effort import CapturePlan, DailyWindows
from acoupi.exports.effort_report import measure, read_parts
from acoupi.heard import Filters
from acoupi.tasks import (
    generate_detection_task,
    generate_file_management_task,
    generate_recovery_task,
)
from acoupi.tasks.backlog import generate_backlog_task
from acoupi.testing import InMemoryMessageStore

START = datetime.datetime(2024, 6, 1, 20, tzinfo=datetime.UTC)
SECONDS = 10.0
"""Of a recording; they follow each other without a pause."""
PASS = 60.0
MODEL = "slow"


class Night(NamedTuple):
    """What a night was, and what the sensor says of it."""

    recordings: int
    analysed: int
    """By the model's own count."""
    messages: int
    """About detections, each once."""
    longest_hours: float
    """The longest that the model would have needed for what waited."""
    true_share: float
    """Of recorded time that was not analysed."""
    ledger_share: float
    true_rate: float
    """Calls an hour."""
    by_detections: float
    """The same, from the detections and their fractions in the exports."""
    by_spans: float
    """The same, from the spans of the effort ledger and the detections in each."""


def calls_of(seed: int, count: int) -> list[int]:
    """Return how many calls there are in each recording of a night."""
    random = np.random.default_rng(seed)
    hours = np.arange(count) * SECONDS / 3600
    activity = 1 + 3 * np.exp(-((hours - 1) ** 2)) + 1.5 * np.exp(-((hours - 7) ** 2) * 2)
    bouts = np.repeat(random.gamma(2, 0.5, count // 30 + 1), 30)[:count]
    return [int(number) for number in random.poisson(2 * activity * bouts)]


class _Model(types.Model):
    """Takes its time on the simulated clock, and finds what there is to find."""

    name = MODEL

    def __init__(self, night: "_Simulated", takes: float, seed: int) -> None:
        self.night, self.takes, self.done = night, takes, 0
        self._random = np.random.default_rng(seed)

    def run(self, recording: data.Recording) -> data.ModelOutput:
        self.night.pass_time(self.takes * self._random.uniform(0.9, 1.1))
        self.done += 1
        found = [data.Detection(detection_score=0.5) for _ in range(self.night.calls[recording.id])]
        return data.ModelOutput(name_model=MODEL, recording=recording, detections=found)


class _Builder(types.MessageBuilder[Any]):
    def build_message(self, output: data.ModelOutput) -> data.Message:
        return data.Message(content=output.model_dump_json())


class _Simulated:
    """Events in the order of their times."""

    def __init__(self) -> None:
        self.now = START
        self.calls: dict[Any, int] = {}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (seconds, next(self._number), what))

    def every(self, seconds: float, what: Callable[[], None], first: float) -> None:
        def again() -> None:
            what()
            self.every(seconds, what, self.seconds + seconds)

        self.at(first, again)

    @property
    def seconds(self) -> float:
        return (self.now - START).total_seconds()

    def pass_time(self, seconds: float) -> None:
        """Let time pass, and happen what is due meanwhile."""
        end = self.seconds + seconds
        while self._events and self._events[0][0] <= end:
            due, _, what = heapq.heappop(self._events)
            self.now = START + datetime.timedelta(seconds=max(due, self.seconds))
            what()
        self.now = START + datetime.timedelta(seconds=end)


@contextmanager
def _clock_of(night: _Simulated) -> Iterator[None]:
    real = clock.utc_now
    for module in (clock, data):
        module.utc_now = lambda: night.now  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in (clock, data):
            module.utc_now = real  # type: ignore[attr-defined]


def simulated_night(
    folder: Path,
    seed: int,
    *,
    hours: float = 10,
    speed: float = 0.3,
    backlog: Backlog | None = None,
) -> Night:
    """Return a night, and the morning in which the model finishes what waits.

    Parameters
    ----------
    folder
        Gets the store.
    seed
        Of the calls, and of how long each analysis takes.
    hours
        Length of the night.
    speed
        Of the model: seconds of sound that it analyses in a second.
    backlog
        The policy; None: each k-th recording, two hours of work may wait.
    """
    night, waiting = _Simulated(), deque[data.Recording]()
    store, messages = SqliteStore(folder / "metadata.db"), InMemoryMessageStore()
    deployment = data.Deployment(name="night", started_on=START)
    end = START + datetime.timedelta(hours=hours)
    dark = data.TimeInterval(start=START.time(), end=end.time())
    windows = (DailyWindows(intervals=(dark,), timezone="UTC"),)
    plan = CapturePlan(duration=SECONDS, interval=SECONDS, windows=windows)
    store.backlog = replace(backlog or Backlog("thin", 2.0), plan=plan)
    model = _Model(night, SECONDS / speed, seed)
    most_waiting = 0

    with _clock_of(night):
        store.store_deployment(deployment)
        store.note_plan(deployment, plan, START)
        detect = generate_detection_task(
            store, model, messages, message_factories=[_Builder()], max_attempts=3
        )
        look = generate_backlog_task(store, [MODEL])
        manage = generate_file_management_task(
            store, [], file_filters=[SavingThreshold(0.9)], required_models=[MODEL], tmp_path=folder
        )
        recover = generate_recovery_task(
            store, waiting.append, lambda: len(waiting), required_models=[MODEL], tmp_path=folder
        )
        count = round(hours * 3600 / SECONDS)
        calls = calls_of(seed, count)

        def record(number: int) -> None:
            start = START + datetime.timedelta(seconds=SECONDS * number)
            path = folder / f"{number:06}.wav"
            path.touch()
            recording = data.Recording(
                path=path, duration=SECONDS, samplerate=48_000, deployment=deployment,
                created_on=start, id=data.derived_id(seed, number),
            )  # fmt: skip
            night.calls[recording.id] = calls[number]
            store.store_recording(recording)
            waiting.append(recording)

        def watch() -> None:
            nonlocal most_waiting
            look()
            most_waiting = max(most_waiting, len(store.get_waiting()))

        for number in range(count):
            night.at(SECONDS * (number + 1), lambda number=number: record(number))  # type: ignore[misc]
        night.every(PASS, watch, first=PASS)
        night.every(10 * PASS, recover, first=PASS + 30)
        night.every(10 * PASS, manage, first=PASS + 40)
        while night.seconds < 3600 * hours or waiting or store.get_waiting():
            if waiting:
                detect(waiting.popleft())
            else:
                night.pass_time(1.0 if night.seconds < 3600 * hours else PASS)
        look()
        store.update_deployment(deployment.model_copy(update={"ended_on": end}))
        store.close()
        found = len(messages.get_unsent_messages())
        told = _told(folder / "metadata.db", deployment)
    recorded = count * SECONDS / 3600
    return Night(
        recordings=count,
        analysed=model.done,
        messages=found,
        longest_hours=most_waiting * model.takes / 3600,
        true_share=1 - model.done / count,
        ledger_share=told[0],
        true_rate=sum(calls) / recorded,
        by_detections=told[1] / recorded,
        by_spans=told[2] / recorded,
    )


def _told(path: Path, deployment: data.Deployment) -> tuple[float, float, float]:
    """Return what the sensor says: the share left out, and how many calls, by two ways."""
    with SqliteReader(path) as reader:
        effort, parts = read_parts(reader, deployment)
        spans = [span for part in parts for span in part.spans]
        measure(effort, spans)
        rows = list(reader.detections(Filters()))
    by_detections = sum(1 / row.recording.analysed_fraction for row in rows)
    starts = sorted(row.recording.started_on for row in rows)
    by_spans = 0.0
    for span in spans:
        inside = sum(span.start <= start < span.end for start in starts)
        by_spans += inside / span.analysed_fraction if inside else 0
    share = effort.total.left_out / 1e6 / effort.total.recorded
    return share, by_detections, by_spans
