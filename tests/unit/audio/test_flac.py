"""FLAC files: whole, hidden or repaired."""

import errno
import io
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mutagen.flac
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio import flac
from acoupi.audio.flac import BLOCK, FlacWriter
from acoupi.audio.formats import (
    SoundWriter,
    add_guano,
    find_parts,
    open_writer,
    read_audio,
    read_guano,
    read_info,
    read_recording,
    salvage,
)
from acoupi.audio.guano import INCOMPLETE, build_guano, guano_of_recording
from acoupi.errors import AudioError, RecordingError
from tests.services import DEADLINE, require

RATE = 48_000


def noise(frames: int, channels: int = 1, bits: int = 16, seed: int = 1) -> Any:
    """Return samples as a stream has them: 32 bits wide if they have more than 16."""
    rng = np.random.default_rng(seed)
    if bits == 16:
        return rng.integers(-(2**15), 2**15, size=(frames, channels)).astype("=i2")
    return rng.integers(-(2**31), 2**31, size=(frames, channels)).astype("=i4")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "a.flac"


def describe(samplerate: int = RATE, channels: int = 1) -> str:
    recording = data.Recording(
        duration=1,
        samplerate=samplerate,
        audio_channels=channels,
        deployment=data.Deployment(name="Wood"),
    )
    return build_guano(guano_of_recording(recording))


def write(path: Path, samples: Any, samplerate: int = RATE, **options: Any) -> Path:
    wide = samples.dtype.itemsize
    options = {"bits": 16 if wide == 2 else 24, "sample_bytes": wide, **options}
    with open_writer(path, samplerate, samples.shape[1], **options) as writer:
        for block in np.array_split(samples, 5):
            writer.write(block.tobytes())
        return writer.finish()


def write_all(writer: SoundWriter, samples: Any) -> None:
    for block in np.array_split(samples, 50):
        writer.write(block.tobytes())


@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("bits", [16, 24])
@pytest.mark.parametrize("samplerate", [8_000, 44_101, 250_000, 384_000, flac.MAX_SAMPLERATE])
def test_every_sample_comes_back(path: Path, channels: int, bits: int, samplerate: int) -> None:
    samples = noise(3 * BLOCK + 17, channels, bits)

    write(path, samples, samplerate, guano=describe(samplerate, channels))

    read, rate = soundfile.read(path, dtype=f"int{8 * samples.dtype.itemsize}", always_2d=True)
    wanted = samples if bits == 16 else samples >> 8 << 8
    assert rate == samplerate
    assert np.array_equal(read, wanted)
    info = read_info(path)
    assert (info.frames, info.channels, info.bits) == (len(samples), channels, bits)
    ours, _ = read_audio(path, start=BLOCK - 3, frames=100)
    assert np.array_equal(
        ours, wanted[BLOCK - 3 :][:100] / np.float32(2 ** (8 * wanted.itemsize - 1))
    )


def test_wav_and_flac_of_one_sound_are_read_as_the_same(path: Path) -> None:
    samples = noise(20_000, 2, 24)

    one = read_audio(write(path, samples))
    other = read_audio(write(path.with_suffix(".wav"), samples))

    assert np.array_equal(one[0], other[0])


def test_there_is_no_file_before_it_is_finished(path: Path) -> None:
    with open_writer(path, RATE, 1) as writer:
        writer.write(noise(100).tobytes())
        assert find_parts(path.parent) == [writer.part]
        assert not path.exists()

    assert list(path.parent.iterdir()) == []


def test_metadata_is_in_the_file_before_the_first_sample(path: Path) -> None:
    with open_writer(path, RATE, 1, guano=describe()) as writer:
        there = writer.part.read_bytes()
        writer.leave()

    assert b"GUANO=GUANO|Version: 1.0\n" in there


def test_what_is_known_in_the_end_takes_the_place_of_what_was_known_before(path: Path) -> None:
    text = build_guano({"Note": "at the end", "Acoupi|Overruns": "100+3 " * 200})
    with open_writer(path, RATE, 1, guano=describe()) as writer:
        writer.write(noise(10_000).tobytes())
        writer.finish(text)

    assert read_guano(path)["Note"] == "at the end"
    assert len(soundfile.read(path)[0]) == 10_000


def test_other_programs_find_the_text(path: Path) -> None:
    write(path, noise(1000), guano="GUANO|Version: 1.0\nMake: acoupi\n")
    require("metaflac is not installed: apt-get install flac", shutil.which("metaflac") is not None)

    got = subprocess.run(
        ["metaflac", "--export-tags-to=-", path], capture_output=True, text=True, check=True
    )

    assert "Make: acoupi" in got.stdout


