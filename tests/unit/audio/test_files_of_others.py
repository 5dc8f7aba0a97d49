"""Sound files as recorders and programs in the field write them."""

import datetime
import os
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from acoupi.audio import riff
from acoupi.audio.foreign import describe_file, in_zone, read_described
from acoupi.audio.formats import add_guano, read_audio, read_guano, read_info, read_recording
from acoupi.audio.guano import build_guano
from acoupi.errors import AudioError

RATE, FRAMES = 48_000, 20_000
SOUND = 0.3 * np.random.default_rng(7).uniform(-1, 1, FRAMES)
NOT_KNOWN = 0xFFFF_FFFF


def integers(bits: int, sound: Any = SOUND) -> Any:
    return np.rint(sound * 2 ** (bits - 1)).astype("<i4" if bits > 16 else "<i2")


def chunk(name: bytes, content: bytes, size: int | None = None) -> bytes:
    length = len(content) if size is None else size
    return name + struct.pack("<I", length) + content + bytes(len(content) % 2)


def fmt(bits: int = 16, block: int = 2, encoding: int = 1, extra: bytes = b"") -> bytes:
    content = struct.pack("<HHIIHH", encoding, 1, RATE, RATE * block % 2**32, block, bits)
    return chunk(b"fmt ", content + extra)


def wav(*chunks: bytes, magic: bytes = b"RIFF", size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(content) if size is None else size) + content


def ds64(samples: int) -> bytes:
    return chunk(b"ds64", struct.pack("<QQQI", samples + 100, samples, 0, 0))


