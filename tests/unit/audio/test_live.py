"""What is shown of the microphone while somebody watches, and that it costs nothing otherwise."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data
from acoupi.audio.live import LiveThread
from acoupi.audio.live_ring import (
    COLUMNS,
    FRESH_SECONDS,
    SOUND,
    Entry,
    MarkWatch,
    RingReader,
    RingWriter,
    find_ring,
    levels_in,
    live_folder,
    touch_mark,
)
from acoupi.audio.live_sound import (
    BINS,
    LOWEST_DB,
    STEP_DB,
    Audible,
    Spectra,
    first_channel,
    levels_of,
)
from acoupi.audio.pool import StreamPool
from tests.clocks import Clock
from tests.services import DEADLINE

SIZE, SLOTS = 40, 8


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run" / "recording" / "columns"


@pytest.fixture
def writer(path: Path) -> Iterator[RingWriter]:
    writer = RingWriter(path, {"samplerate": 48_000}, content_bytes=SIZE, slots=SLOTS)
    yield writer
    writer.close()


def content(number: int) -> bytes:
    return bytes([number % 251]) * SIZE


def write(writer: RingWriter, *numbers: int) -> None:
    for number in numbers:
        writer.write(1000.0 + number, content(number))


def reader_of(path: Path) -> RingReader:
    return RingReader(lambda: path if path.exists() else None)


# --- the ring --------------------------------------------------------------------------------


def test_a_reader_gets_what_is_new_and_nothing_that_was_there_before(
    path: Path, writer: RingWriter
) -> None:
    reader = reader_of(path)
    write(writer, 1, 2)

    assert reader.read() == []
    assert reader.read() == []
    write(writer, 3, 4, 5)
    assert reader.read() == [Entry(n, 1000.0 + n, content(n)) for n in (3, 4, 5)]
    assert reader.head is not None
    assert reader.head["samplerate"] == 48_000


@given(steps=st.lists(st.integers(0, 3 * SLOTS), min_size=1, max_size=20))
def test_whatever_the_reader_misses_it_never_gets_old_or_mixed_entries(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "columns"
    writer = RingWriter(path, {}, content_bytes=SIZE, slots=SLOTS)
    reader, written = reader_of(path), 0
    reader.read()
    for step in steps:
        write(writer, *range(written + 1, written + step + 1))
        written += step

        found = reader.read()

        newest = min(step, SLOTS)
        assert [one.number for one in found] == list(range(written - newest + 1, written + 1))
        assert all(one.content == content(one.number) for one in found)
    reader.close()
    writer.close()


@pytest.mark.parametrize("damaged", range(0, 16 + SIZE + 4, 7))
def test_a_half_written_entry_is_not_there_until_it_is_whole(
    path: Path, writer: RingWriter, damaged: int
) -> None:
    write(writer, 1)
    reader = reader_of(path)
    reader.read()
    write(writer, 2)
    whole = path.read_bytes()
    place = 1024 + 2 * (16 + SIZE + 4) + damaged
    with path.open("r+b") as file:
        file.seek(place)
        file.write(bytes([whole[place] ^ 0xFF]))

    assert reader.read() == []
    with path.open("r+b") as file:
        file.write(whole)
    assert [one.number for one in reader.read()] == [2]


def test_a_reader_follows_when_the_ring_is_replaced_and_notices_when_it_is_gone(
    path: Path, writer: RingWriter
) -> None:
    write(writer, *range(1, 6))
    reader = reader_of(path)
    reader.read()
    writer.close()

    assert reader.read() == []
    assert reader.head is None
    again = RingWriter(path, {"samplerate": 384_000}, content_bytes=SIZE, slots=SLOTS)
    assert reader.read() == []
    write(again, 1)
    assert [one.number for one in reader.read()] == [1]
    assert reader.head is not None
    assert reader.head["samplerate"] == 384_000
    again.close()


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]",
        b"{}",
        b'{"slots": 0, "content_bytes": 10}',
        b'{"slots": 1, "content_bytes": 100000000}',
        b'{"slots": 8, "content_bytes": "x"}',
        b"[" * 1000,
    ],
)
def test_a_file_that_is_no_ring_is_none(path: Path, head: bytes) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(head)
    reader = reader_of(path)

    assert reader.read() == []
    assert reader.head is None


def test_a_link_is_no_ring(path: Path, writer: RingWriter, tmp_path: Path) -> None:
    write(writer, 1)
    link = tmp_path / "columns"
    link.symlink_to(path)

    assert reader_of(link).read() == []


def test_the_ring_is_found_whatever_the_recorder_is_called(tmp_path: Path) -> None:
    touch_mark(live_folder(tmp_path, "web") / COLUMNS)
    assert find_ring(tmp_path, COLUMNS, "web") is None

    ring = live_folder(tmp_path, "zoom") / COLUMNS
    RingWriter(ring, {}, content_bytes=SIZE, slots=SLOTS)

    assert find_ring(tmp_path, COLUMNS, "web") == ring
    older = live_folder(tmp_path, "older") / COLUMNS
    RingWriter(older, {}, content_bytes=SIZE, slots=SLOTS)
    os.utime(older, (1, 1))
    assert find_ring(tmp_path, COLUMNS, "web") == ring
    assert find_ring(tmp_path, SOUND, "web") is None


# --- marks -----------------------------------------------------------------------------------


def test_a_mark_is_fresh_for_some_seconds_after_each_touch(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "run" / "web" / "columns"
    watch = MarkWatch(path)

    assert not watch.is_fresh()
    touch_mark(path)
    assert watch.is_fresh()
    clock.advance(FRESH_SECONDS - 1)
    assert watch.is_fresh()
    touch_mark(path)
    assert watch.is_fresh()
    clock.advance(FRESH_SECONDS - 1)
    assert watch.is_fresh()
    clock.advance(2)
    assert not watch.is_fresh()


def test_a_mark_that_was_left_behind_says_nothing_nor_does_its_removal(
    tmp_path: Path, clock: Clock
) -> None:
    path = tmp_path / "columns"
    touch_mark(path)
    watch = MarkWatch(path)

    assert not watch.is_fresh()
    path.unlink()
    assert not watch.is_fresh()


# --- spectra and sound -----------------------------------------------------------------------


def tone(hertz: float, samplerate: int, seconds: float = 1.0, amplitude: float = 0.5) -> Any:
    times = np.arange(round(seconds * samplerate)) / samplerate
    return (amplitude * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


@pytest.mark.parametrize(
    ("samplerate", "hertz"), [(16_000, 1000), (44_100, 4000), (48_000, 9000), (384_000, 45_000)]
)
def test_a_tone_is_where_it_belongs_and_as_loud_as_it_is(samplerate: int, hertz: float) -> None:
    spectra = Spectra(samplerate)
    samples = tone(hertz, samplerate)[: spectra.frames]

    column = np.frombuffer(spectra.column(samples), np.uint8)

    assert len(column) == BINS
    loudest = int(column.argmax())
    found = spectra.low_hz * (spectra.high_hz / spectra.low_hz) ** (loudest / BINS)
    assert found == pytest.approx(hertz, rel=0.03)
    assert LOWEST_DB + STEP_DB * column[loudest] == pytest.approx(-6, abs=1.5)
    assert np.median(column) < column[loudest] - 60 / STEP_DB
    assert levels_of(samples) == pytest.approx((-9, -6), abs=0.1)


def test_silence_and_full_scale_have_levels() -> None:
    spectra = Spectra(48_000)

    silent = np.zeros(spectra.frames, np.float32)
    assert set(spectra.column(silent)) == {0}
    assert levels_of(silent) == (data.LOWEST_DBFS, data.LOWEST_DBFS)
    loud = tone(1000, 48_000, amplitude=1.0)[: spectra.frames]
    assert max(spectra.column(loud)) < 255


def test_only_the_first_channel_is_taken_whatever_the_samples_are() -> None:
    frames = np.array([[16384, 1], [-32768, 2]])

    narrow = first_channel(frames.astype("=i2").tobytes(), 2, 2)
    wide = first_channel((frames * 65536).astype("=i4").tobytes(), 2, 4)

    assert narrow.tolist() == wide.tolist() == [0.5, -1.0]


def heard(samplerate: int, samples: Any) -> tuple[Audible, Any]:
    audible = Audible(samplerate)
    pieces = [
        audible.add(samples[first : first + audible.frames])
        for first in range(0, len(samples) - audible.frames + 1, audible.frames)
    ]
    assert {len(piece) for piece in pieces} == {audible.chunk_bytes}
    return audible, np.frombuffer(b"".join(pieces), "<i2") / 32767


def loudest_hertz(samples: Any, samplerate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(spectrum.argmax() * samplerate / len(samples))


def test_what_people_hear_anyway_stays_as_it_is() -> None:
    noise = np.random.default_rng(3).normal(0, 0.1, 48_000).astype(np.float32)

    audible, found = heard(48_000, noise)

    assert (audible.samplerate, audible.division) == (48_000, 1)
    late = 256  # half a window
    difference = found[late:20_000] - noise[: 20_000 - late]
    assert np.sqrt((difference[512:] ** 2).mean()) < 0.01


@pytest.mark.parametrize("samplerate", [192_000, 250_000, 384_000, 500_000])
@pytest.mark.parametrize("hertz", [20_000, 45_000, 81_000])
def test_ultrasound_is_heard_at_a_tenth_of_its_frequency(samplerate: int, hertz: float) -> None:
    audible, found = heard(samplerate, tone(hertz, samplerate))

    settled = found[2000:]
    assert audible.samplerate <= 50_000
    assert loudest_hertz(settled, audible.samplerate) == pytest.approx(hertz / 10, abs=100)
    assert 0.1 < settled.std() < 0.5  # 0.35 before


def test_sound_lasts_as_long_as_it_did() -> None:
    audible, found = heard(384_000, tone(45_000, 384_000, seconds=2))

    assert len(found) / audible.samplerate == pytest.approx(2, abs=0.05)


# --- the thread ------------------------------------------------------------------------------


class Sensor:
    """A microphone, and the thread that shows it; a test lets time pass."""

    def __init__(self, home: Path, source: Any, clock: Clock) -> None:
        self.source, self.clock = source, clock
        self.pool = StreamPool()
        self.ring = {name: live_folder(home, "recording") / name for name in (COLUMNS, SOUND)}
        self.mark = {name: live_folder(home, "web") / name for name in (COLUMNS, SOUND)}
        self.thread = LiveThread({self.ring[n]: self.mark[n] for n in self.ring}, self.pool)

    def hear(self, seconds: float) -> None:
        """Deliver sound, block by block, and let the thread look after each."""
        for _ in range(round(seconds * 20)):
            self.clock.advance(0.05)
            self.source.deliver(self.source.samplerate // 20, self.clock.seconds - 0.05)
            self.thread.tick()

    def watch(self, name: str) -> None:
        touch_mark(self.mark[name])


@pytest.fixture
def sensor(tmp_path: Path, clock: Clock, hand_source: Any) -> Iterator[Sensor]:
    sensor = Sensor(tmp_path, hand_source(48_000), clock)
    with sensor.pool.using(lambda: sensor.source):
        yield sensor
    sensor.pool.close_idle()


def test_nothing_is_written_while_nobody_watches(sensor: Sensor) -> None:
    sensor.hear(1)

    assert not any(ring.exists() for ring in sensor.ring.values())


def test_columns_come_twenty_times_a_second_while_somebody_watches(sensor: Sensor) -> None:
    sensor.watch(COLUMNS)
    sensor.hear(0.1)
    reader = reader_of(sensor.ring[COLUMNS])
    reader.read()

    sensor.hear(1)

    found = reader.read()
    assert len(found) == 20
    assert np.diff([one.time for one in found]) == pytest.approx(0.05, abs=1e-4)
    assert {len(levels_in(one.content)[2]) for one in found} == {BINS}
    assert reader.head is not None
    assert reader.head["samplerate"] == 48_000
    assert not sensor.ring[SOUND].exists()


def test_the_ring_is_gone_soon_after_nobody_watches_any_more(sensor: Sensor) -> None:
    sensor.watch(COLUMNS)
    sensor.hear(0.1)
    assert sensor.ring[COLUMNS].exists()

    sensor.hear(FRESH_SECONDS + 1)

    assert not sensor.ring[COLUMNS].exists()


def test_sound_is_written_for_who_listens(sensor: Sensor) -> None:
    sensor.watch(SOUND)
    sensor.hear(0.2)
    reader = reader_of(sensor.ring[SOUND])
    reader.read()

    sensor.hear(1)

    assert reader.head is not None
    samples = sum(len(one.content) for one in reader.read()) / 2
    assert samples == pytest.approx(48_000, rel=0.05)
    assert not sensor.ring[COLUMNS].exists()


def test_a_picture_that_is_late_skips_what_is_past(sensor: Sensor) -> None:
    sensor.watch(COLUMNS)
    sensor.hear(0.1)
    reader = reader_of(sensor.ring[COLUMNS])
    reader.read()
    sensor.clock.advance(3)
    sensor.source.deliver(3 * 48_000, sensor.clock.seconds - 3)
    sensor.thread.tick()
    sensor.hear(0.25)

    found = reader.read()

    assert len(found) == 5
    assert found[-1].time == pytest.approx(sensor.clock.now.timestamp(), abs=0.01)


def test_nothing_is_shown_of_a_microphone_that_is_closed(sensor: Sensor) -> None:
    sensor.watch(COLUMNS)
    sensor.hear(0.1)
    sensor.source.sink.close()
    sensor.watch(COLUMNS)
    sensor.thread.tick()

    assert not sensor.ring[COLUMNS].exists()


def test_a_picture_that_cannot_be_written_ends_alone_and_comes_when_asked_for_again(
    sensor: Sensor, caplog: pytest.LogCaptureFixture
) -> None:
    folder = sensor.ring[COLUMNS].parent
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("a file is where the folder should be")
    sensor.watch(COLUMNS)
    sensor.hear(1)

    assert len(caplog.records) == 1
    folder.unlink()
    sensor.hear(FRESH_SECONDS + 1)
    sensor.watch(COLUMNS)
    sensor.hear(0.1)
    assert sensor.ring[COLUMNS].exists()


def test_watching_leaves_no_trace_in_the_stream(sensor: Sensor, frames_from: Any) -> None:
    stream = sensor.pool.newest()
    assert stream is not None
    sensor.watch(COLUMNS)
    sensor.watch(SOUND)
    sensor.hear(1)

    assert stream.overruns(0, stream.written) == []
    assert stream.next_frame() == 0  # as if nothing had been read
    assert stream.read(0, 1000, 1e12) == frames_from(0, 1000)


def test_a_thread_removes_what_an_earlier_process_left(sensor: Sensor) -> None:
    RingWriter(sensor.ring[COLUMNS], {}, content_bytes=SIZE, slots=SLOTS)
    sensor.thread.stop()
    sensor.thread.start()
    sensor.thread.join(DEADLINE)

    assert not sensor.ring[COLUMNS].exists()


def test_a_recorder_that_nobody_watches_imports_nothing_for_it(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from acoupi.audio.live import LiveThread\n"
        "thread = LiveThread({Path(sys.argv[1]): Path(sys.argv[2])})\n"
        "before = set(sys.modules)\n"
        "for _ in range(3): thread.tick()\n"
        "assert set(sys.modules) == before, set(sys.modules) - before\n"
        "assert not {'numpy', 'acoupi.audio.live_views'} & before\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "ring", tmp_path / "mark"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.stderr == ""
