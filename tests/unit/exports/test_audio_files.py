"""Sound files in an export, and the place in their metadata, as guano reads it."""

import wave
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import guano
import numpy as np
import pytest

from acoupi.audio import formats
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.components.stores import SqliteStore
from acoupi.components.stores.reader import SqliteReader
from acoupi.errors import AudioError, HubUnavailableError
from acoupi.exports import packages
from acoupi.exports.audio_files import MISSING
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.tables import Csv
from acoupi.heard import Filters, RecordingRow
from tests.stores import at, deployment, recording
from tests.unit.exports.heard import exported
from tests.unit.exports.test_formats import rows_of

RATE = 48_000
OAK = deployment(name="Old oak", latitude=51.50741, longitude=-0.12785, ended_on=at(60))


def record(store: SqliteStore, path: Path, number: int) -> bytes:
    """Store a recording of noise with its metadata; return the bytes of its sound."""
    sound = recording(None, 10 * number, deployment=OAK, id=UUID(int=number + 1), path=path,
                      duration=1, samplerate=RATE)  # fmt: skip
    samples = np.random.default_rng(number).integers(-99, 99, RATE, "<i2").tobytes()
    path.parent.mkdir(exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples)
    formats.add_guano(path, build_guano(guano_of_recording(sound)))
    store.store_recording(sound)
    return samples


@pytest.mark.parametrize(
    ("precision", "place"), [(None, (51.50741, -0.12785)), (0.1, (51.5, -0.1))]
)
def test_a_copy_is_as_exact_as_the_rest(
    tmp_path: Path, precision: float | None, place: tuple[float, float]
) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    samples = record(store, tmp_path / "sound" / "one two.wav", 0)
    store.close()

    exported(
        tmp_path / "metadata.db", CamtrapDp(), tmp_path / "out", precision=precision, audio=True
    )

    (medium,) = rows_of(tmp_path / "out" / "media.csv")
    copy = tmp_path / "out" / medium["filePath"]
    read = guano.GuanoFile(str(copy))
    assert read["Loc Position"] == place
    assert read["Acoupi|Recording ID"] == str(UUID(int=1))
    with wave.open(str(copy)) as file:
        assert file.readframes(RATE) == samples
    original = guano.GuanoFile(str(tmp_path / "sound" / "one two.wav"))
    assert original["Loc Position"] == (51.50741, -0.12785)
    assert not (tmp_path / "out" / MISSING).exists()


def test_files_that_are_gone_are_listed(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    record(store, tmp_path / "sound" / "a.wav", 0)
    record(store, tmp_path / "sound" / "b.wav", 1)
    store.close()
    (tmp_path / "sound" / "a.wav").unlink()

    exported(tmp_path / "metadata.db", Csv(), tmp_path / "out", audio=True)

    assert [one.name for one in (tmp_path / "out" / "audio").iterdir()] == ["b.wav"]
    (row,) = rows_of(tmp_path / "out" / MISSING)
    assert row == {
        "recording_id": str(UUID(int=1)), "file_path": str(tmp_path / "sound" / "a.wav"),
        "why": "there is no file",
    }  # fmt: skip


def copied_from(hub: Callable[[int], None], folder: Path) -> tuple[list[str], list[str]]:
    """Export six recordings whose files a hub has; return those that came, and why others did not.

    It is asked for each file by its number, once or more.
    """
    store = SqliteStore(folder / "metadata.db")
    for number in range(6):
        record(store, folder / "sound" / f"{number}.wav", number)
    store.close()

    def with_file(row: RecordingRow) -> RecordingRow:
        hub(row.id.int - 1)
        return row

    with SqliteReader(folder / "metadata.db") as reader:
        packages.export(Csv(), reader, Filters(), folder / "out", audio=with_file)
    missing = folder / "out" / MISSING
    whys = [row["why"] for row in rows_of(missing)] if missing.exists() else []
    return sorted(one.name for one in (folder / "out" / "audio").iterdir()), whys


def busy(seconds: float | None) -> HubUnavailableError:
    error = HubUnavailableError("the hub refused: HTTP 503.")
    error.retry_after = seconds
    return error


def test_a_hub_that_is_away_for_a_while_is_asked_again(tmp_path: Path) -> None:
    asked: list[int] = []

    def hub(number: int) -> None:
        asked.append(number)
        if asked.count(number) < 3:
            raise busy(0)

    came, missing = copied_from(hub, tmp_path)

    assert len(came) == 6
    assert missing == []
    assert len(asked) == 18


def test_what_a_hub_does_not_give_is_listed_and_the_rest_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acoupi.exports.audio_files.PATIENCE", 2.0)
    asked: list[int] = []

    def hub(number: int) -> None:
        asked.append(number)
        if number != 1:
            raise busy(3600)

    came, missing = copied_from(hub, tmp_path)

    assert came == ["1.wav"]
    assert missing == ["the hub refused: HTTP 503."] * 5
    assert asked == [0, 1, 2, 3, 4]  # three in a row: 5 is not asked for


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "metadata.db")
    record(store, tmp_path / "1" / "a.wav", 0)
    record(store, tmp_path / "2" / "a.wav", 1)
    store.close()

    with pytest.raises(AudioError, match=r"two recordings with the name \"a\.wav\""):
        exported(tmp_path / "metadata.db", Csv(), tmp_path / "out", audio=True)
    assert not (tmp_path / "out").exists()