@pytest.mark.parametrize("length", [10, 100_000])
def test_metadata_is_added_to_others_files(path: Path, length: int) -> None:
    path.parent.mkdir()
    samples = noise(10_000, 2)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    text = build_guano({"Note": "x" * length})

    add_guano(path, text)
    add_guano(path, text)

    assert len(read_guano(path)["Note"]) == length
    assert np.array_equal(soundfile.read(path, dtype="int16")[0], samples)
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_without_room_for_the_copy_leaves_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    soundfile.write(path, noise(10_000), RATE, subtype="PCM_16")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(RecordingError, match="cannot write"):
        add_guano(path, build_guano({"Note": "x" * 100_000}))

    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before


def test_a_recording_is_made_again_from_its_file(path: Path) -> None:
    write(path, noise(RATE, 2), time_expansion=10, guano=describe(channels=2))

    assert read_info(path).samplerate == RATE // 10
    assert read_recording(path).duration == 1
    assert read_recording(path).samplerate == RATE


def interrupted(path: Path, samples: Any, **options: Any) -> Path:
    """Leave what a recorder that dies leaves: what libFLAC holds back is lost."""
    writer = open_writer(path, RATE, samples.shape[1], guano=describe(), **options)
    writer.write(samples.tobytes())
    writer.leave()
    return writer.part


def test_an_interrupted_recording_is_salvaged_to_the_last_whole_frame(path: Path) -> None:
    samples = noise(10 * BLOCK + 100)

    saved = salvage(interrupted(path, samples))

    assert saved == path
    read, _ = soundfile.read(path, dtype="int16", always_2d=True)
    assert len(samples) - 2 * BLOCK <= len(read) == read_info(path).frames
    assert np.array_equal(read, samples[: len(read)])
    assert read_guano(path)[INCOMPLETE]
    assert read_recording(path).duration == pytest.approx(len(read) / RATE)


@settings(max_examples=40)
@given(cut=st.integers(min_value=0, max_value=120_000), zeros=st.integers(0, 5000))
def test_a_recording_cut_anywhere_is_salvaged_or_removed(
    tmp_path_factory: pytest.TempPathFactory, cut: int, zeros: int
) -> None:
    path = tmp_path_factory.mktemp("spool") / "a.flac"
    samples = noise(12 * BLOCK)
    part = interrupted(path, samples)
    content = part.read_bytes()[:cut]
    part.write_bytes(content + bytes(zeros))

    saved = salvage(part)

    assert not part.exists()
    if saved is None:
        assert len(content) < 8192 + 2 * (BLOCK * 2 + 100)
        return
    read, _ = soundfile.read(saved, dtype="int16", always_2d=True)
    assert np.array_equal(read, samples[: len(read)])
    assert len(read) == read_info(saved).frames
    # All but one frame and what follows it: noise takes two bytes a sample.
    assert len(read) >= (len(content) - 8192) // (2 * BLOCK + 100) * BLOCK - BLOCK


def test_a_recording_with_a_gap_is_salvaged_up_to_it(path: Path) -> None:
    """After a power cut, blocks in the middle may never have been written."""
    samples = noise(20 * BLOCK)
    part = interrupted(path, samples)
    content = bytearray(part.read_bytes())
    gap = 8192 + 10 * 2 * BLOCK
    content[gap : gap + 4096] = bytes(4096)
    part.write_bytes(content)

    assert salvage(part) == path

    read, _ = read_audio(path)
    assert np.array_equal(read, samples[: len(read)] / np.float32(2**15))
    assert len(read) >= 8 * BLOCK


def test_a_process_that_is_killed_leaves_what_can_be_salvaged(path: Path) -> None:
    code = """
import os, sys, numpy as np
from pathlib import Path
from acoupi.audio.formats import open_writer
writer = open_writer(Path(sys.argv[1]), 384_000, 1, guano=sys.argv[2])
block = np.random.default_rng(1).integers(-9000, 9000, size=384_000).astype("=i2").tobytes()
for _ in range(4):
    writer.write(block)
os.kill(os.getpid(), 9)
"""
    subprocess.run(
        [sys.executable, "-c", code, path, describe(384_000)], check=False, timeout=DEADLINE
    )

    [part] = find_parts(path.parent)
    assert salvage(part) == path
    assert read_info(path).frames >= 4 * 384_000 - 2 * BLOCK
    assert len(read_audio(path)[0]) == read_info(path).frames


def test_a_file_that_was_cut_off_is_refused(path: Path) -> None:
    write(path, noise(10 * BLOCK))
    path.write_bytes(path.read_bytes()[:-1000])

    with pytest.raises(AudioError, match="cut off"):
        read_info(path)
    with pytest.raises(AudioError):
        read_audio(path)


@pytest.fixture
def limit_files() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow past so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda most: resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_costs_only_what_is_not_on_it(
    path: Path, limit_files: Callable[[int], None]
) -> None:
    samples = noise(20 * BLOCK)
    writer = open_writer(path, RATE, 1, guano=describe())
    limit_files(10 * BLOCK * 2)

    with pytest.raises(RecordingError, match="cannot write") as caught:
        write_all(writer, samples)

    assert caught.value.why == "File too large."
    kept = writer.frames
    with pytest.raises(RecordingError):  # It is over: nothing can follow.
        writer.write(samples[:100].tobytes())
    writer.finish(describe())
    read, _ = soundfile.read(path, dtype="int16", always_2d=True)
    assert len(read) == kept >= 8 * BLOCK
    assert np.array_equal(read, samples[:kept])


