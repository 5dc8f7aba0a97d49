"""WAV files past 4 GiB."""

from pathlib import Path

import numpy as np

from acoupi.audio.formats import add_guano, read_audio, read_guano, read_info
from acoupi.audio.wav import WavWriter


def test_a_file_past_4_gib_is_rf64_and_read_back(tmp_path: Path) -> None:
    frames = 0x1_0000_0000 // 6 + 1000
    text = "GUANO|Version: 1.0\nNote: long\n"
    with WavWriter(
        tmp_path / "a.wav", 384_000, 2, bits=24, sample_bytes=4, frames=frames
    ) as writer:
        last = np.array([[2**30, -(2**30)]], dtype="=i4").tobytes()
        # Sparse: as if all but the last frame had been written.
        writer._file.truncate(writer._header_bytes + (frames - 1) * 6)
        writer.frames = frames - 1
        writer.write(last)
        path = writer.finish(text)

    with path.open("rb") as file:
        assert file.read(4) == b"RF64"
    info = read_info(path)
    assert (info.frames, info.bits, info.channels) == (frames, 24, 2)
    assert read_guano(path)["Note"] == "long"
    samples, _ = read_audio(path, start=frames - 2)
    assert samples.tolist() == [[0, 0], [0.5, -0.5]]


def test_a_file_past_4_gib_takes_more_metadata(tmp_path: Path) -> None:
    frames = 0x1_0000_0000 // 2
    with WavWriter(tmp_path / "a.wav", 384_000, 1, frames=frames) as writer:
        writer._file.truncate(writer._header_bytes + frames * 2)
        writer.frames = frames
        path = writer.finish("GUANO|Version: 1.0\n")

    add_guano(path, "GUANO|Version: 1.0\nNote: " + "x" * 10_000 + "\n")

    assert len(read_guano(path)["Note"]) == 10_000
    assert read_info(path).frames == frames


def test_an_ordinary_file_has_no_room_for_sizes_it_does_not_need(tmp_path: Path) -> None:
    with WavWriter(tmp_path / "a.wav", 48_000, 1, frames=1000) as writer:
        writer.write(bytes(2000))
        path = writer.finish()

    assert path.read_bytes()[12:16] == b"fmt "
