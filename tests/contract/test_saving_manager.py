"""What every saving manager does."""

from pathlib import Path

import pytest

from acoupi.components import DateFileManager, IDFileManager, SaveRecordingManager
from acoupi.components.types import RecordingSavingManager
from acoupi.testing import make_recording, make_wav

MANAGERS = [SaveRecordingManager, DateFileManager, IDFileManager]


@pytest.fixture(params=MANAGERS)
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> RecordingSavingManager:
    return request.param(tmp_path / "kept")


def test_making_one_makes_no_folder(manager: RecordingSavingManager, tmp_path: Path) -> None:
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_it_names_a_place_below_its_folder_and_makes_only_that(
    manager: RecordingSavingManager, tmp_path: Path, suffix: str
) -> None:
    recording = make_recording(path=make_wav((tmp_path / "spool" / "a").with_suffix(suffix)))

    place = manager.save_recording(recording, None)

    assert place is not None
    assert place.is_relative_to(tmp_path / "kept")
    assert place.suffix == suffix
    assert list(place.parent.iterdir()) == []  # published programs move the file themselves
    assert recording.path is not None
    assert recording.path.exists()


def test_the_same_recording_goes_to_the_same_place(
    manager: RecordingSavingManager, tmp_path: Path
) -> None:
    recording = make_recording(path=make_wav(tmp_path / "a.wav"))

    assert manager.save_recording(recording, None) == manager.save_recording(recording, None)


def test_a_recording_without_a_file_is_refused(manager: RecordingSavingManager) -> None:
    with pytest.raises(ValueError, match="no file"):
        manager.save_recording(make_recording(path=None))


@pytest.mark.parametrize("kind", [DateFileManager, IDFileManager])
def test_a_file_that_is_gone_is_said(kind: type, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        kind(tmp_path).save_recording(make_recording(path=tmp_path / "gone.wav"))
