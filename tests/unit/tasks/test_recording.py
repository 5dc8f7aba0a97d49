"""The task that records."""

import logging
from pathlib import Path

import pytest

from acoupi import data
from acoupi.audio import formats
from acoupi.audio.guano import build_guano
from acoupi.components import SqliteStore, types
from acoupi.deployed import standby_file
from acoupi.effort import CapturePlan
from acoupi.errors import DeviceUnavailableError, MetadataStoreError
from acoupi.system import Settings, start_deployment
from acoupi.system.deployments import end_deployment
from acoupi.tasks import generate_recording_task, generate_recovery_task
from acoupi.testing import FakeRecorder, make_deployment
from tests.faulty import Faulty

DAMAGED = MetadataStoreError("database disk image is malformed")
LOCKED = MetadataStoreError("database is locked")


class Condition(types.RecordingCondition):
    def __init__(self, holds: bool) -> None:
        self.holds = holds
        self.asked = 0

    def should_record(self) -> bool:
        self.asked += 1
        return self.holds


def test_a_recording_is_stored_and_returned(store: SqliteStore, recorder: FakeRecorder) -> None:
    recording = generate_recording_task(recorder, store)()

    assert recording is not None
    ((stored, outputs),) = store.get_recordings([recording.id])
    assert stored == recording
    assert outputs == []
    assert recording.deployment == store.get_current_deployment()


def test_all_conditions_must_hold(store: SqliteStore, recorder: FakeRecorder) -> None:
    conditions = [Condition(True), Condition(False), Condition(True)]

    assert generate_recording_task(recorder, store, recording_conditions=conditions)() is None

    assert recorder.recordings == []
    assert [condition.asked for condition in conditions] == [1, 1, 0]


def test_nothing_is_recorded_between_two_deployments_that_the_page_stops_and_starts(
    store: SqliteStore, recorder: FakeRecorder, home: Path
) -> None:
    task = generate_recording_task(recorder, store)
    settings = Settings(home=home)
    start_deployment(settings, "Oak")
    standby = standby_file(settings.deployment_file)
    standby.write_text("{}")

    assert task() is None
    assert recorder.recordings == []
    assert store.get_unnamed_deployment() is None
    end_deployment(settings)
    assert standby.exists(), "the end of a deployment does not begin another"
    start_deployment(settings, "Wood")
    assert task() is not None


def test_conditions_that_hold_let_it_record(store: SqliteStore, recorder: FakeRecorder) -> None:
    conditions = [Condition(True), Condition(True)]

    assert generate_recording_task(recorder, store, recording_conditions=conditions)() is not None


def test_a_file_without_metadata_gets_them_in_place(
    store: SqliteStore, recorder: FakeRecorder, spool: Path
) -> None:
    recording = generate_recording_task(recorder, store)()

    assert recording is not None
    assert recording.path is not None
    assert formats.read_recording(recording.path).id == recording.id
    assert list(spool.iterdir()) == [recording.path]  # no backup folder (W1)


def test_metadata_that_a_recorder_wrote_stay(store: SqliteStore, spool: Path) -> None:
    class Describing(FakeRecorder):
        def record(self, deployment: data.Deployment) -> data.Recording:
            recording = super().record(deployment)
            assert recording.path is not None
            formats.add_guano(recording.path, build_guano({"Note": "from the recorder"}))
            return recording

    recording = generate_recording_task(Describing(spool), store)()

    assert recording is not None
    assert recording.path is not None
    assert formats.read_guano(recording.path)["Note"] == "from the recorder"
    assert formats.read_recording(recording.path).id == recording.id


def test_a_recording_that_cannot_be_stored_is_adopted_later(
    store: Faulty, recorder: FakeRecorder, spool: Path
) -> None:
    with store.failing("store_recording", LOCKED), pytest.raises(MetadataStoreError):
        generate_recording_task(recorder, store)()
    (recording,) = recorder.recordings
    assert store.get_recordings([recording.id]) == []

    generate_recovery_task(store, tmp_path=spool, settle_time=-1)()

    ((adopted, _),) = store.get_recordings([recording.id])
    assert (adopted.path, adopted.created_on) == (recording.path, recording.created_on)
    assert adopted.deployment == store.get_current_deployment()


def test_a_missing_microphone_is_logged_and_raised(
    store: SqliteStore, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    error = DeviceUnavailableError('cannot find "UltraMic".', why="it is not plugged in")

    with caplog.at_level(logging.ERROR), pytest.raises(DeviceUnavailableError):
        generate_recording_task(FakeRecorder(spool, error=error), store)()

    assert 'cannot find "UltraMic".' in caplog.text
    assert "it is not plugged in" in caplog.text


def test_a_store_that_does_not_answer_does_not_stop_the_recorder(
    store: Faulty, recorder: FakeRecorder
) -> None:
    task = generate_recording_task(recorder, store)
    first = task()

    with store.failing("get_current_deployment", LOCKED):
        second = task()

    assert first is not None
    assert second is not None
    assert second.deployment == first.deployment


def test_a_store_that_never_answered_leaves_the_deployment_of_the_home(
    store: Faulty, recorder: FakeRecorder
) -> None:
    oak = start_deployment(Settings(), "Oak", 51.5, 0)
    task = generate_recording_task(recorder, store)

    with store.failing("get_current_deployment", LOCKED):
        recording = task()

    assert recording is not None
    assert recording.deployment == oak


class Watching(FakeRecorder):
    """Notes whether updates were kept away while it recorded."""

    lock: Path
    kept_away = False

    def record(self, deployment: data.Deployment) -> data.Recording:
        self.kept_away = self.lock.exists()
        return super().record(deployment)


@pytest.mark.parametrize(("interval", "kept_away"), [(10, True), (3, False)])
def test_an_update_waits_for_a_recording_that_a_pause_follows(
    store: SqliteStore,
    spool: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    interval: float,
    kept_away: bool,
) -> None:
    lock = tmp_path / "updates.lock"
    monkeypatch.setenv("ACOUPI_UPDATE_LOCK", str(lock))
    recorder = Watching(spool)
    recorder.lock = lock
    plan = CapturePlan(duration=3, interval=interval)

    generate_recording_task(recorder, store, plan=plan)()

    assert recorder.kept_away is kept_away
    assert not lock.exists()


@pytest.mark.parametrize("is_on_file", [True, False])
def test_a_damaged_store_stops_no_recording(
    store: Faulty, recorder: FakeRecorder, spool: Path, home: Path, is_on_file: bool
) -> None:
    deployment = make_deployment(name="Oak")
    if is_on_file:
        (home / "config").mkdir(parents=True, exist_ok=True)
        (home / "config" / "deployment.json").write_text(deployment.model_dump_json())
    task = generate_recording_task(recorder, store)

    for _ in range(2):
        with (
            store.failing("get_current_deployment", DAMAGED),
            store.failing("store_recording", DAMAGED),
            store.failing("get_alive_until", DAMAGED),
            store.failing("note_effort", DAMAGED),
            pytest.raises(MetadataStoreError),  # counts as a failure, which status shows
        ):
            task()

    files = sorted(spool.glob("*.wav"))
    assert len(files) == 2
    belongs_to = {formats.read_recording(path).deployment.id for path in files}
    assert len(belongs_to) == 1
    assert not is_on_file or belongs_to == {deployment.id}
