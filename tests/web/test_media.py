"""Pictures and sound of recordings, as browsers ask for them."""

import asyncio
import io
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest
import soundfile
from starlette.applications import Starlette
from starlette.testclient import TestClient

from acoupi import clips, data
from acoupi.audio.formats import open_writer
from acoupi.errors import AudioError
from acoupi.web import making, media
from acoupi.web.making import Workshop
from tests.stores import SITE, detection, output, recording
from tests.web.watched import Sensor

pytestmark = pytest.mark.integration

RATE = 50_000
SECONDS = 2


class Page:
    """A sensor with recordings, and a browser."""

    def __init__(self, home: Path) -> None:
        self.sensor = Sensor(home)
        self.sensor.store.store_deployment(SITE)
        self.cache = home / "run" / "web" / "cache"
        routes = media.routes(self.sensor, self.cache)  # type: ignore[arg-type]
        self.browser = TestClient(Starlette(routes=routes))
        self.samples = (
            10_000 * np.sin(2 * np.pi * 5000 * np.arange(SECONDS * RATE) / RATE)
        ).astype("<i2")

    def record(self, name: str = "a.wav", **settings: Any) -> data.Recording:
        path = self.sensor.data / "recordings" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open_writer(path, RATE, 1, guano="GUANO|Version: 1.0\n", **settings) as writer:
            writer.write(self.samples.tobytes())
            writer.finish()
        return self.store(path)

    def store(self, path: Path) -> data.Recording:
        one = recording(duration=SECONDS, samplerate=RATE).model_copy(update={"path": path})
        self.sensor.store.store_recording(one)
        return one

    def ask(self, one: data.Recording | UUID, what: str, **headers: str) -> Any:
        id_ = one if isinstance(one, UUID) else one.id
        return self.browser.get(f"/api/v1/recordings/{id_}/{what}", headers=headers)

    def kept(self) -> list[Path]:
        return sorted(self.cache.iterdir()) if self.cache.is_dir() else []


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    # What is made has the lowest priority: on a busy machine it waits for everything else.
    monkeypatch.setattr(making, "DEADLINE", 240.0)
    page = Page(tmp_path)
    with page.browser:
        yield page


def sound_of(answer: Any) -> tuple[Any, int]:
    assert answer.status_code in {200, 206}, answer.text
    samples, rate = soundfile.read(io.BytesIO(answer.content), dtype="int16")
    return samples, rate


# --- sound -----------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [1, 5, 10, 20])
def test_slower_sound_is_the_same_samples_under_another_rate(page: Page, slow: int) -> None:
    answer = page.ask(page.record(), f"audio.wav?slow={slow}")

    samples, rate = sound_of(answer)
    assert rate == RATE / slow
    assert np.array_equal(samples, page.samples)
    assert answer.headers["Content-Type"] == "audio/wav"
    assert page.kept() == []


