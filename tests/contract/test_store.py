"""What every metadata store does."""

import datetime
import math
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components.stores import SqliteStore
from acoupi.effort import Captured, CapturePlan, EffortHistory, PlanFrom, ledger
from acoupi.errors import MetadataStoreError
from acoupi.testing.stores import InMemoryStore

Store = SqliteStore | InMemoryStore
UTC = datetime.UTC
START = datetime.datetime(2024, 6, 1, 20, tzinfo=UTC)
STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda folder: SqliteStore(folder / "metadata.db"),
    "memory": lambda _: InMemoryStore(),
}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = STORES[request.param](tmp_path)
    yield store
    if isinstance(store, SqliteStore):
        store.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> "Clock":
    clock = Clock()
    monkeypatch.setattr(data, "utc_now", lambda: clock.now)
    return clock


class Clock:
    now = START

    def advance(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def deployment(**fields: object) -> data.Deployment:
    return data.Deployment.model_validate({"name": "Pond", "started_on": START, **fields})


SITE = deployment()


def recording(name: str | None = None, seconds: float = 0, **fields: object) -> data.Recording:
    values = {
        "path": None if name is None else Path("/spool") / name,
        "duration": 3,
        "samplerate": 256_000,
        "deployment": SITE,
        "created_on": at(seconds),
        **fields,
    }
    return data.Recording.model_validate(values)


def detection(
    score: float = 0.8, *tags: tuple[str, str, float], **fields: object
) -> data.Detection:
    predicted = [data.PredictedTag(data.Tag(key, value), sure) for key, value, sure in tags]
    return data.Detection.model_validate({"detection_score": score, "tags": predicted, **fields})


def output(of: data.Recording, *detections: data.Detection, **fields: object) -> data.ModelOutput:
    values = {"name_model": "bats", "recording": of, "created_on": at(100), **fields}
    return data.ModelOutput.model_validate({**values, "detections": list(detections)})


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

    assert begun.name == "20240601_200000"
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


def test_updating_a_deployment_changes_name_place_and_end_but_not_its_start(store: Store) -> None:
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
        data.RecordingState.DELETED: 0,
        data.RecordingState.LOST: 1,
    }
    with pytest.raises(ValueError, match="limit"):
        store.get_captured_recordings(limit=-1)


# Analyses


def test_beginning_an_analysis_counts_the_attempt_before_it_ends(
    store: Store, clock: Clock
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)

    store.begin_analysis(sound, "bats")
    clock.advance(5)
    second = store.begin_analysis(sound, "bats")

    assert (second.attempts, second.state) == (2, data.AnalysisState.RUNNING)
    assert second.updated_on == at(5)
    assert store.get_analyses([sound]) == {sound.id: [second]}


def test_each_model_has_an_analysis_of_its_own(store: Store) -> None:
    sound, other = recording("a.wav"), recording("b.wav", 1)
    store.store_recording(sound)
    store.store_recording(other)
    birds, bats = store.begin_analysis(sound, "birds"), store.begin_analysis(sound, "bats")

    found = store.get_analyses([sound, other])

    assert found == {sound.id: [bats, birds], other.id: []}
    assert store.count_analyses()[data.AnalysisState.RUNNING] == 2
    assert store.count_analyses()[data.AnalysisState.DONE] == 0


def test_an_analysis_keeps_how_it_ended(store: Store, clock: Clock) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    begun = store.begin_analysis(sound, "bats")
    clock.advance(7)

    store.end_analysis(
        begun.model_copy(update={"state": data.AnalysisState.RETRY, "error": "no memory"})
    )
    [ended] = store.get_analyses([sound])[sound.id]
    again = store.begin_analysis(sound, "bats")

    assert (ended.state, ended.error, ended.attempts) == (data.AnalysisState.RETRY, "no memory", 1)
    assert ended.updated_on == at(7)
    assert (again.state, again.error, again.attempts) == (
        data.AnalysisState.RUNNING,
        "no memory",
        2,
    )


