"""``acoupi recordings`` and ``acoupi detections``: what was heard, looked up by people."""

import csv
import io
import json
import struct
import sys
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from acoupi import data
from acoupi.components import SqliteStore
from acoupi.components.message_stores import SqliteMessageStore
from acoupi.provenance import Provenance
from tests.cli.support import Run, data_of
from tests.clips import Stream
from tests.stores import at, deployment, detection, output, recording

OAK = deployment(name="Old oak", latitude=51.5, longitude=-0.1)
POND = deployment(name='\xdcber "1"\n\t\x1b[31m', id=UUID(int=5))
BAT, BIRD = "Myotis nattereri", "Turdus merula"
MADE_BY = Provenance(model="bats", model_version="bats 1.2", weights="5f" * 32, configuration="c0")
ID = "{:0<8}-0000-4000-8000-000000000000"
A, B, C = (UUID(ID.format(letter)) for letter in "abc")
REPORT = data.CaptureReport(
    stream_id=UUID(int=1),
    first_frame=0,
    frames=96_000,
    samplerate_measured=48_000,
    clock_synchronised=True,
    clock_error_s=0.004,
)
RATE = 48_000


def write_tone(path: Path) -> None:
    """Write 2 s of a tone of 12 kHz."""
    samples = 0.3 * np.sin(np.pi / 2 * np.arange(2 * RATE)) * 32_767
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.fixture
def heard(sensor: Path, run: Run) -> dict[str, data.Detection]:
    """A sensor that recorded three times in two nights, with what was found."""
    paths = json.loads((sensor / "config" / "program.json").read_text())
    run("config", "set", "timezone", "Europe/London")
    sound = sensor / "data" / "recordings" / "a.wav"
    write_tone(sound)
    store = SqliteStore(Path(paths["paths"]["db_metadata"]))
    box = data.BoundingBox.from_coordinates(0.25, 3_000, 0.75, 5_000)
    bat = detection(0.9, ("species", BAT, 0.8), location=box, id=UUID(ID.format("1")))
    bird = detection(0.6, ("species", BIRD, 0.6), id=UUID(ID.format("2")))
    late = detection(0.3, ("species", BAT, 0.3), id=UUID(ID.format("12")))
    day = 86_400.0
    for id_, path, seconds, site, found in (
        (A, sound, 0.0, OAK, [bat, bird]),
        (B, None, day, OAK, []),
        (C, None, 3 * day, POND, [late]),
    ):
        one = recording(
            None, seconds, id=id_, path=path, duration=2, samplerate=RATE, deployment=site,
            capture=REPORT,
        )  # fmt: skip
        store.store_recording(one)
        made = output(one, *found, provenance=MADE_BY if path else None)
        store.store_model_output(made)
        if path:
            store.update_recording_path(one, path)
            messages = SqliteMessageStore(Path(paths["messaging"]["messages_db"]))
            about = data.Message(content=json.dumps({"id": str(made.id)}), created_on=at(101))
            messages.store_message(about)
            messages.claim_messages("http")
            messages.close()
        else:
            store.end_recording(one, data.RecordingState.DELETED)
    store.close()
    return {"bat": bat, "bird": bird, "late": late}


Heard = dict[str, data.Detection]


def test_detections_are_listed_newest_first_in_80_columns(heard: Heard, run: Run) -> None:
    result = run("detections", "list")

    lines = [line for line in result.stdout.splitlines() if "2024-" in line]
    assert [line.strip()[:19] for line in lines] == [
        "2024-06-04 21:00:00", "2024-06-01 21:00:00", "2024-06-01 21:00:00",
    ]  # fmt: skip
    assert "Europe/London" in result.stdout
    assert BAT in lines[0]
    assert "0.30" in lines[0]
    assert "3-5" in run("detections", "list", "--deployment", "Old oak").stdout
    assert max(len(line.rstrip()) for line in result.stdout.splitlines()) <= 80


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--species", BAT], ["late", "bat"]),
        (["--tag", f"species={BIRD}"], ["bird"]),
        (["--min-score", "0.6", "--from", "2024-06-01 21:00"], ["bird", "bat"]),
        (["--to", "2024-06-01"], ["bird", "bat"]),
        (["--from", "2024-06-01T20:00:01Z"], ["late"]),
        (["--deployment", "Old oak"], ["bird", "bat"]),
        (["--deployment", "00000000"], ["late"]),
        (["--state", "kept"], ["bird", "bat"]),
        (["--verdict", "none", "--model", "bats"], ["late", "bird", "bat"]),
        (["--verdict", "right"], []),
        (["--limit", "1"], ["late"]),
        (["--after", "12", "--limit", "1"], ["bat"]),
    ],
)
def test_filters(heard: Heard, run: Run, options: list[str], expected: list[str]) -> None:
    found = data_of(run("detections", "list", "--json", *options))

    assert {one["detection_id"] for one in found} == {str(heard[name].id) for name in expected}
    assert len(found) == len(expected)


