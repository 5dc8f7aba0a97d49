"""What a power cut leaves of a file whose length was on the disk before its samples."""

import os
from pathlib import Path

import pytest
import soundfile

from acoupi.audio.counter import count_frames
from acoupi.audio.formats import FORMATS, SoundFormat, salvage

RATE = 8000
BLOCK = 4096


def begun(path: Path, kind: SoundFormat, frames: int, *, is_complete: bool = False) -> Path:
    """Begin a file; return what it has for a name until it is finished."""
    writer = kind.open_writer(path, RATE, 1)
    writer.write(count_frames(1, frames).tobytes())
    if is_complete:
        writer._complete(None)
    writer.leave()
    return writer.part


def is_count(path: Path) -> int:
    """Return how many frames there are; all of them follow each other."""
    samples = soundfile.read(path, dtype="int16")[0]
    assert samples.tobytes() == count_frames(1, len(samples)).tobytes()
    return len(samples)


@pytest.mark.parametrize("is_complete", [False, True])
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.NAME)
def test_a_file_ends_where_the_disk_holds_nothing_of_it(
    tmp_path: Path, kind: SoundFormat, is_complete: bool
) -> None:
    part = begun(tmp_path / f"a.{kind.NAME}", kind, 20 * RATE, is_complete=is_complete)
    size = part.stat().st_size
    kept = size // BLOCK // 2 * BLOCK
    rest = part.read_bytes()[kept:]
    os.truncate(part, kept)
    with part.open("r+b") as file:
        os.posix_fallocate(file.fileno(), kept, len(rest))
        os.fsync(file.fileno())
    assert part.read_bytes()[kept:] == bytes(len(rest))

    saved = salvage(part)

    assert saved is not None
    assert 0.2 < is_count(saved) / (20 * RATE) < 0.8


@pytest.mark.parametrize("is_complete", [False, True])
def test_a_block_that_was_written_in_part_ends_with_its_last_sample(
    tmp_path: Path, is_complete: bool
) -> None:
    kind = FORMATS[0]
    part = begun(tmp_path / "a.wav", kind, RATE, is_complete=is_complete)
    size = part.stat().st_size
    at = size // BLOCK * BLOCK + 100
    with part.open("r+b") as file:
        file.seek(at)
        file.write(bytes(size - at))

    saved = salvage(part)

    assert saved is not None
    assert is_count(saved) == RATE - (size - at) // 2


def test_silence_stays(tmp_path: Path) -> None:
    writer = FORMATS[0].open_writer(tmp_path / "a.wav", RATE, 1)
    writer.write(bytes(2 * RATE))
    writer.leave()

    saved = salvage(writer.part)

    assert saved is not None
    assert soundfile.info(saved).frames == RATE