def test_what_a_crash_left_is_cut_behind_its_last_whole_frame(path: Path) -> None:
    """Other decoders go by the frames, not by the number of samples in the head."""
    samples = noise(10 * BLOCK)
    part = interrupted(path, samples)
    whole = part.read_bytes()
    part.write_bytes(whole[:-BLOCK])  # In the middle of its last frame.

    assert salvage(part) == path

    kept = read_info(path).frames
    shorter = path.with_name("b.flac")
    write(shorter, samples[:kept], guano=describe())
    assert path.read_bytes()[flac.HEAD_ROOM :] == shorter.read_bytes()[flac.HEAD_ROOM :]


def test_a_read_error_while_salvaging_takes_nothing_away(path: Path) -> None:
    part = interrupted(path, noise(10 * BLOCK))
    before = part.read_bytes()

    class Worn(io.FileIO):
        """A card with a page that cannot be read."""

        def read(self, size: int | None = -1) -> bytes:
            if self.tell() > 5 * BLOCK:
                raise OSError(errno.EIO, "Input/output error")
            return super().read(size)

    with Worn(part, "r+") as file, pytest.raises(OSError, match="Input/output"):
        flac.repair(file, part)

    assert part.read_bytes() == before


def test_what_other_programs_wrote_in_the_head_stays(path: Path) -> None:
    path.parent.mkdir()
    soundfile.write(path, noise(10_000), RATE, subtype="PCM_16")
    other = mutagen.flac.FLAC(path)
    other["TITLE"] = "Daubenton's bat"
    picture = mutagen.flac.Picture()
    picture.data = bytes(range(256))
    other.add_picture(picture)
    other.save()

    for length in (10, 100_000):  # In place, and in a copy.
        add_guano(path, build_guano({"Note": "x" * length}))

        found = mutagen.flac.FLAC(path)
        assert found["TITLE"] == ["Daubenton's bat"]
        assert found.pictures[0].data == picture.data
        assert len(read_guano(path)["Note"]) == length


def test_a_comment_that_fits_is_replaced_in_the_same_file(path: Path) -> None:
    write(path, noise(10_000), guano=describe())
    before = path.stat()
    sound = path.read_bytes()[flac.HEAD_ROOM :]

    add_guano(path, build_guano({"Note": "x" * 3000}))

    after = path.stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert path.read_bytes()[flac.HEAD_ROOM :] == sound


def test_what_libflac_cannot_encode_is_a_recording_error_and_leaves_nothing(path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot write"):
        write(path, noise(10_000), 192_001)

    assert list(path.parent.iterdir()) == []


def test_memory_does_not_grow_with_the_recording(path: Path) -> None:
    """A minute at 384 kHz and 8 channels would take 369 MB."""
    code = """
import resource, sys
from pathlib import Path
from acoupi.audio.formats import open_writer
import numpy as np
block = np.random.default_rng(1).integers(-99, 99, size=8 * 38_400).astype("=i2").tobytes()
with open_writer(Path(sys.argv[1]), 384_000, 8) as writer:
    writer.write(block)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(300):
        writer.write(block)
    writer.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120
    )
    assert int(done.stdout) < 10_000  # KB
    assert read_info(path).frames == 301 * 38_400


def test_noise_behind_a_header_never_crashes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    whole = write(tmp_path / "a.flac", noise(2 * BLOCK), guano=describe()).read_bytes()
    for number in range(200):
        content = bytearray(whole[: int(rng.integers(4, len(whole)))])
        for place in rng.integers(4, len(content), size=3):
            content[int(place)] = int(rng.integers(256))
        path = tmp_path / f".{number}.flac.part"
        path.write_bytes(content)
        try:
            salvage(path)
        except AudioError:
            continue


def test_the_writer_is_chosen_by_the_name(path: Path) -> None:
    with open_writer(path, RATE, 1) as writer:
        assert isinstance(writer, FlacWriter)


def test_a_comment_that_a_power_cut_could_tear_apart_is_written_in_a_copy(path: Path) -> None:
    write(path, noise(10_000), guano=describe())
    before = path.stat().st_ino

    add_guano(path, build_guano({"Note": "x" * 5000}))

    assert path.stat().st_ino != before
    assert len(read_guano(path)["Note"]) == 5000
    assert len(read_audio(path)[0]) == 10_000
    assert list(path.parent.iterdir()) == [path]


def test_a_wav_recording_needs_no_library_of_flac(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from acoupi.audio.formats import open_writer, read_recording, salvage
with open_writer(Path(sys.argv[1]), 48_000, 1, guano=sys.argv[2]) as writer:
    writer.write(bytes(96_000))
    read_recording(writer.finish())
print(*{"mutagen", "soundfile"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.wav", describe()],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == "\n"
