"""What every metadata store does with deployments and recordings."""

import datetime
from pathlib import Path
from uuid import uuid4

import pytest

from acoupi import data
from acoupi.components import SqliteStore as Store
from acoupi.errors import MetadataStoreError
from tests.clocks import Clock
from tests.stores import (
    SITE,
    at,
    deployment,
    detection,
    output,
    recording,
)

# Deployments


def test_the_current_deployment_is_the_latest_that_has_not_ended(store: Store) -> None:
    older = deployment(name="older", started_on=at(-100))
    newer = deployment(name="newer", started_on=at(-50))
    over = deployment(name="over", started_on=at(-10), ended_on=at(-5))
    for each in (newer, older, over):
        store.store_deployment(each)

    assert store.get_current_deployment() == newer


def test_without_a_deployment_one_begins_named_after_the_time(store: Store, clock: Clock) -> None:
    begun = store.get_current_deployment()

    assert begun.name == "unnamed_20240601_200000"
    assert begun.started_on == clock.now
    assert begun.ended_on is None
    assert store.get_current_deployment() == begun


def test_an_ended_deployment_is_not_current(store: Store) -> None:
    store.store_deployment(SITE)
    store.update_deployment(SITE.model_copy(update={"ended_on": at(1)}))

    assert store.get_current_deployment().id != SITE.id


def test_the_current_deployment_starts_latest_in_any_time_zone(store: Store) -> None:
    sydney = datetime.timezone(datetime.timedelta(hours=10))
    later = deployment(started_on=at(60))
    earlier = deployment(started_on=at(0).astimezone(sydney))  # later as text
    store.store_deployment(later)
    store.store_deployment(earlier)

    assert store.get_current_deployment() == later


def test_a_deployment_stored_again_is_replaced(store: Store) -> None:
    store.store_deployment(SITE)
    moved = SITE.model_copy(update={"name": "Lake", "latitude": 51.5, "longitude": -0.1})

    store.store_deployment(moved)

    assert store.get_current_deployment() == moved


