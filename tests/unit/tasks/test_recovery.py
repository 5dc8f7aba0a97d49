"""The task that finishes what a crash left."""

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from acoupi import data
from acoupi.audio import files, formats, wav
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.components import SqliteStore
from acoupi.system import Settings, start_deployment
from acoupi.tasks import generate_recovery_task
from acoupi.testing import make_recording, make_wav
from tests.clocks import Clock
from tests.faulty import Faulty

Capture = Callable[..., data.Recording]
HOUR = 3600


@pytest.fixture
def recover(store: SqliteStore, spool: Path):
    def run(**options: Any) -> None:
        generate_recovery_task(store, tmp_path=spool, **options)()

    return run


def grow_old(path: Path, seconds: float = HOUR) -> None:
    time = data.utc_now().timestamp() - seconds
    os.utime(path, (time, time))


def orphan(store: SqliteStore, spool: Path, name: str = "a.wav") -> data.Recording:
    """A complete file that describes itself, and has no row."""
    recording = make_recording(deployment=store.get_current_deployment())
    recording.path = spool / name
    if recording.path.suffix == ".flac":
        with formats.open_writer(recording.path, 8000, 1) as writer:
            writer.write(bytes(2 * 800))
            writer.finish()
    else:
        make_wav(recording.path)
    formats.add_guano(recording.path, build_guano(guano_of_recording(recording)))
    grow_old(recording.path)
    return recording


def rows(store: SqliteStore, recording: data.Recording) -> list[data.Recording]:
    return [row for row, _ in store.get_recordings([recording.id])]


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_complete_file_without_a_row_is_adopted(
    recover, store: SqliteStore, spool: Path, name: str
) -> None:
    recording = orphan(store, spool, name)

    recover()

    (row,) = rows(store, recording)
    assert (row.path, row.duration, row.samplerate) == (recording.path, 0.1, 8000)
    assert row.created_on == recording.created_on
    assert row.deployment == recording.deployment


def test_a_deployment_that_a_cut_command_left_open_is_ended(recover, store: SqliteStore) -> None:
    store.store_deployment(data.Deployment(name="S1"))
    new = start_deployment(Settings(), "S3")

    recover()

    still_open = [one for one in store.get_deployments() if one.ended_on is None]
    assert still_open == [new]


def test_a_file_that_was_just_written_is_left_to_its_recorder(
    recover, store: SqliteStore, spool: Path
) -> None:
    recording = orphan(store, spool)
    assert recording.path is not None
    os.utime(recording.path)

    recover()

    assert rows(store, recording) == []


@pytest.mark.parametrize("is_set", [True, False])
def test_a_recording_that_is_adopted_after_the_clock_of_its_boot_was_set_gets_the_right_time(
    recover, store: SqliteStore, spool: Path, *, is_set: bool
) -> None:
    """A killed recorder left it; by the time it is adopted there may be another boot."""
    site, boot, right = store.get_current_deployment(), uuid4(), 1_750_000_000.0
    store.store_recording(by_clock(site, boot, right, 60, is_set=is_set))
    store.store_recording(by_clock(site, uuid4(), right, 500, is_set=True))
    late = by_clock(site, boot, 0, 6, is_set=False)
    late.path = make_wav(spool / "a.wav")
    formats.add_guano(late.path, build_guano(guano_of_recording(late)))
    grow_old(late.path)

    recover()

    (row,) = rows(store, late)
    assert row.created_on.timestamp() == pytest.approx(6 + right * is_set)
    assert [one.id for one in store.get_files_to_correct(10)] == [late.id] * is_set


def by_clock(
    site: data.Deployment, boot: UUID, offset: float, monotonic: float, *, is_set: bool
) -> data.Recording:
    """A recording of a boot whose clock told that time."""
    report = data.CaptureReport(
        stream_id=uuid4(),
        first_frame=0,
        frames=800,
        samplerate_measured=None,
        clock_synchronised=is_set,
        clock_error_s=None,
        boot_clock=data.BootClock(boot_id=boot, offset_s=offset),
    )
    created_on = datetime.datetime.fromtimestamp(offset + monotonic, datetime.UTC)
    return make_recording(deployment=site, created_on=created_on, capture=report)


