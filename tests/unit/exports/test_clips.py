"""What was found is where an export says, in the clip that is left of its recording."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from acoupi.components import SavingThreshold
from acoupi.components.stores import SqliteReader
from acoupi.exports.effort_report import measure, read_effort
from acoupi.exports.formats import FORMATS
from acoupi.exports.packages import export
from acoupi.heard import Filters, Verdict, VerdictRow
from tests.clips import BEGAN, RATE, SITE, Stream, numbers
from tests.unit.exports.heard import exported

FIRST_FRAMES = [950, 1300, 3020]
"""Where the detections that are kept begin; the last one's clip begins in the recording before."""


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Stream:
    stream = Stream(tmp_path_factory.mktemp("sensor"), filters=[SavingThreshold(0.8)])
    stream.record((0.95, 0.97), (0.1, 0.2, 0.3))
    stream.record((0.3, 0.4))
    stream.record()
    stream.record((0.02, 0.05))
    stream.end()
    stream.manage()
    assert stream.kept_frames() == [(850, 1170), (1200, 1600), (2920, 3250)]
    return stream


def rows_of(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def frame_at(path: Path, seconds: float) -> int:
    return numbers(path)[round(seconds * RATE)]


def starts_in_raven(folder: Path) -> Iterator[tuple[Path, float]]:
    for row in rows_of(folder / "all.selections.txt", "\t"):
        if row["Begin Path"]:
            yield Path(row["Begin Path"]), float(row["File Offset (s)"])


def starts_in_kaleidoscope(folder: Path) -> Iterator[tuple[Path, float]]:
    for row in rows_of(folder / "id.csv"):
        if row["INDIR"]:
            yield Path(row["INDIR"]) / row["IN FILE"], float(row["OFFSET"])


def starts_in_birdnet(folder: Path) -> Iterator[tuple[Path, float]]:
    for row in rows_of(folder / "BirdNET_CombinedTable.csv"):
        if Path(row["File"]).is_absolute():
            yield Path(row["File"]), float(row["Start (s)"])


def starts_in_camtrap(folder: Path) -> Iterator[tuple[Path, float]]:
    media = {row["mediaID"]: folder / row["filePath"] for row in rows_of(folder / "media.csv")}
    for row in rows_of(folder / "observations.csv"):
        tags = dict(one.split(":") for one in row["observationTags"].split(" | "))
        if row["mediaID"]:
            yield media[row["mediaID"]], float(tags["startInRecording_s"])


def starts_in_aoef(folder: Path) -> Iterator[tuple[Path, float]]:
    [file] = folder.glob("predictions-*.json")
    found = json.loads(file.read_text())["data"]
    paths = {one["uuid"]: folder / "audio" / one["path"] for one in found["recordings"]}
    for one in found["sound_events"]:
        path = paths[one["recording"]]
        if path.exists():
            yield path, one["geometry"]["coordinates"][0]


def starts_in_csv(folder: Path) -> Iterator[tuple[Path, float]]:
    for row in rows_of(folder / "detections.csv"):
        if row["clip_path"]:
            yield Path(row["clip_path"]), float(row["start_in_clip_s"])


STARTS = {
    "raven": starts_in_raven,
    "kaleidoscope": starts_in_kaleidoscope,
    "birdnet": starts_in_birdnet,
    "camtrap-dp": starts_in_camtrap,
    "aoef": starts_in_aoef,
    "csv": starts_in_csv,
}


@pytest.mark.parametrize("name", STARTS)
def test_each_detection_is_where_the_export_says_in_the_file_that_it_names(
    stream: Stream, tmp_path: Path, name: str
) -> None:
    exported(stream.path, FORMATS[name](), tmp_path / "out", audio=True)

    found = list(STARTS[name](tmp_path / "out"))

    assert sorted(frame_at(path, seconds) for path, seconds in found) == FIRST_FRAMES
    copies = sorted(path.name for path in (tmp_path / "out" / "audio").iterdir())
    assert copies == sorted(path.name for path in stream.files())


def test_a_detection_that_has_no_clip_is_exported_without_a_file(
    stream: Stream, tmp_path: Path
) -> None:
    exported(stream.path, FORMATS["camtrap-dp"](), tmp_path / "out")

    levels = [row["observationLevel"] for row in rows_of(tmp_path / "out" / "observations.csv")]
    assert sorted(levels) == ["event", "media", "media", "media"]
    assert len(rows_of(tmp_path / "out" / "media.csv")) == 3


def test_a_clip_of_two_recordings_is_one_file_with_what_was_found_in_both(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.record((0.5, 0.95), (0.6, 0.7))
    stream.record((0.1, 0.2))
    stream.end()
    stream.manage()
    exported(stream.path, FORMATS["camtrap-dp"](), tmp_path / "camtrap")
    exported(stream.path, FORMATS["raven"](), tmp_path / "raven")

    [medium] = rows_of(tmp_path / "camtrap" / "media.csv")
    found = rows_of(tmp_path / "camtrap" / "observations.csv")
    assert [row["mediaID"] for row in found] == [medium["mediaID"]] * 3
    [table] = (tmp_path / "raven" / "files").rglob("*.txt")
    offsets = [float(row["File Offset (s)"]) for row in rows_of(table, "\t")]
    assert [frame_at(stream.files()[0], one) for one in offsets] == [500, 600, 1100]


def test_the_time_of_a_detection_is_the_same_with_a_clip(stream: Stream, tmp_path: Path) -> None:
    exported(stream.path, FORMATS["darwin-core"](), tmp_path / "out")

    times = [row["eventDate"] for row in rows_of(tmp_path / "out" / "occurrence.csv")]
    assert sorted(one[11:26] for one in times) == [
        "20:00:00.100000", "20:00:00.950000", "20:00:01.300000", "20:00:03.020000",
    ]  # fmt: skip
    media = rows_of(tmp_path / "out" / "multimedia.csv")
    assert sorted(row["created"][11:26] for row in media) == [
        "20:00:00.850000", "20:00:01.200000", "20:00:02.920000",
    ]  # fmt: skip


def test_effort_says_what_was_given_up_and_stays_the_same(stream: Stream, tmp_path: Path) -> None:
    exported(stream.path, FORMATS["csv"](), tmp_path / "out")
    with SqliteReader(stream.path) as reader:
        report = measure(*read_effort(stream.store, reader.get_deployments()[0]))

    rows = rows_of(tmp_path / "out" / "effort.csv")

    assert report.total.recorded == 4
    assert sum(float(row["givenUp_s"]) for row in rows) == pytest.approx(4 - 0.32 - 0.4 - 0.33)
    assert {row["givenUp_s"] for row in rows if row["state"] != "recorded"} == {"0.000000"}
    deleted, in_clips = stream.store.get_given_up(SITE, report.since, report.until)
    assert (deleted, in_clips) == (4, pytest.approx(0.32 + 0.4 + 0.33))


def test_effort_says_where_the_microphone_was_suspect(stream: Stream, tmp_path: Path) -> None:
    with SqliteReader(stream.path) as reader:
        times = [(BEGAN.replace(second=1), BEGAN.replace(second=3))]
        export(FORMATS["csv"](), reader, Filters(), tmp_path / "out", suspect=times)

    rows = rows_of(tmp_path / "out" / "effort.csv")

    assert sum(float(row["microphoneSuspect_s"]) for row in rows) == 2


def test_notes_of_verdicts_are_in_the_table_of_detections(tmp_path: Path) -> None:
    stream = Stream(tmp_path)
    stream.record((0.5, 0.6), (0.7, 0.8))
    with SqliteReader(stream.path) as reader:
        row = next(reader.detections(Filters()))
    said = VerdictRow(row.recording.id, row.id, Verdict.RIGHT, None, "Ana", "feeding buzz", BEGAN)
    stream.store.add_verdict(said)
    exported(stream.path, FORMATS["csv"](), tmp_path / "out")

    notes = [one["verdict_note"] for one in rows_of(tmp_path / "out" / "detections.csv")]
    assert notes == ["feeding buzz", ""]