def test_csv_has_the_columns_of_the_view(heard: Heard, run: Run) -> None:
    [row, *_] = csv.DictReader(io.StringIO(run("detections", "list", "--csv").stdout))

    assert row["detection_id"] == str(heard["late"].id)
    assert row["deployment_name"] == POND.name
    assert row["start_time"] == "2024-06-04T20:00:00.000000Z"
    assert set(row) == set(data_of(run("detections", "list", "--json"))[0])


def test_recordings_are_listed_with_their_state_and_detections(heard: Heard, run: Run) -> None:
    found = data_of(run("recordings", "list", "--json"))

    assert [(one["recording_state"], one["detection_count"]) for one in found] == [
        ("deleted", 1), ("deleted", 0), ("kept", 2),
    ]  # fmt: skip
    lines = run("recordings", "list").stdout.splitlines()
    assert "Old oak" in lines[-2]
    assert max(len(line.rstrip()) for line in lines) <= 80


def test_show_tells_everything_of_a_detection(heard: Heard, run: Run) -> None:
    text = run("detections", "show", "1000").stdout

    for words in (
        BAT, "0.900", "2024-06-01 21:00:00.250 (Europe/London)", "set by a time server, to 4 ms",
        "0.250 to 0.750 s", "3-5 kHz", str(A), "Old oak (51.5, -0.1)",
        "bats bats 1.2 sha256:5f5f5f5f5f5f", "5f" * 32, "c0", "http", "pending",
    ):  # fmt: skip
        assert words in text
    assert "1000" in data_of(run("detections", "show", "1000", "--json"))["detection_id"]
    assert "by an earlier acoupi" in run("detections", "show", "12").stdout


def test_show_tells_everything_of_a_recording(heard: Heard, run: Run) -> None:
    text = run("recordings", "show", "a").stdout

    for words in (str(A), "2 s", "48000 Hz", "Old oak", "a.wav", "kept", BAT, BIRD, "0.90"):
        assert words in text
    told = data_of(run("recordings", "show", "b", "--json"))
    assert (told["detections"], told["file_path"]) == ([], None)
    assert told["capture"]["clock_error_s"] == 0.004


def test_nights_are_counted_with_those_without_detections(heard: Heard, run: Run) -> None:
    nights = data_of(run("detections", "count", "--by", "night", "--json"))

    assert [(one["night"], one["detections"], one["recordings"]) for one in nights] == [
        ("2024-06-01", 2, 1), ("2024-06-02", 0, 1), ("2024-06-03", 0, 0), ("2024-06-04", 1, 1),
    ]  # fmt: skip
    table = run("detections", "count").stdout.splitlines()
    assert "█" in table[1]
    assert "█" not in table[2]
    assert max(len(line) for line in table) <= 80


def test_other_counts(heard: Heard, run: Run) -> None:
    def counts(what: str, *options: str) -> dict[str, int]:
        found = data_of(run(what, "count", "--json", *options))
        return {str(next(iter(one.values()))): one[what] for one in found}

    assert counts("detections", "--by", "species") == {BAT: 2, BIRD: 1}
    assert counts("detections", "--by", "hour") == {"21:00": 3}
    assert counts("detections", "--by", "deployment", "--species", BAT) == {
        "Old oak": 1,
        POND.name: 1,
    }
    assert counts("recordings", "--by", "day", "--to", "2024-06-01") == {"2024-06-01": 1}
    words = ("recordings", "count", "--csv", "--by", "deployment")
    assert run(*words).stdout.splitlines()[1] == "Old oak,2"


@pytest.mark.parametrize(
    "words", ["detections list", "recordings list", "recordings count --by deployment",
              "detections show 12", "recordings show c"]
)  # fmt: skip
def test_a_name_does_nothing_to_the_terminal(heard: Heard, run: Run, words: str) -> None:
    result = run(*words.split())

    assert "\xdcber" in result.stdout
    assert "\x1b" not in result.stdout


# Pictures, sound and copies


def pixels(content: bytes) -> NDArray[np.uint8]:
    """Read a PNG file of ours, as any reader would: chunks, checksums, lines."""
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    at_, chunks = 8, {}
    while at_ < len(content):
        size, kind = struct.unpack(">I4s", content[at_ : at_ + 8])
        body = content[at_ + 8 : at_ + 8 + size]
        assert struct.unpack(">I", content[at_ + 8 + size :][:4])[0] == zlib.crc32(kind + body)
        chunks[kind] = body
        at_ += size + 12
    width, height = struct.unpack(">II", chunks[b"IHDR"][:8])
    lines = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8).reshape(height, -1)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 3)