def test_a_file_of_the_future_is_not_new(recover, store: SqliteStore, spool: Path) -> None:
    recording = orphan(store, spool)
    assert recording.path is not None
    grow_old(recording.path, -HOUR)  # the clock was set back since

    recover()

    assert len(rows(store, recording)) == 1


def test_strangers_are_left_alone_and_mentioned_once(
    store: SqliteStore, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    grow_old(make_wav(spool / "stranger.wav"))
    (spool / "text.wav").write_text("no sound")
    grow_old(spool / "text.wav")
    task = generate_recovery_task(store, tmp_path=spool)

    task()
    task()

    assert sorted(p.name for p in spool.iterdir()) == ["stranger.wav", "text.wav"]
    assert caplog.text.count("stranger.wav (") == 1
    assert caplog.text.count("text.wav (") == 1


def half_written(store: SqliteStore, spool: Path) -> tuple[data.Recording, Path]:
    recording = make_recording(deployment=store.get_current_deployment())
    text = build_guano(guano_of_recording(recording))
    writer = wav.WavWriter(spool / "b.wav", 8000, 1, guano=text)
    writer.write(bytes(2 * 400))
    writer.leave()
    return recording, writer.part


def test_a_recording_that_was_interrupted_is_mended_and_adopted(
    recover, store: SqliteStore, spool: Path
) -> None:
    recording, part = half_written(store, spool)
    grow_old(part)

    recover(settle_time=-1)

    (row,) = rows(store, recording)
    assert row.path == spool / "b.wav"
    assert row.duration == pytest.approx(0.05)


def test_a_recording_that_is_being_written_is_left_alone(
    recover, store: SqliteStore, spool: Path
) -> None:
    recording = make_recording(deployment=store.get_current_deployment())
    with wav.WavWriter(
        spool / "b.wav", 8000, 1, guano=build_guano(guano_of_recording(recording))
    ) as writer:
        writer.write(bytes(800))
        grow_old(writer.part)  # the clock was set forward, say

        recover()

        assert writer.part.exists()
        writer.finish()
    assert (spool / "b.wav").exists()


def test_a_young_part_is_left_alone(recover, store: SqliteStore, spool: Path) -> None:
    _, part = half_written(store, spool)

    recover()

    assert part.exists()


def test_a_captured_row_without_its_file_is_lost(
    recover, store: SqliteStore, capture: Capture
) -> None:
    gone, there = capture(0), capture(1)
    assert gone.path is not None
    gone.path.unlink()

    recover()

    assert rows(store, gone)[0].path is None
    assert rows(store, there)[0].path == there.path
    assert store.count_recordings()[data.RecordingState.LOST] == 1


def test_a_folder_that_is_gone_proves_nothing(
    recover, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    spool.rename(spool.with_name("unmounted"))

    recover()
    assert rows(store, recording)[0].path == recording.path
    spool.with_name("unmounted").rename(spool)
    recover()

    assert store.count_recordings()[data.RecordingState.CAPTURED] == 1


def test_a_lost_recording_that_comes_back_is_captured_again(
    recover, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    assert recording.path is not None
    elsewhere = recording.path.rename(spool.parent / "elsewhere.wav")
    recover()
    assert store.count_recordings()[data.RecordingState.LOST] == 1
    grow_old(elsewhere.rename(recording.path))

    recover()

    assert rows(store, recording)[0].path == recording.path
    assert store.count_recordings()[data.RecordingState.CAPTURED] == 1


def test_a_decided_deletion_is_ended(
    recover, store: SqliteStore, spool: Path, capture: Capture
) -> None:
    recording = capture()
    assert recording.path is not None
    recording.path.rename(files.deletion_mark(recording.path))

    recover()

    assert list(spool.iterdir()) == []
    assert store.count_recordings()[data.RecordingState.DELETED] == 1
    assert store.count_recordings()[data.RecordingState.LOST] == 0


def test_what_a_move_left_behind_is_removed(
    recover, store: SqliteStore, spool: Path, kept: Path
) -> None:
    recording = orphan(store, spool)
    assert recording.path is not None
    store.store_recording(recording)
    kept.mkdir()
    (kept / "a.wav").write_bytes(recording.path.read_bytes())
    store.update_recording_path(recording, kept / "a.wav")

    recover()

    assert list(spool.iterdir()) == []
    assert rows(store, recording)[0].path == kept / "a.wav"


def test_what_differs_from_the_kept_file_is_never_removed(
    recover, store: SqliteStore, spool: Path, kept: Path
) -> None:
    recording = orphan(store, spool)
    store.store_recording(recording)
    make_wav(kept / "a.wav", frequency=333)
    store.update_recording_path(recording, kept / "a.wav")

    recover()

    assert recording.path is not None
    assert recording.path.exists()
    assert (kept / "a.wav").exists()


def test_the_only_copy_is_not_removed_as_its_own_duplicate(
    recover, store: SqliteStore, spool: Path, tmp_path: Path
) -> None:
    recording = orphan(store, spool)
    store.store_recording(recording)
    (tmp_path / "link").symlink_to(spool)  # the same folder by another name
    store.update_recording_path(recording, tmp_path / "link" / "a.wav")

    recover()

    assert recording.path is not None
    assert recording.path.exists()


def test_a_kept_file_that_is_gone_is_replaced_by_what_is_there(
    recover, store: SqliteStore, spool: Path, kept: Path
) -> None:
    recording = orphan(store, spool)
    store.store_recording(recording)
    store.update_recording_path(recording, kept / "a.wav")

    recover()

    assert rows(store, recording)[0].path == recording.path


def test_a_file_of_a_deleted_recording_is_not_touched(
    recover, store: SqliteStore, spool: Path
) -> None:
    recording = orphan(store, spool)
    store.store_recording(recording)
    store.end_recording(recording, data.RecordingState.DELETED)

    recover()

    assert recording.path is not None
    assert recording.path.exists()


class Detection:
    def __init__(self, waiting: int = 0) -> None:
        self.sent: list[data.Recording] = []
        self.queued = waiting

    def resend(self, recording: data.Recording) -> None:
        self.sent.append(recording)

    def waiting(self) -> int:
        return self.queued

    @property
    def options(self) -> dict[str, Any]:
        return {
            "resend": self.resend,
            "waiting": self.waiting,
            "required_models": ["fake"],
        }


def test_recordings_that_nobody_works_on_are_sent_again_oldest_first(
    recover, capture: Capture
) -> None:
    recordings = [capture(minute) for minute in (2, 0, 1)]
    detection = Detection()

    recover(**detection.options)

    assert [r.id for r in detection.sent] == [recordings[n].id for n in (1, 2, 0)]


def test_nothing_is_sent_again_while_something_waits(recover, capture: Capture) -> None:
    capture()
    detection = Detection(waiting=1)

    recover(**detection.options)

    assert detection.sent == []


@pytest.mark.parametrize(
    ("state", "is_sent"),
    [
        (data.AnalysisState.RUNNING, False),
        (data.AnalysisState.RETRY, True),
        (data.AnalysisState.DONE, False),
        (data.AnalysisState.SKIPPED, False),
        (data.AnalysisState.FAILED, False),
    ],
)
def test_what_is_final_or_being_worked_on_is_not_sent_again(
    recover, store: SqliteStore, capture: Capture, state: data.AnalysisState, is_sent: bool
) -> None:
    analysis = store.begin_analysis(capture(), "fake")
    store.end_analysis(analysis.model_copy(update={"state": state}))
    detection = Detection()

    recover(**detection.options)

    assert bool(detection.sent) is is_sent


def test_whoever_runs_for_too_long_is_taken_for_dead(
    recover, store: SqliteStore, capture: Capture, clock: Clock
) -> None:
    recording = capture()
    clock.now = recording.created_on
    store.begin_analysis(recording, "fake")
    clock.advance(601)
    detection = Detection()

    recover(**detection.options)

    assert len(detection.sent) == 1


def test_a_recording_of_this_minute_is_not_sent_again(
    recover, capture: Capture, clock: Clock
) -> None:
    clock.now = capture().created_on + datetime.timedelta(seconds=30)
    detection = Detection()

    recover(**detection.options)

    assert detection.sent == []


def test_a_recording_of_the_future_does_not_wait_until_then(
    recover, capture: Capture, clock: Clock
) -> None:
    recording = capture()
    clock.now = recording.created_on - datetime.timedelta(days=365)  # it was set back since
    detection = Detection()

    recover(**detection.options)

    assert [r.id for r in detection.sent] == [recording.id]


def test_not_all_are_sent_at_once(recover, capture: Capture) -> None:
    for minute in range(5):
        capture(minute)
    detection = Detection()

    recover(**detection.options, max_resent=2)

    assert len(detection.sent) == 2


def test_without_a_model_nothing_is_sent_again(recover, capture: Capture) -> None:
    capture()
    detection = Detection()

    recover(resend=detection.resend)

    assert detection.sent == []


def test_a_step_that_fails_does_not_stop_the_others(
    recover, store: Faulty, capture: Capture
) -> None:
    capture()
    detection = Detection()

    with store.failing("get_recordings_info_by_path", OSError("Input/output error")):
        recover(**detection.options)

    assert len(detection.sent) == 1


@pytest.mark.parametrize("odd", [{"TE": "0", "Samplerate": "nan"}, {"Loc Position": "somewhere"}])
def test_odd_metadata_cost_neither_their_file_nor_the_others(
    recover, store: SqliteStore, spool: Path, odd: dict[str, str]
) -> None:
    first, second = orphan(store, spool, "a.wav"), orphan(store, spool, "b.wav")
    assert first.path is not None
    fields = formats.read_guano(first.path) | odd
    formats.add_guano(first.path, build_guano(fields))
    grow_old(first.path)

    recover()

    assert [len(rows(store, recording)) for recording in (first, second)] == [1, 1]


def test_a_file_that_fails_unexpectedly_does_not_stop_the_others(
    recover, store: Faulty, spool: Path
) -> None:
    first, second = orphan(store, spool, "a.wav"), orphan(store, spool, "b.wav")
    real = store.store_recording

    def fail(recording: data.Recording) -> None:
        if recording.path == first.path:
            raise OverflowError("Python int too large to convert to SQLite INTEGER")
        real(recording)

    with store.replaced("store_recording", fail):
        recover()

    assert [len(rows(store, recording)) for recording in (first, second)] == [0, 1]


def test_a_store_of_the_published_interface_is_asked_for_the_folder(
    spool: Path, capture: Capture, store: SqliteStore
) -> None:
    class Published:
        def __getattr__(self, name: str) -> Any:
            if name == "get_captured_recordings":
                raise AttributeError(name)
            return getattr(store, name)

    recording = capture()
    detection = Detection()

    generate_recovery_task(Published(), tmp_path=spool, **detection.options)()  # type: ignore[arg-type]

    assert [r.id for r in detection.sent] == [recording.id]


def test_what_is_no_file_is_left_alone_and_said_once(
    store: SqliteStore, spool: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "secrets.env"
    secret.write_text("token=secret")
    spool.mkdir(parents=True, exist_ok=True)
    (spool / "a.wav").symlink_to(secret)
    os.mkfifo(spool / "b.wav")
    os.mkfifo(spool / ".c.wav.part")
    (spool / ".d.wav.deleted").symlink_to(secret)
    recording = orphan(store, spool, "z.wav")

    task = generate_recovery_task(store, tmp_path=spool)
    task()
    task()

    for name, kind in (("a.wav", "a link"), ("b.wav", "a FIFO"), (".c.wav.part", "a FIFO")):
        assert caplog.text.count(f"{name} (it is {kind}, not a file)") == 1
    assert rows(store, recording)[0].path == recording.path, "the others get their turn"
    assert secret.read_text() == "token=secret"
