"""The task that keeps or deletes files: none is stranded, none is lost without a trace."""

import errno
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from acoupi import data
from acoupi.components import (
    DetectionTags,
    DetectionTagValue,
    IDFileManager,
    SaveRecordingManager,
    SavingThreshold,
    SqliteStore,
    types,
)
from acoupi.tasks import generate_file_management_task, generate_recovery_task
from acoupi.tasks.management import note_missing
from acoupi.testing import FakeModel
from tests.faulty import Faulty

from .conftest import Crash

Capture = Callable[..., data.Recording]


class Always(types.RecordingSavingFilter):
    def __init__(self, answer: bool) -> None:
        self.answer = answer

    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        return self.answer


class Broken(types.RecordingSavingFilter, types.RecordingSavingManager):
    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        raise RuntimeError("a bug")

    def save_recording(self, recording: Any, model_outputs: Any = None) -> Path:
        raise RuntimeError("a bug")


class Nowhere(types.RecordingSavingManager):
    def save_recording(self, recording: Any, model_outputs: Any = None) -> None:
        return None


class Named(types.RecordingSavingManager):
    """Gives every recording the same name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def save_recording(self, recording: Any, model_outputs: Any = None) -> Path:
        return self.path


@pytest.fixture
def manage(store: SqliteStore, spool: Path, kept: Path):
    def run(**options: Any) -> None:
        options.setdefault("file_managers", [IDFileManager(kept)])
        generate_file_management_task(store, tmp_path=spool, **options)()

    return run


def row_of(store: SqliteStore, recording: data.Recording) -> data.Recording:
    ((row, _),) = store.get_recordings([recording.id])
    return row


def count(store: SqliteStore, state: data.RecordingState) -> int:
    return store.count_recordings()[state]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_recording_is_moved_to_where_the_manager_says(
    manage, store: SqliteStore, spool: Path, kept: Path, capture: Capture
) -> None:
    recording = capture()

    manage()

    assert row_of(store, recording).path == kept / f"{recording.id}.wav"
    assert names(kept) == [f"{recording.id}.wav"]
    assert names(spool) == []
    assert count(store, data.RecordingState.KEPT) == 1


def test_the_default_folder_is_that_of_the_home(
    store: SqliteStore, kept: Path, home: Path, capture: Capture
) -> None:
    recording = capture()
    assert recording.path is not None
    place = home / "data" / "spool" / "a.wav"
    place.parent.mkdir(parents=True)
    recording.path = recording.path.rename(place)
    store.store_recording(recording)

    generate_file_management_task(store, [IDFileManager(kept)])()

    assert names(kept) == [f"{recording.id}.wav"]


@pytest.mark.parametrize(
    ("answers", "is_kept"),
    [([], True), ([True], True), ([False, True], True), ([False, False], False)],
)
def test_one_filter_is_enough(
    manage, store: SqliteStore, spool: Path, capture: Capture, answers: list[bool], is_kept: bool
) -> None:
    recording = capture()

    manage(file_filters=[Always(answer) for answer in answers])

    assert names(spool) == []
    assert (row_of(store, recording).path is not None) is is_kept
    assert count(store, data.RecordingState.DELETED) == (not is_kept)


def test_the_first_manager_that_names_a_place_wins(
    manage, kept: Path, capture: Capture, tmp_path: Path
) -> None:
    recording = capture()

    manage(file_managers=[Nowhere(), IDFileManager(kept), IDFileManager(tmp_path / "other")])

    assert names(kept) == [f"{recording.id}.wav"]


@pytest.mark.parametrize("managers", [[], [Nowhere()]])
def test_without_a_place_the_file_is_deleted_with_a_warning(
    manage, store, spool: Path, capture: Capture, caplog: pytest.LogCaptureFixture, managers: list
) -> None:
    capture()

    with caplog.at_level(logging.WARNING):
        manage(file_managers=managers)

    assert names(spool) == []
    assert count(store, data.RecordingState.DELETED) == 1
    assert "no saving manager" in caplog.text


@pytest.mark.parametrize(
    ("state", "is_final"),
    [
        (None, False),
        (data.AnalysisState.RUNNING, False),
        (data.AnalysisState.RETRY, False),
        (data.AnalysisState.DONE, True),
        (data.AnalysisState.SKIPPED, True),
        (data.AnalysisState.FAILED, True),
    ],
)
def test_a_file_stays_until_its_analyses_are_final_and_no_longer(
    manage, store: SqliteStore, spool: Path, capture: Capture, state: Any, is_final: bool
) -> None:
    recording = capture()
    if state is not None:
        analysis = store.begin_analysis(recording, "fake")
        store.end_analysis(analysis.model_copy(update={"state": state}))

    manage(required_models=["fake"])

    assert (names(spool) == []) is is_final


def end_analysis(
    store: SqliteStore, recording: data.Recording, model: str, state: data.AnalysisState
) -> None:
    analysis = store.begin_analysis(recording, model)
    store.end_analysis(analysis.model_copy(update={"state": state}))


DETECTION_FILTERS = [
    SavingThreshold(0.5),
    DetectionTagValue(["bat"]),
    DetectionTags([data.Tag(key="species", value="bat")]),
]


@pytest.mark.parametrize("saving_filter", [*DETECTION_FILTERS, Always(False)])
def test_what_a_model_failed_on_is_kept(
    manage, store: SqliteStore, spool: Path, kept: Path, capture: Capture, saving_filter: Any
) -> None:
    recording = capture()
    end_analysis(store, recording, "fake", data.AnalysisState.FAILED)

    manage(required_models=["fake"], file_filters=[saving_filter])

    assert (names(spool), names(kept)) == ([], [f"{recording.id}.wav"])


def test_what_one_of_two_models_failed_on_is_kept(
    manage, store: SqliteStore, kept: Path, capture: Capture
) -> None:
    recording = capture()
    store.store_model_output(FakeModel("bats", score=None).run(recording))
    end_analysis(store, recording, "bats", data.AnalysisState.DONE)
    end_analysis(store, recording, "birds", data.AnalysisState.FAILED)

    manage(
        required_models=["bats", "birds"],
        file_filters=[SavingThreshold(0.5)],
        file_managers=[SaveRecordingManager(kept)],
    )

    assert len(names(kept)) == 1


def test_what_a_model_failed_on_stays_in_the_spool_if_no_manager_names_a_place(
    manage, store: SqliteStore, spool: Path, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    end_analysis(store, capture(), "fake", data.AnalysisState.FAILED)

    manage(required_models=["fake"], file_managers=[Nowhere()])

    assert len(names(spool)) == 1
    assert count(store, data.RecordingState.CAPTURED) == 1
    assert "fake failed on it" in caplog.text


@pytest.mark.parametrize("saving_filter", DETECTION_FILTERS)
def test_filters_of_detections_say_nothing_of_what_no_model_has_begun_with(
    manage, kept: Path, capture: Capture, saving_filter: Any
) -> None:
    capture()

    manage(file_filters=[Always(False), saving_filter])

    assert len(names(kept)) == 1


def test_what_was_analysed_or_skipped_is_left_to_the_filters(
    manage, store: SqliteStore, spool: Path, kept: Path, capture: Capture
) -> None:
    analysed, skipped = capture(0), capture(1)
    store.store_model_output(FakeModel(score=None).run(analysed))
    end_analysis(store, analysed, "fake", data.AnalysisState.DONE)
    end_analysis(store, skipped, "fake", data.AnalysisState.SKIPPED)

    manage(required_models=["fake"], file_filters=[SavingThreshold(0.5)])

    assert (names(spool), names(kept)) == ([], [])
    assert count(store, data.RecordingState.DELETED) == 2


def test_every_required_model_counts(
    manage, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    analysis = store.begin_analysis(recording, "bats")
    store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.DONE}))

    manage(required_models=["bats", "birds"])

    assert len(names(spool)) == 1


def test_a_stored_output_does_not_hide_an_analysis_that_goes_on(
    manage, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    store.begin_analysis(recording, "fake")
    store.store_model_output(FakeModel().run(recording))

    manage(required_models=["fake"])

    assert len(names(spool)) == 1


def test_conditions_see_which_models_ran(
    manage, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    store.store_model_output(FakeModel("bats").run(recording))
    seen = []

    def is_old(recording: data.Recording, infos: list[data.ModelOutputInfo]) -> bool:
        seen.append([info.name_model for info in infos])
        return False

    manage(management_conditions=[is_old])

    assert seen == [["bats"]]
    assert len(names(spool)) == 1


def test_one_failing_recording_does_not_stop_the_others(
    manage, store: SqliteStore, kept: Path, capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings = [capture(minute) for minute in range(3)]
    real = os.link

    def failing(source: Path, target: Path) -> None:
        if Path(source).name == recordings[0].path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", failing)
        manage()
    assert len(names(kept)) == 2
    assert row_of(store, recordings[0]).path == recordings[0].path

    manage()

    assert len(names(kept)) == 3


def test_the_oldest_come_first(manage, kept: Path, capture: Capture) -> None:
    recordings = [capture(minute) for minute in (5, 1, 3)]
    order = []

    class Watching(IDFileManager):
        def get_file_path(self, recording: data.Recording) -> Path:
            order.append(recording.id)
            return super().get_file_path(recording)

    manage(file_managers=[Watching(kept)])

    assert order == [recordings[1].id, recordings[2].id, recordings[0].id]


def test_two_recordings_of_one_second_are_both_kept(
    manage, store: SqliteStore, kept: Path, capture: Capture
) -> None:
    first, second = capture(0, pitch=700), capture(0, pitch=900)
    contents = {r.path.read_bytes() for r in (first, second) if r.path}

    manage(file_managers=[SaveRecordingManager(kept)])

    assert names(kept) == ["20240801_200000.wav", "20240801_200000_1.wav"]
    assert {path.read_bytes() for path in kept.iterdir()} == contents
    assert {row_of(store, r).path for r in (first, second)} == set(kept.iterdir())


def test_two_recordings_of_the_same_bytes_are_both_kept(
    manage, store: SqliteStore, kept: Path, capture: Capture
) -> None:
    recordings = [capture(minute, pitch=700, described=False) for minute in (0, 1)]

    manage(file_managers=[Named(kept / "a.wav")])

    assert names(kept) == ["a.wav", "a_1.wav"]
    assert {row_of(store, r).path for r in recordings} == set(kept.iterdir())


def test_a_name_of_an_offloaded_recording_is_not_given_again(
    manage, store: SqliteStore, spool: Path, kept: Path, capture: Capture
) -> None:
    first = capture(0)
    manage(file_managers=[Named(kept / "a.wav")])
    (kept / "a.wav").unlink()  # rsync --remove-source-files
    capture(1)

    manage(file_managers=[Named(kept / "a.wav")])

    assert names(kept) == ["a_1.wav"]
    assert names(spool) == []
    assert row_of(store, first).path == kept / "a.wav"


def test_a_filter_that_fails_cannot_delete(
    manage, store: SqliteStore, kept: Path, capture: Capture
) -> None:
    capture()

    manage(file_filters=[Broken(), Always(False)])

    assert len(names(kept)) == 1


def test_a_manager_that_fails_leaves_the_file_or_the_next_manager_takes_it(
    manage, spool: Path, kept: Path, capture: Capture
) -> None:
    capture()

    manage(file_managers=[Broken(), Nowhere()])
    assert len(names(spool)) == 1
    manage(file_managers=[Broken(), IDFileManager(kept)])

    assert len(names(kept)) == 1


def test_a_file_that_vanishes_during_the_pass_is_lost(
    manage, store: SqliteStore, kept: Path, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    recording = capture()

    class Vanishing(IDFileManager):
        def get_file_path(self, recording: data.Recording) -> Path:
            assert recording.path is not None
            recording.path.unlink()
            return super().get_file_path(recording)

    manage(file_managers=[Vanishing(kept)])

    assert row_of(store, recording).path is None
    assert count(store, data.RecordingState.LOST) == 1
    assert "is lost" in caplog.text


def test_a_file_that_another_pass_moved_is_not_lost(
    manage, store: SqliteStore, kept: Path, capture: Capture
) -> None:
    recording = capture()

    class Slow(IDFileManager):
        def save_recording(self, recording: Any, model_outputs: Any = None) -> Path:
            manage()  # another pass, from beginning to end
            return super().save_recording(recording, model_outputs)

    manage(file_managers=[Slow(kept)])

    assert row_of(store, recording).path == kept / f"{recording.id}.wav"
    assert count(store, data.RecordingState.LOST) == 0


def test_a_file_that_another_pass_is_deleting_is_not_lost(
    manage, store: Faulty, capture: Capture, caplog: pytest.LogCaptureFixture
) -> None:
    recording = capture()
    end_recording = store.end_recording

    def looked_at_meanwhile(ended: data.Recording, state: data.RecordingState) -> None:
        note_missing(store, recording, logging.getLogger())  # another pass, which listed it before
        assert count(store, data.RecordingState.LOST) == 0
        end_recording(ended, state)

    with store.replaced("end_recording", looked_at_meanwhile):
        manage(file_filters=[Always(False)])

    assert count(store, data.RecordingState.DELETED) == 1
    assert "is lost" not in caplog.text


def test_overlapping_passes_do_no_harm(
    store: SqliteStore, spool: Path, kept: Path, capture: Capture
) -> None:
    recordings = [capture(minute) for minute in range(12)]
    loud = {r.id for r in recordings[::2]}

    class Loud(types.RecordingSavingFilter):
        def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
            return recording.id in loud

    task = generate_file_management_task(
        store, [IDFileManager(kept)], file_filters=[Loud()], tmp_path=spool
    )
    barrier = threading.Barrier(4)

    def run() -> None:
        barrier.wait()
        task()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert names(spool) == []
    assert names(kept) == sorted(f"{id_}.wav" for id_ in loud)
    assert store.count_recordings() == {
        data.RecordingState.CAPTURED: 0,
        data.RecordingState.KEPT: 6,
        data.RecordingState.CLIPPED: 0,
        data.RecordingState.DELETED: 6,
        data.RecordingState.LOST: 0,
    }


def test_unknown_and_hidden_files_are_left_alone(manage, spool: Path, capture: Capture) -> None:
    capture()
    (spool / "stranger.wav").write_bytes(b"?")
    (spool / ".b.wav.part").write_bytes(b"?")

    manage()

    assert names(spool) == [".b.wav.part", "stranger.wav"]


def test_a_folder_that_does_not_exist_is_no_failure(manage, spool: Path) -> None:
    manage()

    assert not spool.exists()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("step", "answer"), [("update_recording_path", True), ("end_recording", False)]
)
def test_a_crash_around_the_note_in_the_store_is_made_good(
    manage,
    store: Faulty,
    spool: Path,
    kept: Path,
    capture: Capture,
    step: str,
    answer: bool,
    when: str,
) -> None:
    recording = capture()
    assert recording.path is not None
    content = recording.path.read_bytes()

    with store.failing(step, Crash(), after=when == "after"), pytest.raises(Crash):
        manage(file_filters=[Always(answer)])

    generate_recovery_task(store, tmp_path=spool, settle_time=-1)()
    manage(file_filters=[Always(answer)])
    generate_recovery_task(store, tmp_path=spool, settle_time=-1)()

    assert names(spool) == []
    assert count(store, data.RecordingState.LOST) == 0
    if answer:
        path = row_of(store, recording).path
        assert path == kept / f"{recording.id}.wav"
        assert path.read_bytes() == content
        assert names(kept) == [path.name]
    else:
        assert count(store, data.RecordingState.DELETED) == 1