def test_a_picture_shows_the_tone_where_it_is(heard: Heard, run: Run, tmp_path: Path) -> None:
    result = run("recordings", "picture", "a", "-o", str(tmp_path / "a.png"))

    assert result.exit_code == 0, result.stderr
    assert BAT in result.stdout
    shown = pixels((tmp_path / "a.png").read_bytes())[28 : 28 + 384, 64 : 64 + 1000]
    brightness = shown.astype(int).sum(axis=2).mean(axis=1)
    tone = 383 - round(12_000 / 24_000 * 384)
    assert abs(int(brightness.argmax()) - tone) <= 3
    again = run("recordings", "picture", "a", "-o", str(tmp_path / "a.png"))
    assert again.exit_code == 2
    assert "files are not overwritten" in again.stderr
    assert run("detections", "picture", "1000", "-o", str(tmp_path / "b.jpg")).exit_code == 2


class Output:
    """A sound output that keeps what was played."""

    def __init__(self, played: list[Any], **_: object) -> None:
        self.played = played

    def __enter__(self) -> "Output":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, samples: NDArray[np.float32]) -> None:
        self.played.append(samples)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> list[NDArray[np.float32]]:
    """What the sound output of this machine, which has a rate of 8,000 Hz, has played."""
    library, found = ModuleType("sounddevice"), []  # type: ignore[var-annotated]
    library.__dict__.update(
        PortAudioError=type("PortAudioError", (Exception,), {}),
        query_devices=lambda kind: {"default_samplerate": 8_000},
        OutputStream=lambda **given: Output(found, **given),
    )
    monkeypatch.setitem(sys.modules, "sounddevice", library)
    return found


@pytest.mark.parametrize("slow", [1, 10])
def test_a_recording_is_played_slowed_down(
    heard: Heard, run: Run, played: list[NDArray[np.float32]], slow: int
) -> None:
    result = run("recordings", "play", "a", "--slow", str(slow))

    assert result.exit_code == 0, result.stderr
    sound = np.concatenate(played)[:, 0]
    assert len(sound) == 2 * slow * 8_000
    if slow == 10:  # the tone of 12 kHz is heard at 1.2 kHz
        loudest = np.abs(np.fft.rfft(sound[:8_000])).argmax()
        assert abs(int(loudest) - 1_200) <= 2


def test_without_a_sound_output_it_says_so(
    heard: Heard, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)

    result = run("detections", "play", "1000")

    assert result.exit_code == 1
    assert "no sound output" in result.stderr


def test_copies_come_with_what_is_known(heard: Heard, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "for Ana"

    result = run("detections", "copy", "--species", BAT, str(folder))
    again = run("recordings", "copy", "a", str(folder))

    assert (result.exit_code, again.exit_code) == (0, 0), again.stderr
    assert "1 more no longer have a file" in result.stderr
    assert sorted(one.name for one in folder.iterdir()) == ["a.wav", "a.wav.json"]
    told = json.loads((folder / "a.wav.json").read_text())
    assert told["recording"]["recording_id"] == str(A)
    assert [one["species"] for one in told["detections"]] == [BIRD, BAT]
    (folder / "a.wav").write_bytes(b"another")
    refused = run("recordings", "copy", "a", str(folder))
    assert refused.exit_code == 1
    assert (folder / "a.wav").read_bytes() == b"another"
    assert sorted(one.name for one in folder.iterdir()) == ["a.wav", "a.wav.json"]


# What bad input gets


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["list", "--species", "Myotis naterreri"], f'--species "{BAT}"'),
        (["list", "--model", "bat"], '--model "bats"'),
        (["list", "--deployment", "Old oke"], '--deployment "Old oak"'),
        (["list", "--tag", "species=x"], "--tag"),
        (["list", "--state", "gone"], "captured, kept, clipped, deleted, lost"),
        (["list", "--verdict", "good"], "right, wrong, other, unsure, none"),
        (["list", "--from", "last week"], "2024-06-01 21:30, yesterday or 21:30"),
        (["count", "--by", "month"], "night, day, hour, species, deployment"),
        (["show", "1"], f"{ID.format('1')}, {ID.format('12')}"),
        (["show", "ffff"], "no detection of this sensor has an id that starts with this"),
        (["show", "no-id"], "no detection of this sensor has an id that starts with this"),
    ],
)
def test_what_is_not_understood_is_told_in_three_lines(
    heard: Heard, run: Run, words: list[str], says: str
) -> None:
    result = run("detections", *words)

    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 3
    assert says in result.stderr


@pytest.mark.parametrize(
    "act", [["play", "c"], ["picture", "c", "-o", "x.png"], ["copy", "c", "x"]], ids=" ".join
)
def test_a_deleted_file_is_told_with_its_reason(heard: Heard, run: Run, act: list[str]) -> None:
    result = run("recordings", *act)

    assert result.exit_code == 1
    assert "deleted after its analysis, by the saving filters" in result.stderr
    assert "Its data are kept" in result.stderr


