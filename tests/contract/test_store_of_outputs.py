"""What every metadata store does with analyses and what models found."""

import datetime
import itertools
import math
import os
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.components import SqliteStore as Store
from acoupi.errors import MetadataStoreError
from acoupi.testing import InMemoryStore
from tests.clocks import Clock
from tests.stores import (
    UTC,
    at,
    detection,
    output,
    recording,
)

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


def test_an_attempt_that_was_ended_from_outside_does_not_count(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    store.begin_analysis(sound, "bats")

    # Below another parent: the board was started again, or the worker killed.
    monkeypatch.setattr(os, "getppid", os.getpid)
    second = store.begin_analysis(sound, "bats")
    third = store.begin_analysis(sound, "bats")

    assert (second.attempts, third.attempts) == (1, 2)


def test_an_attempt_that_failed_counts_whoever_makes_the_next(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    begun = store.begin_analysis(sound, "bats")
    store.end_analysis(begun.model_copy(update={"state": data.AnalysisState.RETRY}))

    monkeypatch.setattr(os, "getppid", os.getpid)

    assert store.begin_analysis(sound, "bats").attempts == 2


def test_attempts_that_are_always_ended_from_outside_count_in_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    parents = itertools.cycle([os.getppid(), os.getpid()])
    attempts = []

    for _ in range(13):
        parent = next(parents)
        monkeypatch.setattr(os, "getppid", lambda parent=parent: parent)
        attempts.append(store.begin_analysis(sound, "bats").attempts)

    assert attempts == [1] * 11 + [2, 3]


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


@pytest.mark.parametrize(
    "final",
    [
        state
        for state in data.AnalysisState
        if state.is_final and state is not data.AnalysisState.LEFT_OUT
    ],
)
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
reals = st.floats(allow_nan=False, allow_infinity=False)
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


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(stored=model_outputs())
def test_everything_stored_is_read_back(stored: data.ModelOutput) -> None:
    store = InMemoryStore()
    store.store_recording(stored.recording)
    store.store_model_output(stored)

    [(sound, [found])] = store.get_recordings([stored.recording.id])

    assert sound == found.recording == stored.recording
    assert found == stored
    assert list(found.detections) == list(stored.detections)
    assert [d.tags for d in found.detections] == [d.tags for d in stored.detections]
    assert store.get_detections() == list(stored.detections)


# A door refuses such a box.
@pytest.mark.parametrize("store", ["sqlite"], indirect=True)
def test_boxes_that_earlier_versions_stored_without_finite_sides_are_readable(store: Store) -> None:
    numpy = pytest.importorskip("numpy")
    sound = recording("a.wav")
    store.store_recording(sound)
    sides = (0.0, math.nan, 1.0, math.inf)
    box = data.BoundingBox.model_construct(type="BoundingBox", coordinates=sides)
    odd = detection(0.5, ("k", "single", numpy.float32(0.25)), ("k", "nan", math.nan), location=box)
    store.store_model_output(output(sound, odd))

    [found] = store.get_detections(score_gt=numpy.float32(0.1))

    assert found.tags[0].confidence_score == 0.25
    assert found.tags[1].confidence_score == 0
    assert found.location is None


def test_a_detection_of_a_subclass_comes_back_with_its_type(store: Store) -> None:
    sound = recording("a.wav")
    store.store_recording(sound)
    event = data.EventDetection(id=UUID(int=1))
    store.store_model_output(output(sound, event))

    [found] = store.get_detections()

    assert found.prediction_type is data.PredictionType.EVENT
    assert found == event


def test_recordings_that_a_model_failed_on_are_known_by_their_time(store: Store) -> None:
    sounds = [recording(f"{n}.wav", 10 * n) for n in range(4)]
    states = [data.AnalysisState.FAILED, data.AnalysisState.SKIPPED, data.AnalysisState.FAILED]
    for sound in sounds:
        store.store_recording(sound)
    for sound, state in zip(sounds, [*states, data.AnalysisState.FAILED], strict=True):
        begun = store.begin_analysis(sound, "bats")
        store.end_analysis(begun.model_copy(update={"state": state}))
    store.store_model_output(output(sounds[2]))  # It failed on the messages.

    assert store.get_unanalysed_recordings(at(0), at(30)) == [sounds[0]]
    assert store.get_unanalysed_recordings(at(0), at(31)) == [sounds[0], sounds[3]]


def test_the_newest_recording_that_waits_is_begun_first(store: Store) -> None:
    sounds = [recording(f"{n}.wav", created_on=at(n)) for n in range(3)]
    for sound in sounds:
        store.store_recording(sound)
    store.begin_analysis(sounds[2], "bats")

    begun = [store.begin_newest_analysis(sounds[0], "bats") for _ in range(3)]

    assert [one.id for one, _ in begun] == [sounds[1].id, sounds[0].id, sounds[0].id]
    assert [(one.recording_id, one.attempts) for _, one in begun] == [
        (sounds[1].id, 1), (sounds[0].id, 1), (sounds[0].id, 2),
    ]  # fmt: skip
