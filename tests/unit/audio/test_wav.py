"""WAV files: whole, or hidden."""

import errno
import os
import struct
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio import riff
from acoupi.audio.formats import (
    add_guano,
    find_parts,
    read_audio,
    read_guano,
    read_info,
    read_recording,
    salvage,
)
from acoupi.audio.guano import INCOMPLETE, build_guano, guano_of_recording, parse_guano
from acoupi.audio.wav import WavWriter, expand_time
from acoupi.errors import AudioError, RecordingError

SOUND = (np.arange(1000) - 500).astype("<i2")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "a.wav"


@pytest.fixture
def recording() -> data.Recording:
    return data.Recording(
        duration=0.5,
        samplerate=1000,
        audio_channels=1,
        deployment=data.Deployment(name="Wood"),
    )


def write(path: Path, samples: Any = SOUND, samplerate: int = 1000, **settings: Any) -> Path:
    channels = 1 if samples.ndim == 1 else samples.shape[1]
    with WavWriter(path, samplerate, channels, **settings) as writer:
        writer.write(samples.tobytes())
        return writer.finish()


def write_plain(path: Path, samples: Any = SOUND, samplerate: int = 1000) -> Path:
    """Write a file as others do: without metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(samplerate)
        file.writeframes(samples.tobytes())
    return path


def pcm_of(path: Path) -> Any:
    samples, _ = read_audio(path)
    return np.rint(samples * 32768).astype(int)[:, 0]


# -- writing -------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 2, 8])
def test_other_programs_read_what_was_written(path: Path, channels: int) -> None:
    samples = np.arange(40 * channels, dtype="<i2").reshape(-1, channels)

    write(path, samples, 48_000, guano="Note: hello\n")

    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getframerate(), file.getnframes()) == (
            channels, 48_000, 40,
        )  # fmt: skip
        assert file.readframes(40) == samples.tobytes()
    assert np.array_equal(soundfile.read(path, dtype="int16", always_2d=True)[0], samples)


def test_there_is_no_file_before_it_is_finished(path: Path) -> None:
    writer = WavWriter(path, 1000, 1)
    writer.write(SOUND.tobytes())

    assert not path.exists()
    assert [part.name for part in find_parts(path.parent)] == [".a.wav.part"]

    writer.finish()

    assert path.exists()
    assert find_parts(path.parent) == []


def test_what_is_not_finished_is_removed(path: Path) -> None:
    with WavWriter(path, 1000, 1) as writer:
        writer.write(SOUND.tobytes())

    assert list(path.parent.iterdir()) == []


def test_a_file_is_never_overwritten(path: Path) -> None:
    write(path)
    writer = WavWriter(path, 1000, 1)
    writer.write(SOUND[:10].tobytes())

    with pytest.raises(AudioError, match="will not overwrite"):
        writer.finish()

    writer.leave()
    assert read_info(path).frames == len(SOUND)
    assert len(find_parts(path.parent)) == 1


def test_two_writers_of_one_name_do_not_meet(path: Path) -> None:
    with WavWriter(path, 1000, 1), pytest.raises(AudioError, match="will not overwrite"):
        WavWriter(path, 1000, 1)


def test_it_can_get_another_name_in_the_end(path: Path) -> None:
    writer = WavWriter(path, 1000, 1)
    writer.write(SOUND.tobytes())

    final = writer.finish(path=path.with_name("b.wav"))

    assert [file.name for file in path.parent.iterdir()] == ["b.wav"]
    assert final.name == "b.wav"


def test_names_are_given_where_there_are_no_links(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)

    write(path)

    assert read_info(path).frames == len(SOUND)
    assert find_parts(path.parent) == []
    with pytest.raises(AudioError, match="will not overwrite"):
        write(path)


def test_time_expansion_is_in_the_header_only(path: Path) -> None:
    write(path, samplerate=384_000, time_expansion=10)

    assert read_info(path).samplerate == 38_400
    assert np.array_equal(pcm_of(path), SOUND)


def test_metadata_longer_than_the_room_for_it_goes_to_the_end(path: Path) -> None:
    writer = WavWriter(path, 1000, 1, guano="Note: short\n")
    writer.write(SOUND.tobytes())

    writer.finish(build_guano({"Note": "x" * 9001}))

    assert read_guano(path)["Note"] == "x" * 9001
    assert np.array_equal(pcm_of(path), SOUND)
    with wave.open(str(path)) as file:
        assert file.getnframes() == len(SOUND)


class FullDisk:
    """A file on a disk that is full after so many bytes."""

    def __init__(self, file: Any, room: int, error: int = errno.ENOSPC) -> None:
        self._file = file
        self._room = room
        self._error = error

    def write(self, content: memoryview) -> int:
        count = min(len(content), self._room)
        if not count:
            raise OSError(self._error, os.strerror(self._error))
        self._room -= count
        return self._file.write(content[:count])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errno.ENOSPC, "No space left"),
        (errno.EROFS, "Read-only"),
        (errno.EACCES, "Permission denied"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_refuses_is_a_recording_error(path: Path, error: int, words: str) -> None:
    writer = WavWriter(path, 1000, 1)
    writer._file = FullDisk(writer._file, 101, error)  # type: ignore[assignment]

    with pytest.raises(RecordingError) as caught:
        writer.write(SOUND.tobytes())

    assert writer.frames == 50
    assert words in str(caught.value.why)
    assert len(caught.value.lines()) == 3
    writer.discard()
    assert list(path.parent.iterdir()) == []


def test_after_a_refusal_it_goes_on_with_whole_frames(path: Path) -> None:
    writer = WavWriter(path, 1000, 1)
    file = writer._file
    writer._file = FullDisk(file, 101)  # type: ignore[assignment]
    with pytest.raises(RecordingError):
        writer.write(SOUND.tobytes())
    writer._file = file

    writer.write(SOUND[50:].tobytes())
    writer.finish()

    assert np.array_equal(pcm_of(path), SOUND)


def test_a_folder_that_cannot_be_made_is_a_recording_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(RecordingError, match="cannot write"):
        WavWriter(tmp_path / "file" / "a.wav", 1000, 1)


# -- reading -------------------------------------------------------------


@pytest.mark.parametrize(
    ("subtype", "tolerance"),
    [("PCM_U8", 2e-2), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("PCM_32", 1e-7), ("FLOAT", 1e-7),
     ("DOUBLE", 1e-7)],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["WAV", "WAVEX"])
def test_every_common_sample_format_is_read(
    tmp_path: Path, subtype: str, tolerance: float, kind: str
) -> None:
    sound = np.sin(np.arange(200).reshape(-1, 2) / 7) * 0.9
    soundfile.write(tmp_path / "a.wav", sound, 8000, subtype=subtype, format=kind)

    samples, samplerate = read_audio(tmp_path / "a.wav")

    assert samplerate == 8000
    assert samples.dtype == np.float32
    assert np.abs(samples - sound).max() < tolerance


def test_flac_is_read_too(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", SOUND, 8000)

    samples, samplerate = read_audio(tmp_path / "a.flac", start=10, frames=5)

    assert samplerate == 8000
    assert samples[:, 0].tolist() == (SOUND[10:15] / 32768).tolist()


@given(start=st.integers(0, 1100), frames=st.none() | st.integers(0, 1100))
def test_a_stretch_is_what_the_whole_has_there(
    start: int, frames: int | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("x") / "a.wav"
    write(path)

    samples, _ = read_audio(path, start=start, frames=frames)

    end = None if frames is None else start + frames
    assert samples[:, 0].tolist() == (SOUND[start:end] / 32768).tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"not a sound file at all",
        b"RIFF\0\0\0\0WAVE",
        b"RIFF\0\0\0\0WAVEfmt \x04\0\0\0abcd",
    ],
)
def test_what_is_not_a_wav_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)

    for read in (read_info, read_guano, read_audio, read_recording):
        with pytest.raises(AudioError) as caught:
            read(path)
        assert len(caught.value.lines()) == 3


@given(content=st.binary(max_size=200))
def test_noise_behind_a_wav_header_never_crashes(
    content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("x") / "a.wav"
    path.write_bytes(b"RIFF\xff\xff\xff\xffWAVE" + content)

    with pytest.raises(AudioError):
        read_info(path)


def test_a_large_file_cut_off_in_its_sizes_is_an_audio_error(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"RF64\xff\xff\xff\xffWAVEds64\x1c\0\0\0" + bytes(10))

    with pytest.raises(AudioError, match="not a WAV file"):
        read_info(path)


def test_a_missing_file_is_an_audio_error(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot open"):
        read_audio(tmp_path / "a.wav")


def test_a_file_that_was_cut_off_is_refused(path: Path) -> None:
    write(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 200)

    with pytest.raises(AudioError, match="is cut off") as caught:
        read_audio(path)

    assert "1.000 s" in str(caught.value.why)
    assert "0.900 s" in str(caught.value.why)


# -- metadata ------------------------------------------------------------


def test_metadata_is_added_to_others_files(path: Path) -> None:
    write_plain(path)

    add_guano(path, "Note: hello\n")

    assert read_guano(path) == {"Note": "hello"}
    assert np.array_equal(pcm_of(path), SOUND)
    with wave.open(str(path)) as file:
        assert file.getnframes() == len(SOUND)


def test_metadata_added_again_changes_nothing(path: Path) -> None:
    write_plain(path)
    add_guano(path, "Note: hello\n")
    before = path.read_bytes()

    add_guano(path, "Note: hello\n")

    assert path.read_bytes() == before


def test_metadata_is_replaced_where_it_is(path: Path) -> None:
    write(path, guano="Note: one\n")
    size = path.stat().st_size

    add_guano(path, "Note: two\n")

    assert read_guano(path) == {"Note": "two"}
    assert path.stat().st_size == size


@given(lengths=st.lists(st.integers(0, 3000), max_size=6))
def test_any_number_of_changes_leaves_one_text_and_the_sound(
    lengths: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write_plain(tmp_path_factory.mktemp("x") / "a.wav")

    for length in lengths:
        add_guano(path, f"Note: {'x' * length}\n")
        assert read_guano(path) == {"Note": "x" * length}

    assert np.array_equal(pcm_of(path), SOUND)
    size = path.stat().st_size
    assert struct.unpack("<I", path.read_bytes()[4:8]) == (size - 8,)


def test_no_copy_is_made_of_a_file_that_gets_metadata(path: Path) -> None:
    write_plain(path)
    inode = path.stat().st_ino

    add_guano(path, "Note: hello\n")

    assert path.stat().st_ino == inode
    assert list(path.parent.iterdir()) == [path]


def test_metadata_is_not_added_to_what_is_not_a_wav_file(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_text("no")

    with pytest.raises(AudioError, match="not a WAV file"):
        add_guano(path, "Note: hello\n")

    assert path.read_text() == "no"


def test_the_rate_of_a_file_can_be_expanded(path: Path) -> None:
    write_plain(path, samplerate=384_000)

    expand_time(path, 384_000, 10)

    assert read_info(path).samplerate == 38_400
    assert np.array_equal(pcm_of(path), SOUND)


def test_time_expansion_refuses_what_is_not_a_wav_file(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_text("no")

    with pytest.raises(AudioError):
        expand_time(tmp_path / "a.wav", 1000, 10)


# -- what a crash leaves -------------------------------------------------


def interrupted(path: Path, recording: data.Recording, samples: Any = SOUND) -> Path:
    """Leave a file as a process that was killed leaves it."""
    fields = guano_of_recording(recording)
    del fields["Length"]
    writer = WavWriter(path, recording.samplerate, 1, guano=build_guano(fields))
    writer.write(samples.tobytes())
    writer.leave()
    return writer.part


def test_an_interrupted_recording_is_salvaged(path: Path, recording: data.Recording) -> None:
    part = interrupted(path, recording)

    saved = salvage(part)

    assert saved == path
    assert not part.exists()
    assert np.array_equal(pcm_of(path), SOUND)
    fields = read_guano(path)
    assert fields["Length"] == "1.0"
    assert INCOMPLETE in fields


def test_a_salvaged_recording_knows_whose_it_is(path: Path, recording: data.Recording) -> None:
    salvage(interrupted(path, recording))

    again = read_recording(path)

    assert again == recording.model_copy(update={"duration": 1.0, "path": path})


def test_half_a_frame_at_the_end_is_dropped(path: Path, recording: data.Recording) -> None:
    part = interrupted(path, recording)
    with part.open("ab") as file:
        file.write(b"x")

    salvage(part)

    assert np.array_equal(pcm_of(path), SOUND)


def test_what_is_still_being_written_is_left_alone(path: Path) -> None:
    with WavWriter(path, 1000, 1) as writer:
        writer.write(SOUND.tobytes())

        assert salvage(writer.part) is None
        assert writer.part.exists()


def test_what_holds_no_sound_is_removed(path: Path, recording: data.Recording) -> None:
    empty = interrupted(path, recording, SOUND[:0])
    nothing = path.with_name(".b.wav.part")
    nothing.touch()
    zeros = path.with_name(".c.wav.part")
    zeros.write_bytes(bytes(8192))

    assert [salvage(part) for part in (empty, nothing, zeros)] == [None, None, None]
    assert list(path.parent.iterdir()) == []


def test_somebody_elses_hidden_file_is_not_removed(tmp_path: Path) -> None:
    part = tmp_path / ".movie.part"
    part.write_text("half a movie")

    with pytest.raises(AudioError, match="not a WAV file"):
        salvage(part)

    assert part.exists()


def test_a_crash_between_the_two_names_is_mended(path: Path) -> None:
    write(path)
    part = path.with_name(f".{path.name}.part")
    os.link(path, part)

    assert salvage(part) == path
    assert not part.exists()
    assert np.array_equal(pcm_of(path), SOUND)


def test_salvaging_never_overwrites(path: Path, recording: data.Recording) -> None:
    write(path, SOUND[:10])
    part = interrupted(path, recording)

    with pytest.raises(AudioError, match="will not overwrite"):
        salvage(part)

    assert read_info(path).frames == 10
    assert part.exists()


def test_what_vanished_meanwhile_is_nothing(path: Path) -> None:
    assert salvage(path.with_name(".gone.wav.part")) is None


def test_what_another_recorder_left_in_its_folder_is_salvaged(
    path: Path, recording: data.Recording
) -> None:
    part = path.with_name(f".{path.name}.part")
    part.mkdir(parents=True)
    write_plain(part / path.name)
    (part / "guano.txt").write_text(build_guano(guano_of_recording(recording)))

    assert salvage(part) == path
    assert not part.exists()
    assert read_recording(path).id == recording.id


def test_no_sound_of_another_recorder_is_lost(path: Path, recording: data.Recording) -> None:
    part = path.with_name(f".{path.name}.part")
    part.mkdir(parents=True)
    for name in ("a.wav", "b.wav", "c.wav"):
        write_plain(part / name)
    (part / "guano.txt").write_text(build_guano(guano_of_recording(recording)))

    assert salvage(part) == path
    assert not part.exists()
    names = {path.name, f"{path.stem}_2.wav", f"{path.stem}_3.wav"}
    assert {one.name for one in path.parent.iterdir()} == names
    assert read_recording(path).id == recording.id


def test_an_empty_folder_of_another_recorder_is_removed(path: Path) -> None:
    part = path.with_name(f".{path.name}.part")
    part.mkdir(parents=True)

    assert salvage(part) is None
    assert not part.exists()


@given(length=st.integers(0, 6096))
def test_a_recording_cut_anywhere_is_salvaged_or_removed(
    length: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("x") / "a.wav"
    recording = data.Recording(duration=1, samplerate=1000, deployment=data.Deployment(name="Wood"))
    part = interrupted(path, recording)
    with part.open("r+b") as file:
        file.truncate(length)

    saved = salvage(part)

    if saved is None:
        assert length <= 4097
        assert not part.exists()
    else:
        assert pcm_of(saved).tolist() == SOUND[: read_info(saved).frames].tolist()


def test_the_header_takes_one_block_with_room_to_spare() -> None:
    header = riff.pack_header(48_000, 1, "Note: hello\n")

    assert len(header) == 4096
    assert parse_guano(header[44:-8]) == {"Note": "hello"}
