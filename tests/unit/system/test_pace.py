"""Whether status says when analysis falls behind."""

import datetime
from pathlib import Path

import pytest

from acoupi import data
from acoupi.cli.deployment import is_well
from acoupi.components import SqliteStore
from acoupi.system import AcoupiStatus, CeleryStatus, ProgramState, ServicesStatus
from acoupi.system.pace import pace_of
from acoupi.testing import make_deployment, make_recording

NOW = datetime.datetime(2024, 8, 1, 20, tzinfo=datetime.UTC)


def at(seconds: float) -> datetime.datetime:
    return NOW + datetime.timedelta(seconds=seconds)


def rows(count: int, takes: float, every: float = 10.0) -> tuple[list, datetime.datetime]:
    """Recordings, analysed one after the other; and the time when the last has been made."""
    now, end, made = every * count, 0.0, []
    for number in range(count):
        start = every * number
        end = max(end, start + 3) + takes
        made.append((at(start), end > now, end - takes <= now, at(end) if end <= now else None))
    return made, at(now)


@pytest.mark.parametrize(("takes", "is_behind"), [(1, False), (9.5, False), (12, True), (40, True)])
def test_a_model_slower_than_recordings_come_falls_behind(takes: float, is_behind: bool) -> None:
    pace = pace_of(*rows(40, takes))

    assert pace is not None
    assert pace.falls_behind is is_behind
    if is_behind:
        assert pace.seconds_per_analysis == takes
        lag = 60 * (1 - 10 / takes)
        assert f"{takes:g} s per recording, one comes every 10 s" in pace.words()
        assert f"falls behind by {lag:.2g} min an hour" in pace.words()


def test_what_waits_when_recording_has_ended_is_only_late() -> None:
    made, now = rows(40, 12)

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
        analysis=pace_of(*rows(40, takes)),
    )

    assert is_well(state) is is_fine


def test_without_a_model_there_is_no_pace() -> None:
    assert pace_of([(at(10.0 * n), True, False, None) for n in range(20)], at(200)) is None


def test_a_first_analysis_that_takes_long_is_told() -> None:
    """Such as that of a model that hangs, or that loads its weights for minutes."""
    pace = pace_of([(at(10.0 * n), True, n == 0, None) for n in range(20)], at(200))

    assert pace is not None
    assert pace.words() == "the first has not ended yet, 20 waiting"
    assert not pace.falls_behind


def test_the_store_tells_when_each_analysis_ended(tmp_path: Path) -> None:
    store, deployment = SqliteStore(tmp_path / "metadata.db"), make_deployment()
    recordings = [make_recording(created_on=at(n), deployment=deployment) for n in (0, 10)]
    for recording in recordings:
        store.store_recording(recording)
    begun = store.begin_analysis(recordings[0], "model")
    store.end_analysis(begun.model_copy(update={"state": data.AnalysisState.DONE}))
    ((ended,),) = store.get_analyses(recordings[:1]).values()

    assert store.get_pace(at(-1)) == [
        (at(0), True, True, ended.updated_on),
        (at(10), True, False, None),
    ]
    store.begin_analysis(recordings[1], "model")
    assert store.get_pace(at(5)) == [(at(10), True, True, None)]
    assert store.get_pace(at(11)) == []
