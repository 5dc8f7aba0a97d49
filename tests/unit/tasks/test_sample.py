"""The sample for review is kept, whatever the saving filters say, until others displace it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import IDFileManager, SaveRecordingManager, SavingThreshold, SqliteStore
from acoupi.components.types import RecordingSavingFilter
from acoupi.sampling import Sampling
from acoupi.tasks import generate_file_management_task
from tests.faulty import Faulty

from .conftest import Crash

Capture = Callable[..., data.Recording]


class Nothing(RecordingSavingFilter):
    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        return False


def row_of(store: SqliteStore, recording: data.Recording) -> data.Recording:
    ((row, _),) = store.get_recordings([recording.id])
    return row


def count(store: SqliteStore, state: data.RecordingState) -> int:
    return store.count_recordings()[state]


@pytest.fixture
def sampled(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path / "metadata.db")
    store.sampling = Sampling(size=1)
    return store


def heard(store: SqliteStore, sound: data.Recording) -> data.Recording:
    found = data.Detection(
        detection_score=0.5, tags=[data.PredictedTag(data.Tag("species", "bat"), 0.5)]
    )
    store.store_recording(sound)
    store.store_model_output(
        data.ModelOutput(name_model="bats", recording=sound, detections=[found])
    )
    return sound


def by_rank(sounds: list[data.Recording]) -> list[data.Recording]:
    return sorted(sounds, key=lambda one: Sampling().rank(one.id))


def test_the_sample_is_kept_whatever_the_filters_say_until_it_is_displaced(
    sampled: SqliteStore, capture: Capture, spool: Path, kept: Path
) -> None:
    small, large = by_rank([capture(), capture()])
    task = generate_file_management_task(
        sampled, [IDFileManager(kept)], file_filters=[Nothing()], tmp_path=spool
    )
    waiting = small.path.rename(spool.parent / "later.wav")
    heard(sampled, large)
    task()
    place = row_of(sampled, large).path
    assert place is not None
    assert place.exists()

    waiting.rename(small.path)
    heard(sampled, small)
    task()

    assert row_of(sampled, small).path.exists()
    assert not place.exists()
    assert sampled.count_recordings() == {
        data.RecordingState.CAPTURED: 0,
        data.RecordingState.KEPT: 1,
        data.RecordingState.CLIPPED: 0,
        data.RecordingState.DELETED: 1,
        data.RecordingState.LOST: 0,
    }
    assert sampled.get_displaced_recordings() == []


def test_what_a_filter_wants_stays_when_it_is_displaced_from_the_sample(
    sampled: SqliteStore, capture: Capture, spool: Path, kept: Path
) -> None:
    small, large = by_rank([capture(), capture()])
    task = generate_file_management_task(sampled, [IDFileManager(kept)], tmp_path=spool)
    for one in (large, small):
        heard(sampled, one)
        task()

    assert count(sampled, data.RecordingState.KEPT) == 2


def test_a_sampled_recording_has_a_place_though_the_managers_sort_by_score(
    sampled: SqliteStore, capture: Capture, spool: Path, kept: Path
) -> None:
    sound = heard(sampled, capture())
    manager = SaveRecordingManager(kept, detection_threshold=0.9, saving_threshold=0.8)
    generate_file_management_task(
        sampled, [manager], file_filters=[SavingThreshold(0.8)], tmp_path=spool
    )()

    assert row_of(sampled, sound).path.parent == kept


def test_a_crash_while_the_sample_is_kept_loses_nothing_and_leaves_nothing(
    sampled: SqliteStore, capture: Capture, spool: Path, kept: Path
) -> None:
    store: Any = Faulty(sampled)
    small, large = by_rank([capture(), capture()])
    task = generate_file_management_task(
        store, [IDFileManager(kept)], file_filters=[Nothing()], tmp_path=spool
    )
    waiting = small.path.rename(spool.parent / "later.wav")
    heard(sampled, large)
    with store.failing("update_recording_path", Crash()), pytest.raises(Crash):
        task()
    assert row_of(sampled, large).path.exists()

    waiting.rename(small.path)
    heard(sampled, small)
    task()
    task()

    assert [path.suffix for path in kept.rglob("*") if path.is_file()] == [".wav"]
    assert row_of(sampled, small).path.exists()
    assert count(sampled, data.RecordingState.DELETED) == 1


@pytest.mark.parametrize("method", ["end_recording", "forget_displaced"])
def test_a_crash_while_a_displaced_recording_is_deleted_is_finished_later(
    sampled: SqliteStore, capture: Capture, spool: Path, kept: Path, method: str
) -> None:
    store: Any = Faulty(sampled)
    task = generate_file_management_task(
        store, [IDFileManager(kept)], file_filters=[Nothing()], tmp_path=spool
    )
    small, large = by_rank([capture(), capture()])
    waiting = small.path.rename(spool.parent / "later.wav")
    heard(sampled, large)
    task()
    waiting.rename(small.path)
    heard(sampled, small)
    with store.failing(method, Crash()), pytest.raises(Crash):
        task()
    task()

    assert [path.suffix for path in kept.rglob("*") if path.is_file()] == [".wav"]
    assert count(sampled, data.RecordingState.DELETED) == 1
    assert sampled.get_displaced_recordings() == []
