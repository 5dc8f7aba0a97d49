"""Recordings for which models have no time: left out once, evenly, and accounted for."""

import datetime
import json
import sys
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.backlog import Backlog, Change, LeftOut, Policy
from acoupi.components import (
    FullModelOutputMessageBuilder,
    SavingThreshold,
    SqliteStore,
    StatisticsDetectionsSummariser,
)
from acoupi.components.stores.database import Database
from acoupi.data import AnalysisState, EffortState
from acoupi.effort import CapturePlan, DailyWindows
from acoupi.exports.effort_report import measure, read_parts
from acoupi.tasks import (
    generate_detection_task,
    generate_file_management_task,
    generate_recovery_task,
)
from acoupi.testing import FakeModel, InMemoryMessageStore, make_deployment, make_recording
from tests.clocks import Clock

START = datetime.datetime(2024, 8, 1, 20, tzinfo=datetime.UTC)
SITE = make_deployment(started_on=START)
MODEL = "fake"
NIGHTS = Path(__file__).parents[3] / "scripts" / "bench.d" / "_nights.py"


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


@pytest.fixture
def clock(clock: Clock) -> Clock:
    clock.now = START
    return clock


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "metadata.db")
    store.store_deployment(SITE)
    return store


def record(
    store: SqliteStore, count: int, first: float = 0, **changes: Any
) -> list[data.Recording]:
    made = [
        make_recording(created_on=at(first + 10 * n), duration=10, deployment=SITE, **changes)
        for n in range(count)
    ]
    for one in made:
        store.store_recording(one)
    return made


def states(store: SqliteStore, recordings: list[data.Recording]) -> list[AnalysisState | None]:
    found = store.get_analyses(recordings)
    return [found[one.id][0].state if found[one.id] else None for one in recordings]


def fractions(store: SqliteStore, recordings: list[data.Recording]) -> list[float]:
    """As the effort ledger has them."""
    history = store.get_effort(SITE)
    assert history is not None
    by_start = {one.start: one.analysed_fraction for one in history.captured}
    return [by_start[data.to_microseconds(one.created_on)] for one in recordings]


def thin(store: SqliteStore, every: int) -> None:
    store.backlog = Backlog("thin", 1.0)
    store.change_sampling(Change(every, "the model is slow"), [MODEL])


@pytest.fixture
def detect(store: SqliteStore) -> Callable[[data.Recording], None]:
    return generate_detection_task(
        store,
        FakeModel(name=MODEL),
        InMemoryMessageStore(),
        message_factories=[FullModelOutputMessageBuilder()],
    )


def test_each_kth_is_analysed_and_the_others_say_when_and_why_not(
    store: SqliteStore, clock: Clock
) -> None:
    thin(store, 3)
    recordings = record(store, 7)
    clock.advance(80)

    store.take_in_arrived()

    left_out = AnalysisState.LEFT_OUT
    assert states(store, recordings) == [None, left_out, left_out] * 2 + [None]
    ((analysis,),) = store.get_analyses(recordings[1:2]).values()
    assert (analysis.error, analysis.updated_on, analysis.attempts) == (
        "the model is slow", at(80), 0,
    )  # fmt: skip
    assert fractions(store, recordings) == [3 / 7] * 7


def test_a_task_decides_itself_on_what_has_just_come(
    store: SqliteStore, clock: Clock, detect: Callable[[data.Recording], None]
) -> None:
    """The model must not begin what the next look would have left out."""
    thin(store, 2)
    recordings = record(store, 4)

    for one in recordings:
        detect(one)

    done, left_out = AnalysisState.DONE, AnalysisState.LEFT_OUT
    assert states(store, recordings) == [done, left_out, done, left_out]


def test_a_task_that_comes_again_does_nothing(
    store: SqliteStore, clock: Clock, detect: Callable[[data.Recording], None]
) -> None:
    thin(store, 2)
    recordings = record(store, 2)
    for _ in range(3):
        for one in recordings:
            detect(one)

    assert len(store.get_model_outputs()) == 1
    assert states(store, recordings) == [AnalysisState.DONE, AnalysisState.LEFT_OUT]