def test_a_part_is_cut_to_the_frame_and_only_that_is_read(page: Page) -> None:
    one = page.record()
    page.sensor.pieces.clear()

    samples, _ = sound_of(page.ask(one, "audio.wav?start=0.5&end=0.75&slow=10"))

    assert np.array_equal(samples, page.samples[RATE // 2 : RATE * 3 // 4])
    assert sum(page.sensor.pieces[1:]) == 2 * RATE // 4  # after the head


@pytest.mark.parametrize(
    ("wanted", "first", "end"),
    [("bytes=0-99", 0, 100), ("bytes=44-", 44, None), ("bytes=-10", -10, None),
     ("bytes=30-60", 30, 61), ("bytes=100-99999999", 100, None)],
)  # fmt: skip
@pytest.mark.parametrize("what", ["audio.wav?slow=10", "file"])
def test_a_range_is_that_part_of_the_whole(
    page: Page, what: str, wanted: str, first: int, end: int | None
) -> None:
    one = page.record()
    whole = page.ask(one, what).content

    answer = page.ask(one, what, Range=wanted)

    assert answer.status_code == 206
    assert answer.content == whole[first:end]
    start = first % len(whole) if first < 0 else first
    last = start + len(answer.content) - 1
    assert answer.headers["Content-Range"] == f"bytes {start}-{last}/{len(whole)}"
    assert int(answer.headers["Content-Length"]) == len(answer.content)


@pytest.mark.parametrize("wanted", ["bytes=99999999-", "bytes=-0", "bytes=99999999-999999990"])
@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_range_that_cannot_be_is_416(page: Page, name: str, wanted: str) -> None:
    answer = page.ask(page.record(name), "audio.wav", Range=wanted)

    assert answer.status_code == 416
    assert "*/" in answer.headers["Content-Range"]


@pytest.mark.parametrize("wanted", ["lines=1-2", "bytes=5-2", "bytes=1-2,4-5", "bytes=", "x"])
def test_what_is_no_single_range_gets_the_whole(page: Page, wanted: str) -> None:
    answer = page.ask(page.record(), "audio.wav", Range=wanted)

    assert answer.status_code == 200
    assert len(answer.content) == 44 + 2 * len(page.samples)
    assert answer.headers["Accept-Ranges"] == "bytes"


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_only_the_head_is_asked_for(page: Page, name: str) -> None:
    one = page.record(name)

    answer = page.browser.head(f"/api/v1/recordings/{one.id}/audio.wav")

    assert answer.content == b""
    assert int(answer.headers["Content-Length"]) == 44 + 2 * len(page.samples)


def test_flac_is_made_into_wav_once(page: Page) -> None:
    one = page.record("a.flac")

    samples, rate = sound_of(page.ask(one, "audio.wav?start=0.25&slow=10"))

    assert rate == RATE / 10
    assert np.array_equal(samples, page.samples[RATE // 4 :])
    (kept,) = page.kept()
    before = kept.stat()
    assert page.ask(one, "audio.wav?start=0.25&slow=10", Range="bytes=0-3").content == b"RIFF"
    assert (kept.stat().st_ino, kept.stat().st_size) == (before.st_ino, before.st_size)


def test_two_channels_of_24_bits_stay_what_they_are(page: Page) -> None:
    path = page.sensor.data / "two.wav"
    samples = np.stack([page.samples, -page.samples], axis=1)
    soundfile.write(path, samples, RATE, "PCM_24")

    answer = page.ask(page.store(path), "audio.wav?slow=5")

    found = soundfile.info(io.BytesIO(answer.content))
    assert (found.channels, found.subtype, found.samplerate) == (2, "PCM_24", RATE // 5)
    assert np.array_equal(sound_of(answer)[0], samples)


def test_the_file_is_given_as_it_is_under_its_name(page: Page) -> None:
    one = page.record("Eiche 1.flac")
    assert one.path is not None

    answer = page.ask(one, "file")

    assert answer.content == one.path.read_bytes()
    assert answer.headers["Content-Type"] == "audio/flac"
    assert "attachment; filename*=utf-8''Eiche%201.flac" in answer.headers["Content-Disposition"]


# --- pictures --------------------------------------------------------------------------------


def pixels_of(answer: Any) -> Any:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"] == "image/png"
    content = answer.content
    width, height = struct.unpack_from(">II", content, 16)
    start = content.index(b"IDAT") + 4
    (size,) = struct.unpack_from(">I", content, start - 8)
    lines = np.frombuffer(zlib.decompress(content[start : start + size]), np.uint8)
    return lines.reshape(height, 1 + 3 * width)[:, 1:].reshape(height, width, 3)


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_picture_shows_the_sound_and_boxes_around_detections(page: Page, name: str) -> None:
    one = page.record(name)
    plain = pixels_of(page.ask(one, "picture.png"))
    box = data.BoundingBox.from_coordinates(0.5, 2000, 1.0, 8000)

    page.sensor.store.store_model_output(output(one, detection(location=box)))
    boxed = pixels_of(page.ask(one, "picture.png"))

    assert plain.shape == boxed.shape == (456, 1084, 3)
    assert (plain != boxed).any()
    brightest = plain[28:412, 200:800].sum(axis=(1, 2)).argmax()
    assert (1 - brightest / 384) * RATE / 2 == pytest.approx(5000, abs=150)
    assert len(page.kept()) == 2


def test_a_picture_is_made_once(page: Page) -> None:
    one = page.record()
    first = page.ask(one, "picture.png?start=0.5&end=1")
    page.sensor.pieces.clear()

    again = page.ask(one, "picture.png?start=0.5&end=1")

    assert again.content == first.content
    assert page.sensor.pieces == []
    assert "private" in again.headers["Cache-Control"]


def test_what_was_not_asked_for_longest_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "KEPT_BYTES", 250)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(files):
        path.write_bytes(bytes(100))
        os.utime(path, (number, number))
    assert making._is_kept(files[0])

    making._make_room(tmp_path, files[2])

    assert [path.exists() for path in files] == [True, False, True]
    monkeypatch.setattr(making, "KEPT_BYTES", 10)
    making._make_room(tmp_path, files[2])
    assert [path.exists() for path in files] == [False, False, True]


# --- what cannot be --------------------------------------------------------------------------


ALL = ("picture.png", "audio.wav", "file")


@pytest.mark.parametrize("what", ALL)
def test_what_was_deleted_is_410_and_says_why_even_if_a_picture_is_kept(
    page: Page, what: str
) -> None:
    one = page.record()
    page.ask(one, what)
    page.sensor.store.end_recording(one, data.RecordingState.DELETED)

    answer = page.ask(one, what)

    assert answer.status_code == 410
    assert answer.json()["why"] == "the saving filters did not keep it."
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("what", ALL)
def test_what_is_not_written_yet_is_503_and_when_to_ask_again(page: Page, what: str) -> None:
    one = page.store(page.sensor.data / "recordings" / "soon.wav")
    (page.sensor.data / "recordings").mkdir()

    answer = page.ask(one, what)

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "2"


@pytest.mark.parametrize("what", ALL)
def test_an_id_of_nothing_is_404(page: Page, what: str) -> None:
    assert page.ask(uuid4(), what).status_code == 404
    assert page.browser.get(f"/api/v1/recordings/..%2f/{what}").status_code == 404


@pytest.mark.parametrize(
    "query",
    ["start=x", "start=nan", "start=-1", "start=2", "start=1&end=0.5", "end=0", "start=inf"],
)
@pytest.mark.parametrize("what", ["picture.png", "audio.wav"])
def test_a_part_that_cannot_be_is_refused(page: Page, what: str, query: str) -> None:
    answer = page.ask(page.record(), f"{what}?{query}")

    assert answer.status_code == 422
    assert answer.json()["error"]


@pytest.mark.parametrize("slow", ["0", "0.5", "101", "nan", "fast"])
def test_a_speed_that_cannot_be_is_refused(page: Page, slow: str) -> None:
    assert page.ask(page.record(), f"audio.wav?slow={slow}").status_code == 422


@pytest.mark.parametrize("name", ["bad.wav", "bad.flac"])
@pytest.mark.parametrize("what", ["picture.png", "audio.wav"])
def test_a_file_that_is_no_sound_is_told_and_nothing_is_kept(
    page: Page, name: str, what: str
) -> None:
    path = page.sensor.data / name
    path.write_bytes(b"this is no sound" * 100)

    answer = page.ask(page.store(path), what)

    assert answer.status_code == 422
    assert page.kept() == []


def test_a_file_that_disappears_while_it_is_drawn_says_so(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = page.record()
    assert one.path is not None
    path, read = one.path, page.sensor.read_file

    def read_and_remove(*given: Any, **named: Any) -> bytes:
        path.unlink(missing_ok=True)
        return read(*given, **named)

    page.sensor.read_file = read_and_remove  # type: ignore[method-assign]

    answer = page.ask(one, "picture.png")

    assert answer.status_code == 503
    assert page.kept() == []


def test_who_waits_too_long_and_who_finds_too_many_waiting_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workshop = Workshop(tmp_path)
    order = {"what": "picture", "size": 100, "name": "a.wav"}

    monkeypatch.setattr(making, "DEADLINE", 0.0)
    with pytest.raises(AudioError, match="cannot be made"):
        asyncio.run(workshop.made(order, ".png", lambda *_: b""))
    monkeypatch.setattr(making, "MOST_WAITING", 0)
    with pytest.raises(making.BusyError):
        asyncio.run(workshop.made(order, ".png", lambda *_: b""))
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_ends_without_an_answer_is_told(page: Page, tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="cannot be made"):
        asyncio.run(Workshop(tmp_path / "kept").made({"what": "picture"}, ".png", lambda *_: b""))


def test_where_only_a_clip_was_kept_its_picture_and_sound_are_there(page: Page) -> None:
    whole = page.record("whole.wav")
    found = detection(
        0.9, ("species", "Bat", 0.9), location=data.BoundingBox.from_coordinates(1.1, 0, 1.2, 9e3)
    )
    page.sensor.store.store_model_output(output(whole, found))
    path = page.sensor.data / "recordings" / "clip.wav"
    with open_writer(path, RATE, 1) as writer:
        writer.write(page.samples[RATE // 2 : RATE].tobytes())
        writer.finish()
    clip = clips.Clip(
        id=uuid4(), path=path, stream_id=uuid4(), first_frame=RATE, frames=RATE // 2,
        samplerate=RATE, parts={whole.id: 1.0},
    )  # fmt: skip
    page.sensor.store.put_clip(clip)
    whole.path.unlink()  # type: ignore[union-attr]
    page.sensor.store.end_recording(whole, data.RecordingState.DELETED)

    sound, rate = sound_of(page.ask(whole, f"audio.wav?clip={clip.id}&start=0.1&end=0.2&slow=10"))
    picture = page.ask(whole, f"picture.png?clip={clip.id}&start=0.1&end=0.2")
    file = page.ask(whole, f"file?clip={clip.id}")

    assert (len(sound), rate) == (RATE // 10, RATE // 10)
    assert np.array_equal(sound.ravel(), page.samples[RATE // 2 + RATE // 10 :][: RATE // 10])
    assert picture.content.startswith(b"\x89PNG"), picture.text
    assert file.content == path.read_bytes()
    assert page.ask(whole, "audio.wav").status_code == 410
    assert page.ask(whole, f"audio.wav?clip={uuid4()}").status_code == 410
    assert page.ask(whole, "audio.wav?clip=none").status_code == 422
    (row,) = page.sensor.reader.detections_in(whole.id)
    assert row.clip is not None
    assert (row.clip.id, row.in_clip(row.clip).start_s) == (clip.id, pytest.approx(0.1))