PCM = integers(16).tobytes()
GUAN = chunk(b"guan", b"GUANO|Version: 1.0\nTE: 10\n")
EXTENSIBLE = struct.pack("<HHIH", 22, 24, 0, 1) + bytes.fromhex("000000001000800000aa00389b71")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.wav"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(wav(fmt(12, 2), chunk(b"data", PCM)), id="12 of 16 bits"),
        pytest.param(
            wav(
                fmt(20, 3),
                chunk(b"data", (integers(24).view("u1").reshape(-1, 4)[:, :3]).tobytes()),
            ),
            id="20 of 24 bits",
        ),
        pytest.param(wav(fmt(24, 4), chunk(b"data", integers(32).tobytes())), id="24 of 32 bits"),
        pytest.param(
            wav(fmt(24, 4), chunk(b"data", (integers(24) << 8).tobytes())), id="upper 24 of 32 bits"
        ),
        pytest.param(
            wav(fmt(24, 4), chunk(b"data", integers(24).tobytes())), id="lower 24 of 32 bits"
        ),
        pytest.param(
            wav(fmt(32, 4, 0xFFFE, EXTENSIBLE), chunk(b"data", integers(32).tobytes())),
            id="24 valid bits",
        ),
        pytest.param(wav(fmt(16, 0), chunk(b"data", PCM)), id="no block size"),
        *(
            pytest.param(wav(fmt(), chunk(b"data", PCM, size), size=size), id=f"size {size:#x}")
            for size in (NOT_KNOWN, NOT_KNOWN - 36, 0x8000_0000, 0x7FFF_FFFF, 0x7FFF_F000, 0)
        ),
        pytest.param(
            wav(ds64(len(PCM)), fmt(), chunk(b"data", PCM, NOT_KNOWN), magic=b"RF64"), id="RF64"
        ),
        pytest.param(
            wav(ds64(len(PCM)), fmt(), chunk(b"data", PCM, NOT_KNOWN), magic=b"BW64"), id="BW64"
        ),
        pytest.param(wav(ds64(0), fmt(), chunk(b"data", PCM), magic=b"RF64"), id="RF64, real size"),
        pytest.param(wav(fmt(), chunk(b"data", PCM), GUAN), id="metadata behind"),
        pytest.param(wav(chunk(b"LIST", b"INFOI"), fmt(), chunk(b"data", PCM)), id="odd chunk"),
        pytest.param(wav(fmt(), chunk(b"data", PCM)) + bytes(100_001), id="zeros behind"),
        pytest.param(wav(fmt(), bytes(512), chunk(b"data", PCM)), id="zeros between"),
    ],
)
def test_the_sound_is_read_as_it_was_written(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    info = read_info(path)
    samples, samplerate = read_audio(path)
    middle, _ = read_audio(path, start=9_000, frames=100)

    assert (info.frames, info.samplerate, samplerate) == (FRAMES, RATE, RATE)
    assert samples[:, 0] == pytest.approx(SOUND, abs=1e-4)
    assert middle[:, 0].tolist() == samples[9_000:9_100, 0].tolist()


@pytest.mark.parametrize(
    ("name", "options", "tolerance"),
    [
        ("a.wav", {"subtype": "IMA_ADPCM"}, 0.05),
        ("a.wav", {"subtype": "MS_ADPCM"}, 0.05),
        ("a.wav", {"subtype": "ULAW"}, 0.02),
        ("a.aiff", {}, 1e-4),
        ("a.w64", {}, 1e-4),
        ("a.wav", {"format": "WAV", "endian": "BIG"}, 1e-4),
    ],
)
def test_what_is_not_plain_is_decoded(
    tmp_path: Path, name: str, options: dict[str, str], tolerance: float
) -> None:
    path = tmp_path / name
    soundfile.write(path, SOUND, RATE, **options)

    info = read_info(path)
    samples, samplerate = read_audio(path)

    assert FRAMES <= info.frames <= FRAMES + 2048  # whole blocks
    assert len(samples) == info.frames
    assert samplerate == info.samplerate == RATE
    assert np.abs(samples[:FRAMES, 0] - SOUND).mean() < tolerance


def flac_of_unknown_length(path: Path) -> None:
    soundfile.write(path, SOUND, RATE, format="FLAC")
    content = bytearray(path.read_bytes())
    content[21] &= 0xF0  # the upper 4 of its 36 bits
    content[22:26] = bytes(4)
    path.write_bytes(content)


def test_flac_of_unknown_length_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    flac_of_unknown_length(path)

    samples, _ = read_audio(path)
    last, _ = read_audio(path, start=FRAMES - 10, frames=100)

    assert read_info(path).frames == len(samples) == FRAMES
    assert samples[:, 0] == pytest.approx(SOUND, abs=1e-4)
    assert last.tolist() == samples[-10:].tolist()


@pytest.mark.parametrize("size", [NOT_KNOWN, 0])
def test_metadata_added_behind_a_sound_of_unknown_length_leave_it_as_it_is(
    path: Path, size: int
) -> None:
    path.write_bytes(wav(fmt(), chunk(b"data", PCM, size), size=size))

    add_guano(path, build_guano({"Note": "x"}))

    assert read_guano(path)["Note"] == "x"
    assert read_info(path).frames == FRAMES
    assert read_audio(path)[0][:, 0] == pytest.approx(SOUND, abs=1e-4)


@pytest.mark.parametrize("behind", [b"", GUAN, GUAN + bytes(40)])
def test_a_size_of_0_with_no_sound_behind_it_is_0(path: Path, behind: bytes) -> None:
    path.write_bytes(wav(fmt(), chunk(b"data", b""), behind))

    with pytest.raises(AudioError, match="holds no sound") as caught:
        read_recording(path)

    assert read_info(path).frames == 0
    assert "delete" not in " ".join(caught.value.lines())


def test_zeros_behind_the_samples_are_skipped_at_once(path: Path) -> None:
    path.write_bytes(wav(fmt(), chunk(b"data", PCM)) + bytes(1_000_000))
    reads = 0

    class Counted:
        def __init__(self, file: Any) -> None:
            self.seek, self._file = file.seek, file

        def read(self, count: int) -> bytes:
            nonlocal reads
            reads += 1
            return bytes(self._file.read(count))

    with path.open("rb") as file:
        riff.read_layout(Counted(file), path)  # type: ignore[arg-type]

    assert reads < 10


COMMENT = b"Recorded at 19:22:55 14/12/2020 (UTC-5) by AudioMoth 24E144055DDD3203 at medium gain"
WAMD = b"".join(
    struct.pack("<HI", kind, len(text)) + text
    for kind, text in (
        (1, b"SM4BAT"),
        (5, b"2019-04-30 21:02:44+0100"),
        (6, b"WGS84,51.41691,N,0.0671,W"),
    )
)
TEXT = "Timestamp: 2024-05-01T20:00:00+02:00\nLoc Position: 46.5 7.5\nTE: 10\n"
DAY = datetime.datetime(2019, 4, 30, 20, 2, 44, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("chunks", "name", "expansion", "began", "place"),
    [
        ([chunk(b"guan", TEXT.encode())], "a", 10, DAY.replace(2024, 5, 1, 18, 0, 0), (46.5, 7.5)),
        ([chunk(b"wamd", WAMD)], "a", 1, DAY, (51.41691, -0.0671)),
        ([chunk(b"wamd", WAMD), GUAN], "a", 10, DAY, (51.41691, -0.0671)),
        (
            [chunk(b"LIST", b"INFO" + chunk(b"ICMT", COMMENT.ljust(384, b"\0")))],
            "20200101_000000", 1, DAY.replace(2020, 12, 15, 0, 22, 55), (None, None),
        ),
        ([], "MYOMYS-20190430_200244_x", 1, DAY, (None, None)),
        ([], "99999999_999999", 1, DAY.replace(2001, 9, 9, 1, 46, 40), (None, None)),
        (
            [chunk(b"guan", b"Samplerate: 480000\nTimestamp: ?\nLoc Position: 99 99")],
            "20190430T200244", 10, DAY, (None, None),
        ),
    ],
)  # fmt: skip
def test_time_place_and_expansion_are_taken_from_where_they_are(
    tmp_path: Path,
    chunks: list[bytes],
    name: str,
    expansion: float,
    began: datetime.datetime,
    place: tuple[float, float],
) -> None:
    path = tmp_path / f"{name}.wav"
    path.write_bytes(wav(fmt(), *chunks, chunk(b"data", PCM)))
    os.utime(path, (1e9, 1e9))

    found = describe_file(path)

    assert (found.time_expansion, found.samplerate) == (expansion, RATE * expansion)
    assert found.duration == pytest.approx(FRAMES / RATE / expansion)
    assert (found.created_on, found.deployment.started_on) == (began, began)
    assert (found.deployment.latitude, found.deployment.longitude) == place


UTC = datetime.UTC
DAY_TOLD = datetime.datetime.fromisoformat("2023-05-02T11:05:03")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("20230502_110503.WAV", DAY_TOLD),
        ("20230502_110503T.WAV", DAY_TOLD),
        ("S4A1_20230502$110503.wav", DAY_TOLD),
        ("12345678_20230502_110503_000.wav", DAY_TOLD),
        ("2023-05-02T11_05_03.000Z.wav", DAY_TOLD.replace(tzinfo=UTC)),
        ("20230502T110503+1000_x.wav", datetime.datetime(2023, 5, 2, 1, 5, 3, tzinfo=UTC)),
        ("20230502_110503-0003.wav", DAY_TOLD),
        ("x.wav", None),
        ("20231399_110503.wav", None),
    ],
)
def test_a_time_is_told_as_it_stands(
    tmp_path: Path, name: str, told: datetime.datetime | None
) -> None:
    path = tmp_path / "copy"
    path.write_bytes(wav(fmt(), chunk(b"data", PCM)))

    began = read_described(path, name).began

    assert began == told
    if began is not None and began.tzinfo is None:
        east = datetime.timezone(datetime.timedelta(hours=2))
        assert in_zone(began, east) == datetime.datetime(2023, 5, 2, 9, 5, 3, tzinfo=UTC)