def test_before_anything_was_recorded_it_says_so(sensor: Path, run: Run) -> None:
    result = run("detections", "list")

    assert result.exit_code == 2
    assert "nothing has been recorded yet" in result.stderr
    assert run("recordings", "list", env={"ACOUPI_HOME": str(sensor / "none")}).exit_code == 2


def test_reading_touches_no_file_of_the_home(heard: Heard, run: Run, sensor: Path) -> None:
    def seen() -> dict[Path, tuple[int, int]]:
        found = {path: path.stat() for path in (sensor / "data").rglob("*")}
        return {path: (one.st_mtime_ns, one.st_size) for path, one in found.items()}

    before = seen()
    look: list[Callable[[], object]] = [
        lambda: run("detections", "list"),
        lambda: run("detections", "show", "1000"),
        lambda: run("recordings", "count"),
    ]
    for one in look:
        one()

    assert seen() == before


def test_a_carriage_return_in_a_name_ends_no_line_of_a_table(sensor: Path, run: Run) -> None:
    paths = json.loads((sensor / "config" / "program.json").read_text())
    store = SqliteStore(Path(paths["paths"]["db_metadata"]))
    sound = recording(None, 0, deployment=deployment(name="Old\roak"))
    store.store_recording(sound)
    store.store_model_output(output(sound, detection(0.9, ("species", BAT, 0.9))))
    store.close()

    text = run("detections", "list", "--csv").stdout

    (row,) = csv.DictReader(io.StringIO(text, newline=""))
    assert row["deployment_name"] == "Old\roak"


# Clips


@pytest.fixture
def clipped(sensor: Path) -> Stream:
    """A sensor that keeps clips: one across two recordings, one in the second, one without any."""
    stream = Stream(sensor / "data")
    stream.record((0.95, 0.97))
    stream.record((0.6, 0.7))
    stream.record()
    stream.end()
    stream.manage()
    assert stream.kept_frames() == [(850, 1170), (1500, 1900)]
    return stream


def detections_in(run: Run) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = data_of(run("detections", "list", "--json"))
    return found


def test_what_is_left_of_a_clipped_recording_is_told(clipped: Stream, run: Run) -> None:
    listed = run("recordings", "list", "--state", "clipped", "--json")
    last, first = data_of(listed)
    shown = run("recordings", "show", last["recording_id"])
    told = data_of(run("recordings", "show", last["recording_id"], "--json"))
    detection_id = detections_in(run)[-1]["detection_id"]

    assert first["recording_state"] == last["recording_state"] == "clipped"
    assert "-0.150 to 0.170 s in" in shown.stdout
    assert [one["start_s"] for one in told["clips"]] == [-0.15, 0.5]
    assert "0.100 s into" in run("detections", "show", detection_id).stdout
    assert "2 s" in run("effort").stdout


def test_a_detection_is_played_and_drawn_from_its_clip(
    clipped: Stream, run: Run, played: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    last, first = detections_in(run)
    for one in (last, first):
        assert run("detections", "play", one["detection_id"]).exit_code == 0
    drawn = run("detections", "picture", first["detection_id"], "-o", str(tmp_path / "a.png"))

    lengths = [one / 8 for one in map(len, played)]
    assert sum(lengths) == pytest.approx(400 + 320, abs=4)  # ms: all of both clips
    assert "0.100 to 0.120 s" in drawn.stdout


def test_a_clipped_recording_is_played_drawn_and_copied_from_its_clips(
    clipped: Stream, run: Run, played: list[NDArray[np.float32]], tmp_path: Path
) -> None:
    recording_id = detections_in(run)[0]["recording_id"]
    run("recordings", "play", recording_id)
    drawn = run("recordings", "picture", recording_id, "-o", str(tmp_path / "a.png"))
    copied = run("recordings", "copy", str(tmp_path / "copies"))

    assert sum(map(len, played)) / 8 == pytest.approx(720, abs=4)
    assert "The first of 2 clips" in drawn.stdout
    assert "2 recordings are in" in copied.stdout
    assert "1 more no longer have a file" in copied.stderr
    copies = [json.loads(one.read_text()) for one in (tmp_path / "copies").glob("*.json")]
    assert (
        sorted(one["start_s"] for told in copies for one in told["detections"])
        == [pytest.approx(0.1)] * 2
    )


def test_what_a_clip_holds_can_be_reviewed(clipped: Stream, run: Run, tmp_path: Path) -> None:
    picture = tmp_path / "clip.png"
    words = ("review", "next", "--reviewer", "Ana", "--all", "--picture", str(picture))

    result = run(*words, input="rw")

    assert "2 of 2 clips reviewed" in result.stdout, (result.stderr, result.exception)
    assert picture.exists()
