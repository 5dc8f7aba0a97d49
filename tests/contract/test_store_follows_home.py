"""Every metadata store files recordings under the deployment that the home says is running."""

import sqlite3
from contextlib import closing
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components import SqliteStore as Store
from acoupi.data import EffortState
from acoupi.effort import CapturePlan, ledger
from acoupi.errors import MetadataStoreError
from acoupi.system import Settings, end_deployment, start_deployment
from tests.clocks import Clock
from tests.stores import at, deployment, recording

PLAN = CapturePlan(duration=3, interval=3)


@pytest.fixture
def settings(home: object) -> Settings:
    return Settings()


def stored(store: Store, id_: UUID) -> data.Deployment:
    return next(one for one in store.get_deployments() if one.id == id_)


def parts(store: Store, of: data.Deployment, now: float) -> list[tuple[float, float, EffortState]]:
    history = store.get_effort(of)
    assert history is not None
    start = at(0)
    return [
        ((span.start - start).total_seconds(), (span.end - start).total_seconds(), span.state)
        for span in ledger(history, at(now))
    ]


def test_a_new_store_takes_the_deployment_from_the_home(
    store: Store, settings: Settings, clock: Clock
) -> None:
    oak = start_deployment(settings, "Oak", 51.5, 0)

    assert store.get_current_deployment() == oak
    assert store.get_deployments() == [oak]


def test_a_start_that_was_cut_is_finished_by_the_next_look(
    store: Store, settings: Settings, clock: Clock
) -> None:
    former = deployment(name="S1")
    store.store_deployment(former)
    store.store_recording(recording("a.wav", 4, deployment=former))
    store.note_plan(former, PLAN, at(0))
    clock.advance(8)
    new = start_deployment(settings, "S3", 51, 1)

    assert store.get_current_deployment() == new
    assert stored(store, former.id).ended_on == new.started_on


def test_a_leftover_of_a_sensor_that_was_off_ends_with_its_last_trace(
    store: Store, settings: Settings, clock: Clock
) -> None:
    former = deployment(name="S1")
    store.store_recording(recording("a.wav", 4, deployment=former))
    clock.advance(86_400)
    start_deployment(settings, "S3")

    [ended] = store.settle_deployments()

    assert (ended.id, ended.ended_on) == (former.id, at(7))
    assert stored(store, former.id) == ended
    assert store.settle_deployments() == []


def test_a_leftover_whose_clock_was_ahead_does_not_win(
    store: Store, settings: Settings, clock: Clock
) -> None:
    store.store_deployment(deployment(name="S1", started_on=at(9e6)))
    new = start_deployment(settings, "S3")

    assert store.get_current_deployment() == new


def test_a_stop_that_was_cut_ends_the_row_when_the_file_says(
    store: Store, settings: Settings, clock: Clock
) -> None:
    oak = start_deployment(settings, "Oak")
    store.store_deployment(oak)
    clock.advance(60)
    ended = end_deployment(settings)
    clock.advance(60)

    assert store.settle_deployments() == [ended]
    assert store.get_deployments() == [ended]


def test_the_end_of_an_earlier_one_is_known_after_another_start(
    store: Store, settings: Settings, clock: Clock
) -> None:
    oak = start_deployment(settings, "Oak")
    store.store_deployment(oak)
    clock.advance(60)
    ended = end_deployment(settings)
    clock.advance(600)
    start_deployment(settings, "Elm")

    store.get_current_deployment()

    assert stored(store, oak.id) == ended


def test_what_nobody_named_ends_when_a_named_one_starts(
    store: Store, settings: Settings, clock: Clock
) -> None:
    unnamed = store.get_current_deployment()
    assert store.get_unnamed_deployment() == unnamed
    assert unnamed.name == "unnamed_20240601_200000"
    clock.advance(5)
    oak = start_deployment(settings, "Oak")

    assert store.get_current_deployment() == oak
    assert store.get_unnamed_deployment() is None
    assert stored(store, unnamed.id).ended_on == oak.started_on


@pytest.mark.parametrize("step", [60, -600])
def test_after_the_end_of_a_named_one_there_is_a_new_unnamed_one(
    store: Store, settings: Settings, clock: Clock, step: float
) -> None:
    first = store.get_current_deployment()
    clock.advance(5)
    start_deployment(settings, "Oak")
    clock.advance(5)
    end_deployment(settings)
    clock.advance(step)

    second = store.get_current_deployment()

    assert second.id != first.id
    assert second.started_on == clock.now
    assert store.get_current_deployment() == second
    assert store.get_unnamed_deployment() == second
    assert [one.id for one in store.get_deployments() if one.ended_on is None] == [second.id]


def test_a_recording_across_the_border_counts_in_both_deployments(
    store: Store, settings: Settings, clock: Clock
) -> None:
    unnamed = store.get_current_deployment()
    store.note_plan(unnamed, PLAN, at(0))
    for start in (0, 3):
        store.store_recording(recording(f"{start}.wav", start, deployment=unnamed))
    clock.advance(4)
    oak = start_deployment(settings, "Oak")
    store.note_plan(store.get_current_deployment(), PLAN, at(4))
    store.store_recording(recording("6.wav", 6, deployment=oak))

    assert parts(store, unnamed, 9) == [(0, 4, EffortState.RECORDED)]
    assert parts(store, oak, 9) == [(4, 9, EffortState.RECORDED)]


def test_a_cause_across_the_border_counts_in_both_deployments(
    store: Store, settings: Settings, clock: Clock
) -> None:
    unnamed = store.get_current_deployment()
    store.note_plan(unnamed, PLAN, at(0))
    away = data.EffortSpan(at(0), at(6), EffortState.DEVICE_MISSING, "unplugged")
    store.note_effort(unnamed, [away])
    clock.advance(4)
    oak = start_deployment(settings, "Oak")
    store.note_plan(store.get_current_deployment(), PLAN, at(4))
    store.store_recording(recording("6.wav", 6, deployment=oak))

    assert parts(store, unnamed, 9) == [(0, 4, EffortState.DEVICE_MISSING)]
    assert parts(store, oak, 9) == [
        (4, 6, EffortState.DEVICE_MISSING),
        (6, 9, EffortState.RECORDED),
    ]


def test_all_of_it_or_nothing_is_settled(store: Store, settings: Settings, clock: Clock) -> None:
    for name in ("S1", "S2"):
        store.store_deployment(deployment(name=name))
    clock.advance(8)
    start_deployment(settings, "S3")
    with closing(sqlite3.connect(store.db_path)) as other:
        other.execute(
            "CREATE TRIGGER refuse BEFORE UPDATE ON deployment WHEN NEW.name = 'S1' "
            "BEGIN SELECT RAISE(ABORT, 'the disk says no'); END"
        )

    with pytest.raises(MetadataStoreError):
        store.settle_deployments()

    assert [(one.name, one.ended_on) for one in store.get_deployments()] == [
        ("S1", None),
        ("S2", None),
    ]