def test_what_was_made_before_or_is_begun_is_not_left_out(store: SqliteStore, clock: Clock) -> None:
    before = record(store, 3)
    clock.advance(30)
    thin(store, 2)
    after = record(store, 4, first=30)
    store.take_in_arrived()

    assert states(store, before) == [None] * 3
    assert fractions(store, [*before, *after]) == [1.0] * 3 + [0.5] * 4


def test_a_recording_stored_after_the_span_has_ended_belongs_to_it(
    store: SqliteStore, clock: Clock
) -> None:
    thin(store, 2)
    record(store, 1)
    clock.advance(15)
    store.change_sampling(Change(1, "nothing is waiting any more"), [MODEL])
    (late,) = record(store, 1, first=10)
    later = record(store, 2, first=20)

    store.take_in_arrived()

    assert states(store, [late, *later]) == [AnalysisState.LEFT_OUT, None, None]
    assert fractions(store, [late, *later]) == [0.5, 1.0, 1.0]


def test_a_span_lasts_a_day_at_most(store: SqliteStore, clock: Clock) -> None:
    thin(store, 2)
    today = record(store, 2)
    store.take_in_arrived()
    clock.advance(86_400)
    store.take_in_arrived()
    tomorrow = record(store, 3, first=86_400)
    store.take_in_arrived()

    assert fractions(store, [*today, *tomorrow]) == [0.5] * 2 + [2 / 3] * 3
    assert store.get_progress(START).every == 2


def test_a_clock_that_is_set_back_counts_no_recording_twice(
    store: SqliteStore, clock: Clock
) -> None:
    thin(store, 2)
    clock.advance(100)
    store.change_sampling(Change(4, "the model got slower"), [MODEL])
    clock.step(-60)
    store.change_sampling(Change(3, "the model got faster"), [MODEL])
    recordings = record(store, 4, first=50)

    store.take_in_arrived()

    left_out = AnalysisState.LEFT_OUT
    assert states(store, recordings) == [None, left_out, left_out, None]
    assert fractions(store, recordings) == [0.5] * 4


def test_a_policy_that_was_turned_off_leaves_nothing_out(
    store: SqliteStore, clock: Clock, detect: Callable[[data.Recording], None]
) -> None:
    thin(store, 2)
    store.backlog = Backlog()
    recordings = record(store, 2)
    for one in recordings:
        detect(one)

    assert states(store, recordings) == [AnalysisState.DONE] * 2


def test_recordings_of_a_span_are_left_out_unless_a_model_has_begun(
    store: SqliteStore, clock: Clock
) -> None:
    recordings = record(store, 4)
    store.begin_analysis(recordings[1], MODEL)
    choice = LeftOut(
        SITE.id, at(0), at(40), frozenset(one.id for one in recordings[1:]), "too many waited"
    )

    assert store.leave_out(choice, [MODEL]) == 2
    assert store.leave_out(choice, [MODEL]) == 0

    left_out = AnalysisState.LEFT_OUT
    assert states(store, recordings) == [None, AnalysisState.RUNNING, left_out, left_out]
    assert fractions(store, recordings) == [0.5] * 4


def test_recordings_that_are_thinned_again_are_counted_in_the_new_span_only(
    store: SqliteStore, clock: Clock
) -> None:
    thin(store, 2)
    recordings = record(store, 8)
    clock.advance(80)
    store.take_in_arrived()
    again = LeftOut(SITE.id, at(40), at(80), frozenset({recordings[6].id}), "far too many waited")

    store.leave_out(again, [MODEL])

    assert fractions(store, recordings) == [0.5] * 4 + [0.25] * 4


def test_an_output_that_comes_late_through_the_door_counts(
    store: SqliteStore, clock: Clock
) -> None:
    """The model ran while nobody could tell it that the recording is left out."""
    thin(store, 2)
    recordings = record(store, 2)
    store.take_in_arrived()
    done = data.Analysis(
        recording_id=recordings[1].id, name_model=MODEL, state=AnalysisState.DONE, attempts=1
    )
    store.end_analysis(done)

    assert states(store, recordings) == [None, AnalysisState.DONE]
    assert fractions(store, recordings) == [1.0, 1.0]


