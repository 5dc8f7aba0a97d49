"""Whether status says when analysis falls behind."""

import datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.cli.deployment import is_well
from acoupi.components import SqliteStore
from acoupi.pace import Pace, Progress, pace_of
from acoupi.system import AcoupiStatus, CeleryStatus, ProgramState, ServicesStatus
from acoupi.testing import make_deployment, make_recording

NOW = datetime.datetime(2024, 8, 1, 20, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def progress(count: int, takes: float, every: float = 10.0) -> tuple[Progress, datetime.datetime]:
    """Recordings, analysed one after the other; and the time when the last has been made."""
    now, end, starts, ends, waiting = every * count, 0.0, [], [], []
    for number in range(count):
        start = every * number
        end = max(end, start + 3) + takes
        starts.append(at(start))
        if end <= now:
            ends.append((at(end), "bats"))
        else:
            waiting.append(at(start))
    oldest = waiting[0] if waiting else None
    return Progress(len(waiting), oldest, starts, ends, has_begun=True), at(now)


@pytest.mark.parametrize(("takes", "is_behind"), [(1, False), (9.5, False), (12, True), (40, True)])
def test_a_model_slower_than_recordings_come_falls_behind(takes: float, is_behind: bool) -> None:
    pace = pace_of(*progress(40, takes))

    assert pace is not None
    assert pace.falls_behind is is_behind
    if is_behind:
        assert pace.seconds_per_analysis == takes
        lag = 60 * (1 - 10 / takes)
        assert f"{takes:g} s per recording, one comes every 10 s" in pace.words()
        assert f"falls behind by {lag:.2g} min an hour" in pace.words()


def test_what_waits_when_recording_has_ended_is_only_late() -> None:
    made, now = progress(40, 12)

    pace = pace_of(made, now + datetime.timedelta(minutes=2))

    assert pace is not None
    assert not pace.falls_behind
    assert pace.waiting > 0


@pytest.mark.parametrize(("takes", "is_fine"), [(1, True), (12, False)])
def test_a_sensor_that_falls_behind_is_not_well(takes: float, is_fine: bool) -> None:
    state = AcoupiStatus(
        celery=CeleryStatus(state="ok"),
        deployment=make_deployment(),
        program=ProgramState(status="ok"),
        services=ServicesStatus(target="process", acoupi="active", beat="active"),
        analysis=pace_of(*progress(40, takes)),
    )

    assert is_well(state) is is_fine


def test_without_a_model_there_is_no_pace() -> None:
    assert pace_of(Progress(20, at(0), [at(10.0 * n) for n in range(20)]), at(200)) is None


def test_a_first_analysis_that_takes_long_is_told() -> None:
    """Such as that of a model that hangs, or that loads its weights for minutes."""
    starts = [at(10.0 * n) for n in range(20)]
    pace = pace_of(Progress(20, at(0), starts, has_begun=True), at(200))

    assert pace is not None
    assert pace.words() == "the first analysis has not finished yet, 20 waiting"
    assert not pace.falls_behind


def test_status_says_how_far_behind_it_is_by_the_end_of_the_night() -> None:
    """12 s for each, one every 10 s, eight hours to go: 0.2 of the time are missing."""
    found, now = progress(40, 12)

    pace = pace_of(found, now, now + datetime.timedelta(hours=8))

    assert pace is not None
    assert pace.words() == (
        "12 s per recording, one comes every 10 s: 1.6 h behind by 04:06 (7 waiting)"
    )
    assert pace.falls_behind


def test_several_models_each_take_their_time() -> None:
    ends = [(at(10.0 * n), model) for n, model in enumerate(["a", "b"] * 10)]

    pace = pace_of(Progress(5, at(-10), [], ends, has_begun=True), at(200))

    assert pace is not None
    assert pace.seconds_per_analysis == 20


def test_a_backlog_within_the_limit_of_a_policy_is_no_fault() -> None:
    slow = Pace(waiting=300, seconds_per_analysis=40, seconds_per_recording=10, every=5,
                policy="thin", limit_hours=4)  # fmt: skip
    beyond = slow.model_copy(update={"waiting": 600})

    assert not slow.falls_behind
    assert beyond.falls_behind
    assert slow.words() == (
        "every 5th recording is analysed; 40 s per recording, one comes every 10 s: "
        "3.3 h behind (300 waiting)"
    )


def test_the_store_tells_when_each_analysis_ended(tmp_path: Path) -> None:
    store, deployment = SqliteStore(tmp_path / "metadata.db"), make_deployment()
    recordings = [make_recording(created_on=at(n), deployment=deployment) for n in (0, 10)]
    for recording in recordings:
        store.store_recording(recording)
    assert not store.get_progress(at(0)).has_begun
    begun = store.begin_analysis(recordings[0], "model")
    store.end_analysis(begun.model_copy(update={"state": data.AnalysisState.DONE}))
    ((ended,),) = store.get_analyses(recordings[:1]).values()

    assert store.get_progress(at(0)) == Progress(
        1, at(10), [at(0), at(10)], [(ended.updated_on, "model")], has_begun=True
    )
    store.begin_analysis(recordings[1], "model")
    found = store.get_progress(at(5), waiting_since=at(11))
    assert (found.waiting, found.starts) == (0, [at(10)])