def test_updating_a_deployment_changes_name_place_and_end_but_not_its_start(
    store: Store,
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    changes = {"name": "Lake", "latitude": 1.0, "longitude": 2.0, "ended_on": at(9)}

    store.update_deployment(SITE.model_copy(update={**changes, "started_on": at(5)}))

    [(found, _)] = store.get_recordings([sound.id])
    assert found.deployment == SITE.model_copy(update=changes)


def test_updating_an_unknown_deployment_is_refused_by_name(store: Store) -> None:
    with pytest.raises(MetadataStoreError, match=r'"Pond".*not in the metadata store') as caught:
        store.update_deployment(SITE)

    assert len(caught.value.lines()) == 3


def test_what_a_caller_changes_later_is_not_stored(store: Store) -> None:
    mutable = deployment(name="before")
    sound = recording("a.wav", deployment=mutable)
    store.store_recording(sound)

    mutable.name = "after"
    sound.path = Path("/elsewhere.wav")

    [(found, _)] = store.get_recordings([sound.id])
    assert found.deployment.name == "before"
    assert found.path == Path("/spool/a.wav")


# Recordings


def test_a_recording_is_read_back_as_it_was(store: Store) -> None:
    sound = recording("a.wav", time_expansion=10, audio_channels=2, duration=3.25)

    store.store_recording(sound)

    assert store.get_recordings([sound.id]) == [(sound, [])]


def test_a_recording_brings_its_deployment_but_changes_no_known_one(store: Store) -> None:
    store.store_deployment(SITE)
    stale = SITE.model_copy(update={"name": "stale"})

    store.store_recording(recording("a.wav", deployment=stale))

    assert store.get_current_deployment().name == "Pond"


def test_a_recording_can_be_filed_under_another_deployment(store: Store) -> None:
    other = deployment(name="other")
    sound = recording("a.wav")

    store.store_recording(sound, other)

    [(found, _)] = store.get_recordings([sound.id])
    assert found.deployment == other


def test_a_recording_stored_again_is_replaced(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    again = sound.model_copy(update={"duration": 2.5, "path": Path("/spool/b.wav")})

    store.store_recording(again)

    assert store.get_recordings([sound.id]) == [(again, [])]
    assert store.count_recordings()[data.RecordingState.CAPTURED] == 1


def test_two_recordings_of_the_same_instant_are_both_stored(store: Store) -> None:
    one, two = recording("a.wav"), recording("b.wav")

    store.store_recording(one)
    store.store_recording(two)

    assert len(store.get_recordings([one.id, two.id])) == 2


def test_many_recordings_without_a_file_are_stored(store: Store) -> None:
    sounds = [recording(None, seconds) for seconds in range(3)]

    for sound in sounds:
        store.store_recording(sound)

    assert len(store.get_recordings([sound.id for sound in sounds])) == 3


def test_a_second_recording_in_the_same_file_is_refused_and_names_both(store: Store) -> None:
    first, second = recording("a.wav"), recording("a.wav", 1)
    store.store_recording(first)

    with pytest.raises(MetadataStoreError, match=str(second.id)) as caught:
        store.store_recording(second)

    assert str(first.id) in "\n".join(caught.value.lines())
    assert store.get_recordings([second.id]) == []


def test_recordings_come_newest_first_each_once_and_only_those_known(store: Store) -> None:
    sounds = [recording(f"{n}.wav", seconds=n) for n in range(3)]
    for sound in (sounds[1], sounds[2], sounds[0]):
        store.store_recording(sound)

    found = store.get_recordings([sounds[0].id, uuid4(), sounds[2].id, sounds[0].id])

    assert [sound for sound, _ in found] == [sounds[2], sounds[0]]


def test_the_newest_comes_first_in_any_time_zone(store: Store) -> None:
    east = datetime.timezone(datetime.timedelta(hours=10))
    west = datetime.timezone(datetime.timedelta(hours=-8))
    earlier = recording("a.wav", created_on=at(0).astimezone(east))
    later = recording("b.wav", created_on=at(1).astimezone(west))
    for sound in (later, earlier):
        store.store_recording(sound)

    found = store.get_recordings([earlier.id, later.id])

    assert [sound.id for sound, _ in found] == [later.id, earlier.id]


def test_recordings_are_found_by_path_and_none_is_passed_over(store: Store) -> None:
    here, gone = recording("a.wav"), recording(None, 1)
    store.store_recording(here)
    store.store_recording(gone)
    bats = output(here, detection(0.9, ("species", "Myotis", 0.7)))
    store.store_model_output(bats)
    paths = [Path("/spool/a.wav"), None, Path("/spool/unknown.wav")]

    assert store.get_recordings_by_path(paths) == [(here, [bats])]
    info = data.ModelOutputInfo(id=bats.id, name_model="bats", created_on=bats.created_on)
    assert store.get_recordings_info_by_path(paths) == [(here, [info])]


def test_a_path_that_is_no_text_is_found_again(store: Store) -> None:
    path = Path("/spool/caf\udce9 {x} %s '\".wav")  # Latin-1 bytes, as Python shows them
    sound = recording(path=path)

    store.store_recording(sound)

    assert store.get_recordings_by_path([path]) == [(sound, [])]


def test_empty_lists_mean_none_and_none_means_all(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    bats = output(sound, detection(0.9, ("species", "Myotis", 0.7)))
    store.store_model_output(bats)

    assert store.get_recordings([]) == []
    assert store.get_recordings_by_path([]) == []
    assert store.get_recordings_by_path([None]) == []
    assert store.get_recordings_info_by_path([]) == []
    assert store.get_recordings_model_outputs([]) == {}
    for name in ("ids", "recording_ids", "model_names", "detection_ids"):
        assert store.get_model_outputs(**{name: []}) == []
        assert store.get_model_outputs(**{name: None}) == [bats]
    for name in ("ids", "model_output_ids", "model_names"):
        assert store.get_detections(**{name: []}) == []
    for name in ("detection_ids", "keys", "values"):
        assert store.get_predicted_tags(**{name: []}) == []
    assert len(store.get_detections()) == len(store.get_predicted_tags()) == 1
    store.store_model_outputs([])


def test_more_ids_and_paths_than_sqlite_takes_variables_are_fine(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    store.store_model_output(output(sound, detection()))
    many = [uuid4() for _ in range(40_000)]
    paths = [Path(f"/spool/{n}.wav") for n in range(40_000)]

    assert len(store.get_recordings([*many, sound.id])) == 1
    assert len(store.get_recordings_by_path([*paths, sound.path])) == 1
    assert len(store.get_model_outputs(recording_ids=[*many, sound.id])) == 1
    assert store.get_detections(ids=many) == []


# What becomes of a recording


def test_a_kept_recording_has_its_new_path(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)

    kept = store.update_recording_path(sound, Path("/kept/a.wav"))

    assert kept == sound.model_copy(update={"path": Path("/kept/a.wav")})
    assert sound.path == Path("/spool/a.wav")
    assert store.get_recordings_by_path([kept.path]) == [(kept, [])]
    assert store.count_recordings()[data.RecordingState.KEPT] == 1


def test_the_path_of_an_unknown_recording_or_of_another_one_is_refused(store: Store) -> None:
    one, two = recording("a.wav"), recording("b.wav", 1)
    with pytest.raises(MetadataStoreError, match=str(one.id)):
        store.update_recording_path(one, Path("/kept/a.wav"))
    store.store_recording(one)
    store.store_recording(two)

    with pytest.raises(MetadataStoreError, match="another recording"):
        store.update_recording_path(one, Path("/spool/b.wav"))

    assert store.get_recordings([one.id]) == [(one, [])]


@pytest.mark.parametrize("state", [data.RecordingState.DELETED, data.RecordingState.LOST])
def test_an_ended_recording_has_no_path_and_frees_it(
    store: Store, state: data.RecordingState
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)

    store.end_recording(sound, state)

    [(found, _)] = store.get_recordings([sound.id])
    assert found.path is None
    assert store.count_recordings()[state] == 1
    assert store.get_recordings_by_path([sound.path]) == []
    store.store_recording(recording("a.wav", 1))


def test_a_recording_ends_as_deleted_or_lost_only(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)

    with pytest.raises(ValueError, match="deleted or lost, not as kept"):
        store.end_recording(sound, data.RecordingState.KEPT)
    with pytest.raises(MetadataStoreError, match="not in the metadata store"):
        store.end_recording(recording("b.wav"), data.RecordingState.LOST)


def test_who_misses_a_file_that_was_moved_meanwhile_ends_nothing(store: Store) -> None:
    seen_in_the_spool = recording("a.wav")
    store.store_recording(seen_in_the_spool)
    kept = store.update_recording_path(seen_in_the_spool, Path("/kept/a.wav"))

    store.end_recording(seen_in_the_spool, data.RecordingState.LOST)

    assert store.get_recordings([kept.id]) == [(kept, [])]
    assert store.count_recordings()[data.RecordingState.KEPT] == 1


def test_a_late_repetition_brings_no_file_back(store: Store) -> None:
    kept, deleted = recording("a.wav"), recording("b.wav", 1)
    for sound in (kept, deleted):
        store.store_recording(sound)
    store.update_recording_path(kept, Path("/kept/a.wav"))
    store.end_recording(deleted, data.RecordingState.DELETED)

    for sound in (kept, deleted):
        store.store_recording(sound)

    paths = [sound.path for sound, _ in store.get_recordings([kept.id, deleted.id])]
    assert paths == [None, Path("/kept/a.wav")]
    assert store.get_captured_recordings() == []


def test_a_lost_recording_that_is_found_is_captured_again(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    store.end_recording(sound, data.RecordingState.LOST)

    store.store_recording(sound.model_copy(update={"path": None}))
    assert store.get_captured_recordings() == []
    store.store_recording(sound)

    assert store.get_captured_recordings() == [sound]


def test_captured_recordings_come_oldest_first(store: Store) -> None:
    sounds = [recording(f"{n}.wav", seconds=n) for n in range(4)]
    for sound in reversed(sounds):
        store.store_recording(sound)
    store.update_recording_path(sounds[0], Path("/kept/0.wav"))
    store.end_recording(sounds[2], data.RecordingState.LOST)

    assert store.get_captured_recordings() == [sounds[1], sounds[3]]
    assert store.get_captured_recordings(limit=1) == [sounds[1]]
    assert store.get_captured_recordings(limit=0) == []
    assert store.count_recordings() == {
        data.RecordingState.CAPTURED: 2,
        data.RecordingState.KEPT: 1,
        data.RecordingState.CLIPPED: 0,
        data.RecordingState.DELETED: 0,
        data.RecordingState.LOST: 1,
    }
    with pytest.raises(ValueError, match="limit"):
        store.get_captured_recordings(limit=-1)