@pytest.mark.parametrize("final", [state for state in data.AnalysisState if state.is_final])
def test_a_final_analysis_is_returned_as_it_is_and_not_counted(
    store: Store, final: data.AnalysisState
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    begun = store.begin_analysis(sound, "bats")
    store.end_analysis(begun.model_copy(update={"state": final}))

    again = store.begin_analysis(sound, "bats")
    store.end_analysis(begun.model_copy(update={"state": data.AnalysisState.RETRY}))

    assert (again.state, again.attempts) == (final, 1)
    assert store.get_analyses([sound])[sound.id] == [again]


def test_what_is_done_stays_done_but_a_failure_may_turn_out_done(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)

    def end(state: data.AnalysisState) -> data.AnalysisState:
        analysis = data.Analysis(recording_id=sound.id, name_model="bats", state=state, attempts=1)
        store.end_analysis(analysis)
        return store.get_analyses([sound])[sound.id][0].state

    assert end(data.AnalysisState.FAILED) is data.AnalysisState.FAILED
    assert end(data.AnalysisState.DONE) is data.AnalysisState.DONE
    assert end(data.AnalysisState.FAILED) is data.AnalysisState.DONE


def test_a_recording_can_be_skipped_without_an_attempt(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    skipped = data.Analysis(
        recording_id=sound.id, name_model="bats", state=data.AnalysisState.SKIPPED
    )

    store.end_analysis(skipped)

    [found] = store.get_analyses([sound])[sound.id]
    assert (found.state, found.attempts) == (data.AnalysisState.SKIPPED, 0)


def test_an_analysis_of_an_unknown_recording_is_refused(store: Store) -> None:
    sound = recording("a.wav")

    with pytest.raises(MetadataStoreError, match=str(sound.id)):
        store.begin_analysis(sound, "bats")
    with pytest.raises(MetadataStoreError, match=str(sound.id)):
        store.end_analysis(
            data.Analysis(recording_id=sound.id, name_model="bats", state=data.AnalysisState.DONE)
        )
    assert store.get_analyses([sound]) == {sound.id: []}


# Model outputs


def test_outputs_of_unknown_recordings_are_refused_naming_id_and_path(store: Store) -> None:
    known, lost, pathless = recording("a.wav"), recording("b.wav", 1), recording(None, 2)
    store.store_recording(known)
    outputs = [output(sound) for sound in (known, lost, pathless)]

    with pytest.raises(MetadataStoreError) as caught:
        store.store_model_outputs(outputs)

    assert str(lost.id) in str(caught.value)
    assert "/spool/b.wav" in str(caught.value)
    assert str(pathless.id) in str(caught.value)
    assert str(known.id) not in str(caught.value)
    assert store.get_model_outputs() == []  # all or none


def test_an_output_stored_again_replaces_its_detections(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    first = output(sound, detection(0.9, ("species", "Myotis", 0.7)), detection(0.5))
    second = first.model_copy(
        update={"detections": [detection(0.4, ("species", "Nyctalus", 0.2))], "created_on": at(200)}
    )

    store.store_model_output(first)
    store.store_model_output(second)
    store.store_model_output(second)

    assert store.get_recording_model_outputs(sound) == [second]
    assert [d.detection_score for d in store.get_detections()] == [0.4]
    assert [p.tag.value for p in store.get_predicted_tags()] == ["Nyctalus"]


def test_the_same_detection_may_be_in_two_outputs(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    shared = detection(0.9, ("species", "Myotis", 0.7))
    raw, clean = output(sound, shared), output(sound, shared, created_on=at(101))

    store.store_model_outputs([raw, clean])

    assert store.get_model_outputs() == [clean, raw]
    assert store.get_detections(ids=[shared.id]) == [shared, shared]


def test_detections_and_tags_keep_their_order(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    many = [
        detection(n / 20, *[("k", f"v{(7 * n + m) % 10}", m / 10) for m in range(5)])
        for n in (9, 2, 7, 0, 3)
    ]
    store.store_model_output(output(sound, *many))

    [found] = store.get_model_outputs()

    assert [d.id for d in found.detections] == [d.id for d in many]
    assert [d.tags for d in found.detections] == [d.tags for d in many]


def test_outputs_are_given_for_each_recording_asked_for(store: Store) -> None:
    one, two, unknown = recording("a.wav"), recording("b.wav", 1), recording("c.wav", 2)
    for sound in (one, two):
        store.store_recording(sound)
    old, new = output(one, created_on=at(1)), output(one, name_model="birds", created_on=at(2))
    store.store_model_outputs([old, new])

    found = store.get_recordings_model_outputs([one, two, unknown])

    assert found == {one.id: [new, old], two.id: [], unknown.id: []}


def test_an_output_shows_its_recording_as_it_is_now(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    store.store_model_output(output(sound))
    kept = store.update_recording_path(sound, Path("/kept/a.wav"))

    [found] = store.get_model_outputs()

    assert found.recording == kept


@pytest.fixture
def three_outputs(store: Store) -> list[data.ModelOutput]:
    """One a minute, of alternate models, scores and confidences 0.1, 0.5 and 0.9."""
    outputs = []
    for n, score in enumerate((0.1, 0.5, 0.9)):
        sound = recording(f"{n}.wav", seconds=60 * n)
        store.store_recording(sound)
        found = detection(score, ("species", f"s{n}", score), ("call", f"c{n}", score))
        name = "bats" if n % 2 == 0 else "birds"
        outputs.append(output(sound, found, name_model=name, created_on=at(1000 + 60 * n)))
    store.store_model_outputs(outputs)
    return outputs


def test_outputs_are_filtered_by_all_that_is_given(
    store: Store, three_outputs: list[data.ModelOutput]
) -> None:
    a, b, c = three_outputs

    assert store.get_model_outputs() == [c, b, a]
    assert store.get_model_outputs(limit=2) == [c, b]
    assert store.get_model_outputs(limit=0) == []
    assert store.get_model_outputs(ids=[a.id, b.id]) == [b, a]
    assert store.get_model_outputs(recording_ids=[c.recording.id]) == [c]
    assert store.get_model_outputs(model_names=["bats"]) == [c, a]
    assert store.get_model_outputs(detection_ids=[b.detections[0].id]) == [b]
    assert store.get_model_outputs(model_names=["bats"], ids=[b.id]) == []
    with pytest.raises(ValueError, match="limit"):
        store.get_model_outputs(limit=-1)


def test_time_bounds_are_included_and_hold_in_any_time_zone(
    store: Store, three_outputs: list[data.ModelOutput]
) -> None:
    a, b, c = three_outputs
    east = datetime.timezone(datetime.timedelta(hours=10))
    second = b.created_on.astimezone(east)
    tick = datetime.timedelta(microseconds=1)

    assert store.get_model_outputs(after=second) == [c, b]
    assert store.get_model_outputs(before=second) == [b, a]
    assert store.get_model_outputs(after=second + tick) == [c]
    assert store.get_model_outputs(before=second - tick) == [a]
    assert store.get_model_outputs(before=b.created_on.replace(tzinfo=None)) == [b, a]
    assert len(store.get_detections(after=second, before=second)) == 1
    assert len(store.get_predicted_tags(after=second, before=second)) == 2


def test_score_bounds_are_strict(store: Store, three_outputs: list[data.ModelOutput]) -> None:
    found = store.get_detections(score_gt=0.1, score_lt=0.9)
    tags = store.get_predicted_tags(score_gt=0.5)

    assert [d.detection_score for d in found] == [0.5]
    assert [p.confidence_score for p in tags] == [0.9, 0.9]
    assert store.get_detections(score_gt=0.9) == store.get_detections(score_lt=0.1) == []


def test_detections_and_tags_are_filtered_by_all_that_is_given(
    store: Store, three_outputs: list[data.ModelOutput]
) -> None:
    a, b, c = (each.detections[0] for each in three_outputs)

    assert store.get_detections() == [c, b, a]
    assert store.get_detections(ids=[a.id], model_names=["bats"]) == [a]
    assert store.get_detections(model_output_ids=[three_outputs[1].id]) == [b]
    assert store.get_predicted_tags(detection_ids=[b.id]) == b.tags
    assert [p.tag.value for p in store.get_predicted_tags(keys=["call"])] == ["c2", "c1", "c0"]
    assert store.get_predicted_tags(keys=["call"], values=["s0"]) == []
    assert store.get_predicted_tags(values=["s0"]) == [a.tags[0]]


def test_windows_of_recording_time_count_each_recording_once(store: Store) -> None:
    outputs = []
    for n in range(4):
        sound = recording(f"{n}.wav", seconds=60 * n)
        store.store_recording(sound)
        # The model ran much later, and in another order.
        outputs.append(output(sound, created_on=at(90_000 - n)))
        store.store_model_output(outputs[-1])

    first = store.get_model_outputs_by_recording_time(at(0), at(120))
    east = datetime.timezone(datetime.timedelta(hours=9))
    second = store.get_model_outputs_by_recording_time(at(120).astimezone(east), at(180))

    assert first == outputs[:2]
    assert second == outputs[2:3]
    assert store.get_model_outputs_by_recording_time(at(120), at(0)) == []


# Whatever it is, it is read back

times = st.datetimes(
    min_value=datetime.datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime.datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.sampled_from(
        [UTC, *(datetime.timezone(datetime.timedelta(minutes=m)) for m in (-480, 345, 600))]
    ),
)
scores = st.floats(0, 1)
reals = st.floats(allow_nan=False)
positive = st.floats(min_value=0, exclude_min=True, allow_nan=False)
tags = st.builds(
    data.PredictedTag,
    tag=st.builds(data.Tag, key=st.text(), value=st.text()),
    confidence_score=reals,
)


@st.composite
def boxes(draw: st.DrawFn) -> data.BoundingBox:
    start, end = sorted(draw(st.lists(reals, min_size=2, max_size=2, unique=True)))
    low, high = sorted(draw(st.lists(reals, min_size=2, max_size=2, unique=True)))
    return data.BoundingBox(type=draw(st.text()), coordinates=(start, low, end, high))


deployments = st.builds(
    data.Deployment,
    id=st.uuids(),
    name=st.text(),
    latitude=st.none() | st.floats(-90, 90),
    longitude=st.none() | st.floats(-180, 180),
    started_on=times,
    ended_on=st.none() | times,
)
recordings = st.builds(
    data.Recording,
    id=st.uuids(),
    path=st.none() | st.text().map(Path),
    duration=positive,
    samplerate=st.integers(1, 2**40),
    audio_channels=st.none() | st.integers(1, 64),
    time_expansion=positive,
    deployment=deployments,
    created_on=times,
)
detections = st.builds(
    data.Detection,
    id=st.uuids(),
    prediction_type=st.sampled_from(data.PredictionType),
    location=st.none() | boxes(),
    detection_score=scores,
    tags=st.lists(tags, max_size=3),
)


@st.composite
def model_outputs(draw: st.DrawFn) -> data.ModelOutput:
    return data.ModelOutput(
        id=draw(st.uuids()),
        name_model=draw(st.text()),
        recording=draw(recordings),
        detections=draw(st.lists(detections, max_size=4)),
        created_on=draw(times),
    )


@pytest.mark.parametrize("kind", STORES)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(stored=model_outputs())
def test_everything_stored_is_read_back(kind: str, stored: data.ModelOutput) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = STORES[kind](Path(folder))
        store.store_recording(stored.recording)
        store.store_model_output(stored)

        [(sound, [found])] = store.get_recordings([stored.recording.id])

        assert sound == found.recording == stored.recording
        assert found == stored
        assert list(found.detections) == list(stored.detections)
        assert [d.tags for d in found.detections] == [d.tags for d in stored.detections]
        assert store.get_detections() == list(stored.detections)
        if isinstance(store, SqliteStore):
            store.close()


def test_numbers_of_numpy_and_those_that_are_none_are_stored(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    sound = recording("a.wav")
    store.store_recording(sound)
    box = data.BoundingBox(coordinates=(0.0, math.nan, 1.0, math.nan))
    odd = detection(0.5, ("k", "single", numpy.float32(0.25)), ("k", "nan", math.nan), location=box)
    store.store_model_output(output(sound, odd))

    [found] = store.get_detections(score_gt=numpy.float32(0.1))

    assert found.tags[0].confidence_score == 0.25
    assert math.isnan(found.tags[1].confidence_score)
    assert found.location is not None
    start, low, end, high = found.location.coordinates
    assert (start, end) == (0.0, 1.0)
    assert math.isnan(low)
    assert math.isnan(high)


def test_a_detection_of_a_subclass_comes_back_with_its_type(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    event = data.EventDetection(id=UUID(int=1))
    store.store_model_output(output(sound, event))

    [found] = store.get_detections()

    assert found.prediction_type is data.PredictionType.EVENT
    assert found == event


# Effort


HEALTH = data.MicrophoneHealth(
    rms_dbfs=-51.5,
    peak_dbfs=-3.25,
    clipped_share=0.03,
    dc_offset=-0.01,
    is_silent=False,
    is_stuck=False,
    noise_floor_dbfs=-72.0,
)
REPORT = data.CaptureReport(
    stream_id=UUID(int=5),
    first_frame=768_000,
    frames=768_000,
    samplerate_measured=255_998.5,
    clock_synchronised=False,
    clock_error_s=16.0,
    overruns=[data.Overrun(800_000, 512)],
    gap_before_frames=7,
    incomplete="the microphone was unplugged",
    health=HEALTH,
)
PLAN = CapturePlan(duration=3, interval=10)


def refused(start: float, end: float, detail: str = "") -> data.EffortSpan:
    return data.EffortSpan(at(start), at(end), data.EffortState.CONDITION_REFUSED, detail)


def history(store: Store, *window: datetime.datetime) -> EffortHistory:
    found = store.get_effort(SITE, *window)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "report",
    [
        REPORT,
        REPORT.model_copy(update={"health": None, "overruns": [], "incomplete": None}),
        REPORT.model_copy(update={"clock_synchronised": None, "samplerate_measured": None}),
    ],
)
def test_how_a_recording_was_captured_is_remembered(
    store: Store, report: data.CaptureReport
) -> None:
    sound = recording("a.wav", capture=report)
    store.store_recording(sound)
    store.store_recording(recording("early.wav", -60))

    last = store.get_last_recording(SITE)

    assert last == sound
    assert last is not None
    assert last.capture == report
    assert store.get_last_recording() == sound
    assert store.get_last_recording(deployment()) is None


def test_how_it_was_captured_stays_when_a_recording_is_stored_again_without_it(
    store: Store,
) -> None:
    sound = recording("a.wav", capture=REPORT)
    store.store_recording(sound)

    store.store_recording(sound.model_copy(update={"capture": None}))

    last = store.get_last_recording(SITE)
    assert last is not None
    assert last.capture == REPORT


def test_a_recording_that_comes_back_equals_the_one_that_went_in(store: Store) -> None:
    sound = recording("a.wav", capture=REPORT)
    store.store_recording(sound)

    [(found, _)] = store.get_recordings([sound.id])
    assert found == sound
    assert "capture" not in found.model_dump()


def test_the_history_holds_every_recording_whatever_became_of_its_file(store: Store) -> None:
    kept, gone = recording("a.wav", 0, capture=REPORT), recording("b.wav", 3, duration=2.5)
    for sound in (gone, kept):
        store.store_recording(sound)
    store.end_recording(gone, data.RecordingState.DELETED)

    found = history(store)

    assert found.deployment == SITE
    assert list(found.captured) == [Captured.of(kept), Captured.of(gone)]
    assert found.captured[0].overruns == (data.Overrun(800_000, 512),)
    assert found.captured[0].is_synchronised is False


def test_notes_come_back_in_order(store: Store) -> None:
    notes = [refused(10, 20, "rain"), refused(0, 5)]

    store.note_effort(SITE, notes)

    assert list(history(store).notes) == notes[::-1]
    assert store.get_deployments() == [SITE]


def test_a_note_that_goes_on_replaces_the_one_before_it(store: Store) -> None:
    store.note_effort(SITE, [refused(0, 5)])
    store.note_effort(SITE, [refused(0, 30, "rain")])

    assert list(history(store).notes) == [refused(0, 30, "rain")]


def test_the_same_plan_again_changes_nothing(store: Store) -> None:
    other = CapturePlan(duration=3, interval=3)
    for seconds, plan in ((0, PLAN), (10, PLAN), (20, other), (30, PLAN)):
        store.note_plan(SITE, plan, at(seconds))

    assert list(history(store).plans) == [
        PlanFrom(at(0), PLAN),
        PlanFrom(at(20), other),
        PlanFrom(at(30), PLAN),
    ]


def test_the_last_sign_of_life_is_a_recording_or_a_note(store: Store) -> None:
    assert store.get_alive_until(SITE) is None
    store.note_effort(SITE, [refused(0, 5)])
    assert store.get_alive_until(SITE) == at(5)
    store.store_recording(recording("a.wav", 10))
    assert store.get_alive_until(SITE) == at(13)
    store.note_effort(SITE, [refused(1, 20)])
    assert store.get_alive_until(SITE) == at(20)


def test_a_part_of_a_history_gives_the_same_ledger_as_the_whole(store: Store) -> None:
    store.note_plan(SITE, PLAN, START)
    for number in (0, 1, 2, 700, 701, 1400):
        store.store_recording(recording(f"{number}.wav", number * 10))
    store.note_effort(SITE, [refused(40, 90), refused(12_000, 13_000)])
    window = at(6995), at(7105)

    part = history(store, *window)
    spans = ledger(part, at(15_000), since=window[0], until=window[1])

    assert spans == ledger(history(store), at(15_000), since=window[0], until=window[1])
    assert sum(span.duration for span in spans) == 110


def test_a_part_of_a_history_knows_that_something_comes_after_it(store: Store) -> None:
    site = SITE.model_copy(update={"ended_on": at(900_000)})
    store.store_deployment(site)
    store.note_plan(site, PLAN, START)
    store.note_effort(site, [refused(800_000, 800_003)])

    spans = ledger(history(store, at(0), at(60)), START, since=at(0), until=at(60))

    assert spans == ledger(history(store), START, since=at(0), until=at(60))


def test_a_deployment_that_is_not_stored_has_no_history(store: Store) -> None:
    assert store.get_effort(SITE) is None
    assert store.get_deployments() == []


def test_deployments_are_listed_by_their_start(store: Store) -> None:
    later = deployment(name="Lake", started_on=at(5))
    for each in (later, SITE):
        store.store_deployment(each)

    assert store.get_deployments() == [SITE, later]
