"""Files that a hub is to get go only once it has them, or where nothing else can make room."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from acoupi import data
from acoupi.components import IDFileManager, SqliteStore
from acoupi.components.stores.unreported import Unreported
from acoupi.components.stores.unsent import UnsentSound
from acoupi.components.types import RecordingSavingFilter
from acoupi.space import FileClass, HubAudio, SpacePolicy
from acoupi.tasks import generate_file_management_task
from acoupi.tasks.space import Room, generate_space_task
from tests.stores import recording

BLOCK = 4096
Capture = Callable[..., data.Recording]


class Nothing(RecordingSavingFilter):
    def should_save_recording(self, recording: Any, model_outputs: Any = None) -> bool:
        return False


class Owing:
    """A store whose sound a hub is to get."""

    def __init__(self, path: Path) -> None:
        self.store = SqliteStore(path)
        self.unreported, self.unsent = Unreported(path), UnsentSound(path)
        self.unreported.start("hub")
        self.follow("all")

    def follow(self, audio: HubAudio) -> None:
        self.unsent.start("hub", audio)
        self.store.hub_audio = audio

    def acknowledge(self, *wanted: data.Recording) -> None:
        """Let the hub have what it was told of, and some sound."""
        self.unreported.acknowledge(self.unreported.next(1000))
        left = {one.id for one in wanted}
        while left:
            sound = self.unsent.next()
            assert sound is not None
            if sound.id in left:
                self.unsent.acknowledge(sound)
                left.remove(sound.id)
            else:
                self.unsent.postpone(sound)


@pytest.fixture
def owing(tmp_path: Path) -> Iterator[Owing]:
    owing = Owing(tmp_path / "metadata.db")
    with closing(owing.store), closing(owing.unsent), closing(owing.unreported):
        yield owing


# The disk


class Disk:
    """A disk for ten files of one block each."""

    def __init__(self, folder: Path, owing: Owing, **policy: Any) -> None:
        self.kept, self.owing = folder / "kept", owing
        self.kept.mkdir()
        self.policy = SpacePolicy(
            home=folder,
            spool=self.kept,
            recordings=self.kept,
            rate=0,
            **{"reserve": 0, "high": 0.9, "low": 0.8, **policy},
            order=(FileClass.UNREMARKABLE,),
        )
        self.task = generate_space_task(owing.store, self.policy, sizes=self.sizes)

    def sizes(self, _: Path) -> tuple[int, int]:
        return BLOCK * (10 - sum(1 for _ in self.kept.iterdir())), 10 * BLOCK

    def keep(self, number: int) -> data.Recording:
        sound = recording(None, number * 60)
        self.owing.store.store_recording(sound)
        path = self.kept / f"{number}.wav"
        path.write_bytes(b"\1" * BLOCK)
        return self.owing.store.update_recording_path(sound, path)

    @property
    def numbers(self) -> list[int]:
        return sorted(int(path.stem) for path in self.kept.iterdir())


def test_what_the_hub_has_goes_first_then_the_rest_with_the_reason(
    tmp_path: Path, owing: Owing
) -> None:
    disk = Disk(tmp_path, owing)
    sounds = [disk.keep(number) for number in range(10)]
    owing.acknowledge(sounds[4], sounds[7])

    disk.task()
    assert disk.numbers == [0, 1, 2, 3, 5, 6, 8, 9]
    assert "hub" not in (owing.store.why_given_up(sounds[4].id) or ("", ""))[1]
    for number in (10, 11):
        disk.keep(number)
    disk.task()

    assert disk.numbers == [2, 3, 5, 6, 8, 9, 10, 11]
    told = owing.store.why_given_up(sounds[0].id)
    assert told is not None
    assert told[1].endswith("the hub had not got them, and nothing else might go")


def test_a_quota_takes_nothing_that_the_hub_has_not_got(tmp_path: Path, owing: Owing) -> None:
    disk = Disk(tmp_path, owing, quotas={FileClass.UNREMARKABLE: 0.1})
    sounds = [disk.keep(number) for number in range(4)]
    owing.acknowledge(sounds[2])

    disk.task()

    assert disk.numbers == [0, 1, 3]


def test_what_is_owed_of_a_class_is_counted(tmp_path: Path, owing: Owing) -> None:
    disk = Disk(tmp_path, owing)
    sounds = [disk.keep(number) for number in range(4)]
    owing.acknowledge(sounds[2])
    room = Room(owing.store, disk.policy, sizes=disk.sizes)

    assert room.used(FileClass.UNREMARKABLE, lambda _: True) == (4, 4 * BLOCK)
    assert room.used(FileClass.UNREMARKABLE, lambda _: True, owed=True) == (3, 3 * BLOCK)


def test_without_a_hub_nothing_is_owed(tmp_path: Path, owing: Owing) -> None:
    disk = Disk(tmp_path, owing)
    for number in range(10):
        disk.keep(number)
    owing.store.hub_audio = "none"

    disk.task()

    assert disk.numbers == list(range(2, 10))
    assert [one.kind for one in Room(owing.store, disk.policy).going(
        [FileClass.UNREMARKABLE], lambda _: True, owed=True
    )] == []  # fmt: skip


# What the filters refuse


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def manage(owing: Owing, kept: Path, spool: Path) -> Callable[[], None]:
    return generate_file_management_task(
        owing.store, [IDFileManager(kept)], file_filters=[Nothing()], tmp_path=spool
    )


def heard(owing: Owing, sound: data.Recording) -> data.Recording:
    owing.store.store_recording(sound)
    owing.store.store_model_output(
        data.ModelOutput(name_model="bats", recording=sound, detections=[])
    )
    return sound


def path_of(owing: Owing, sound: data.Recording) -> Path | None:
    ((row, _),) = owing.store.get_recordings([sound.id])
    return row.path


def test_what_no_filter_wants_is_kept_until_the_hub_has_it(
    owing: Owing, capture: Capture, manage: Callable[[], None], kept: Path
) -> None:
    sound = heard(owing, capture())
    for _ in range(2):
        manage()
        place = path_of(owing, sound)
        assert place is not None
        assert place.is_relative_to(kept)
        assert place.exists()

    owing.acknowledge(sound)
    manage()

    assert path_of(owing, sound) is None
    assert not place.exists()
    assert owing.store.count_recordings()[data.RecordingState.DELETED] == 1


def test_what_a_person_protects_stays_when_the_hub_has_it(
    owing: Owing, capture: Capture, manage: Callable[[], None]
) -> None:
    sound = heard(owing, capture())
    manage()
    owing.store.protect([sound.id])
    owing.acknowledge(sound)

    manage()

    assert path_of(owing, sound) is not None


def test_when_the_hub_is_given_up_what_was_kept_for_it_goes(
    owing: Owing, capture: Capture, manage: Callable[[], None]
) -> None:
    sound = heard(owing, capture())
    manage()
    owing.store.hub_audio = "none"

    manage()

    assert path_of(owing, sound) is None


@pytest.mark.parametrize("audio", ["detections", "sample", "none"])
def test_what_no_filter_wants_goes_at_once_by_other_policies(
    owing: Owing, capture: Capture, manage: Callable[[], None], audio: HubAudio
) -> None:
    owing.follow(audio)
    sound = heard(owing, capture())

    manage()

    assert path_of(owing, sound) is None


def test_where_there_is_no_room_what_no_filter_wants_goes(
    owing: Owing,
    capture: Capture,
    manage: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    full = SimpleNamespace(f_bavail=1000, f_frsize=1, f_blocks=10**9)
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    sound = heard(owing, capture())

    manage()

    assert path_of(owing, sound) is None
    assert "The hub does not have" in caplog.text