def test_a_model_cannot_say_that_it_was_left_out(store: SqliteStore) -> None:
    (recording,) = record(store, 1)
    claim = data.Analysis(recording_id=recording.id, name_model=MODEL, state=AnalysisState.LEFT_OUT)
    with pytest.raises(ValueError, match="left out"):
        store.end_analysis(claim)


@pytest.mark.parametrize("step", range(12))
def test_a_kill_anywhere_leaves_all_of_a_decision_or_nothing(
    store: SqliteStore, clock: Clock, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whichever statement is the last: the next look ends as if nothing had happened."""
    thin(store, 3)
    recordings = record(store, 9)
    clock.advance(90)
    usual, left = Database.writing, step

    def killed(statement: str) -> None:
        nonlocal left
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE")):
            left -= 1
            if left < 0:
                raise KeyboardInterrupt

    def writing(database: Database) -> Any:
        context = usual(database)
        enter = type(context).__enter__

        class Killed:
            def __enter__(self) -> Any:
                self.connection = enter(context)
                return _Watched(self.connection, killed)

            def __exit__(self, *error: Any) -> Any:
                return context.__exit__(*error)

        return Killed()

    with monkeypatch.context() as patch:
        patch.setattr(Database, "writing", writing)
        with pytest.raises(KeyboardInterrupt):
            store.take_in_arrived()
    assert states(store, recordings) == [None] * 9
    assert fractions(store, recordings) == [1.0] * 9

    store.take_in_arrived()

    assert states(store, recordings).count(AnalysisState.LEFT_OUT) == 6
    assert fractions(store, recordings) == [1 / 3] * 9


class _Watched:
    def __init__(self, connection: Any, before: Callable[[str], None]) -> None:
        self._connection, self._before = connection, before

    def execute(self, statement: str, *values: Any) -> Any:
        self._before(statement)
        return self._connection.execute(statement, *values)


# Tasks around it


def test_a_slow_model_gets_each_fourth_until_nothing_waits(tmp_path: Path) -> None:
    """A short night with the real tasks; the store's account is the truth."""
    spec = spec_from_file_location("nights", NIGHTS)
    assert spec is not None
    assert spec.loader is not None
    nights = module_from_spec(spec)
    sys.modules[spec.name] = nights
    spec.loader.exec_module(nights)

    night = nights.simulated_night(tmp_path, 1, hours=0.75, backlog=Backlog("thin", 0.15))

    assert 0.5 < night.true_share < 0.75
    assert night.ledger_share == pytest.approx(night.true_share)
    assert night.messages == night.analysed
    assert night.longest_hours < 0.3
    assert night.by_detections == pytest.approx(night.by_spans)
    assert night.by_detections == pytest.approx(night.true_rate, rel=0.25)


def test_the_newest_is_analysed_first(store: SqliteStore, clock: Clock) -> None:
    store.backlog = Backlog("newest_first")
    recordings, order = record(store, 4), []
    model = FakeModel(name=MODEL)
    run = model.run

    def noting(recording: data.Recording) -> data.ModelOutput:
        order.append(recordings.index(recording))
        return run(recording)

    model.run = noting  # type: ignore[method-assign]
    task = generate_detection_task(store, model, InMemoryMessageStore())
    for one in recordings:
        task(one)

    assert order == [3, 2, 1, 0]
    assert states(store, recordings) == [AnalysisState.DONE] * 4


def nightly(policy: Policy = "nightly") -> Backlog:
    dark = data.TimeInterval(start=datetime.time(19), end=datetime.time(6))
    windows = (DailyWindows(intervals=(dark,), timezone="UTC"),)
    return Backlog(policy, plan=CapturePlan(duration=10, interval=10, windows=windows))


def test_by_day_the_model_does_what_was_recorded_at_night(
    store: SqliteStore, clock: Clock, tmp_path: Path,
    detect: Callable[[data.Recording], None],
) -> None:  # fmt: skip
    store.backlog = nightly()
    path = tmp_path / "one.wav"
    path.touch()
    (recording,) = record(store, 1, path=path)
    sent: list[data.Recording] = []
    recover = generate_recovery_task(
        store, sent.append, required_models=[MODEL], tmp_path=tmp_path / "spool"
    )
    clock.advance(3600)
    detect(recording)
    recover()
    assert (states(store, [recording]), sent) == ([None], [])

    clock.advance(10 * 3600)
    recover()
    assert [one.id for one in sent] == [recording.id]
    detect(sent[0])
    assert states(store, [recording]) == [AnalysisState.DONE]


def test_once_the_deployment_has_ended_the_model_waits_no_more(
    store: SqliteStore, clock: Clock, detect: Callable[[data.Recording], None]
) -> None:
    """As `acoupi deployment stop --drain` asks it to."""
    store.backlog = nightly()
    (recording,) = record(store, 1)
    clock.advance(60)
    store.update_deployment(SITE.model_copy(update={"ended_on": at(60)}))

    detect(recording)

    assert states(store, [recording]) == [AnalysisState.DONE]


@pytest.mark.parametrize(("keep_files", "is_kept"), [(False, False), (True, True)])
def test_files_are_given_up_as_the_filters_say_unless_they_are_to_be_kept(
    store: SqliteStore, clock: Clock, tmp_path: Path, keep_files: bool, is_kept: bool
) -> None:
    path = tmp_path / "spool" / "one.wav"
    path.parent.mkdir()
    path.touch()
    (recording,) = record(store, 1, path=path)
    store.backlog = Backlog("thin", keep_files=keep_files)
    choice = LeftOut(SITE.id, at(0), at(10), frozenset({recording.id}), "too many waited")
    store.leave_out(choice, [MODEL])

    class Manager:
        def save_recording(self, *_: Any) -> Path:
            return tmp_path / "kept.wav"

    generate_file_management_task(
        store, [Manager()], file_filters=[SavingThreshold(0.5)],  # type: ignore[list-item]
        required_models=[MODEL], tmp_path=path.parent,
    )()  # fmt: skip

    assert (tmp_path / "kept.wav").exists() is is_kept
    assert not path.exists()


# What is said of it


def test_the_ledger_parts_what_was_recorded_where_the_share_changes(
    store: SqliteStore, clock: Clock
) -> None:
    store.note_plan(SITE, CapturePlan(duration=10, interval=10), START)
    record(store, 6)
    clock.advance(60)
    thin(store, 4)
    record(store, 8, first=60)
    clock.advance(80)
    store.take_in_arrived()

    effort, parts = read_parts(store, SITE)
    spans = [span for part in parts for span in part.spans]
    recorded = [
        (span.start, span.end, span.analysed_fraction)
        for span in spans
        if span.state is EffortState.RECORDED
    ]
    measure(effort, spans)

    assert recorded == [(at(0), at(60), 1.0), (at(60), at(140), 0.25)]
    assert (effort.total.recorded, effort.total.analysed) == (140, 80)
    assert effort.as_json()["left_out_s"] == 60
    assert effort.as_json()["days"][0]["hours"][0]["left_out_s"] == 60


def test_messages_and_summaries_say_the_share(store: SqliteStore, clock: Clock) -> None:
    messages = InMemoryMessageStore()
    task = generate_detection_task(
        store, FakeModel(name=MODEL), messages, message_factories=[FullModelOutputMessageBuilder()]
    )
    before = record(store, 1)
    clock.advance(10)
    thin(store, 2)
    for one in [*before, *record(store, 4, first=10)]:
        task(one)

    told = [json.loads(one.content) for one in messages.get_unsent_messages()]
    assert [one.get("analysed_fraction") for one in told] == [None, 0.5, 0.5]
    summary = StatisticsDetectionsSummariser(store, 50).build_summary(at(50))
    assert isinstance(summary, data.Message)
    content = json.loads(summary.content)
    assert (content["recordings"], content["left_out"]) == (3, 2)
    assert content["analysed_fraction"] == 0.6