WHOLE = {
    "wamd": wav(fmt(), chunk(b"wamd", WAMD), chunk(b"data", PCM[:400])),
    "wav": wav(fmt(), GUAN, chunk(b"data", PCM[:400])),
    "open": wav(fmt(24, 4), chunk(b"data", PCM[:400], NOT_KNOWN)),
    "rf64": wav(ds64(400), fmt(), chunk(b"data", PCM[:400], NOT_KNOWN), magic=b"RF64"),
    "adpcm": wav(
        fmt(4, 256, 0x11, struct.pack("<HH", 2, 505)), chunk(b"data", bytes(256)), GUAN
    ),
}  # fmt: skip
READERS: list[Callable[[Path], object]] = [
    read_info,
    read_guano,
    read_audio,
    read_recording,
    describe_file,
]


@pytest.mark.parametrize("kind", [*WHOLE, "flac"])
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=8)), max_size=4),
    length=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_damaged_files_are_read_or_give_the_documented_error(
    path: Path, kind: str, changes: list[tuple[float, bytes]], length: float, *, is_cut: bool
) -> None:
    if kind == "flac":
        soundfile.write(path, SOUND[:400], RATE, format="FLAC")
        add_guano(path, build_guano({"TE": "10"}))
        content = bytearray(path.read_bytes())
    else:
        content = bytearray(WHOLE[kind])
    for place, other in changes:
        begin = int(place * min(len(content), 300))
        content[begin : begin + len(other)] = other
    path.write_bytes(content[: int(length * len(content))] if is_cut else content)

    for read in READERS:
        with suppress(AudioError):
            read(path)
