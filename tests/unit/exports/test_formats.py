"""What every export promises, and formats read back by tools that others wrote."""

import csv
import errno
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID
from xml.etree import ElementTree

import crowsetta
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from soundevent import io

from acoupi import data
from acoupi.components.stores import SqliteReader, SqliteStore
from acoupi.errors import AcoupiError, ConfigurationError, DeviceError, ParameterError
from acoupi.exports.effort_report import measure, read_effort
from acoupi.exports.flat import (
    DETECTION_COLUMNS,
    RECORDING_COLUMNS,
    flat_detection,
    flat_recording,
)
from acoupi.exports.formats import FORMATS
from acoupi.exports.formats.aoef import Aoef
from acoupi.exports.formats.audacity import Audacity
from acoupi.exports.formats.birdnet import BirdNet
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.darwin_core import DarwinCore
from acoupi.exports.formats.kaleidoscope import Kaleidoscope
from acoupi.exports.formats.raven import Raven
from acoupi.exports.formats.tables import Csv
from acoupi.heard import Filters, Verdict
from tests.stores import at, deployment, detection, output, recording
from tests.unit.exports.heard import BAT, BIRD, LAKE, OAK, exported, review, utc

Found = dict[UUID, data.Detection]


def rows_of(path: Path, **options: Any) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, **options))


def contents(folder: Path) -> dict[str, bytes]:
    files = (one for one in folder.rglob("*") if one.is_file())
    return {str(one.relative_to(folder)): one.read_bytes() for one in files}


# Every format


@pytest.mark.parametrize("name", FORMATS)
def test_the_same_store_gives_the_same_bytes(path: Path, found: Found, name: str) -> None:
    for copy in ("one", "two"):
        exported(path, FORMATS[name](), path.parent / copy)

    one = contents(path.parent / "one")
    assert one == contents(path.parent / "two")
    assert {"effort.csv", "failures.csv"} < one.keys()


@pytest.mark.parametrize("name", FORMATS)
def test_a_rounded_place_is_nowhere_exact(path: Path, found: Found, name: str) -> None:
    exported(path, FORMATS[name](), path.parent / "out", precision=0.1)

    everything = b"".join(contents(path.parent / "out").values())
    assert b"51.50" not in everything
    assert b"0.127" not in everything


@pytest.mark.parametrize("name", FORMATS)
def test_a_deployment_without_anything_is_exported(path: Path, name: str) -> None:
    site = deployment(latitude=1, longitude=2, started_on=at(0), ended_on=at(60))
    store = SqliteStore(path)
    store.store_deployment(site)
    store.close()

    exported(path, FORMATS[name](), path.parent / "out")

    (span,) = rows_of(path.parent / "out" / "effort.csv")
    assert (span["deploymentID"], float(span["duration_s"])) == (str(site.id), 60)


@pytest.mark.parametrize("name", [name for name, one in FORMATS.items() if one.needs_coordinates])
def test_a_format_that_requires_coordinates_says_which_option_sets_them(
    path: Path, name: str
) -> None:
    store = SqliteStore(path)
    store.store_deployment(deployment(name="Somewhere", ended_on=at(60)))
    store.close()

    with pytest.raises(ParameterError, match="Somewhere") as error:
        exported(path, FORMATS[name](), path.parent / "out")

    assert "--latitude" in str(error.value.help)
    assert not (path.parent / "out").exists()
    exported(path, FORMATS[name](), path.parent / "out", place=(51.5, -0.1))


class Full:
    """A format for which the disk is full in the middle."""

    name = "full"
    purpose = "nobody"
    needs_coordinates = False

    def write(self, source: object, folder: Path) -> None:
        (folder / "half.csv").write_text("1,2")
        raise OSError(errno.ENOSPC, "No space left on device", str(folder / "half.csv"))


def test_a_full_disk_leaves_nothing_behind(path: Path, found: Found) -> None:
    before = sorted(path.parent.iterdir())

    with pytest.raises(DeviceError) as error:
        exported(path, Full(), path.parent / "out")

    assert "no space left" in str(error.value.why)
    assert sorted(path.parent.iterdir()) == before


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_nothing_is_overwritten(path: Path, found: Found, kind: str) -> None:
    out = path.parent / "out"
    if kind == "folder":
        out.mkdir()
    elif kind == "file":
        out.write_text("mine")
    else:
        out.symlink_to("nowhere")

    with pytest.raises(AcoupiError, match="already exists"):
        exported(path, Csv(), out)


def test_a_time_without_a_deployment_is_nothing_to_export(path: Path, found: Found) -> None:
    with pytest.raises(ConfigurationError, match="nothing to export"):
        exported(path, Csv(), path.parent / "out", Filters(until=at(-100)))
    assert not (path.parent / "out").exists()


# Effort


def test_effort_adds_up_to_what_the_report_says(path: Path, found: Found) -> None:
    exported(path, Csv(), path.parent / "out", Filters(min_score=0.99))

    rows = rows_of(path.parent / "out" / "effort.csv")
    with SqliteReader(path) as reader:
        report = measure(*read_effort(reader, OAK))
    own = [row for row in rows if row["deploymentID"] == str(OAK.id)]
    for state in data.EffortState:
        total = sum(float(row["duration_s"]) for row in own if row["state"] == state.value)
        assert total == pytest.approx(report.total.seconds(state), abs=1e-4)
    assert all(one["end"] == two["start"] for one, two in itertools.pairwise(own))
    assert {row["samplingFraction"] for row in own} == {"0.3"}
    errors = {(row["state"], row["clockError_s"]) for row in own if row["clockError_s"]}
    assert errors == {("recorded", "0.004")}
    failures = rows_of(path.parent / "out" / "failures.csv")
    lost = sum(float(row["lost_s"]) for row in failures if row["deploymentID"] == str(OAK.id))
    assert lost == pytest.approx(report.total.planned - report.total.recorded, abs=1e-4)


def test_an_open_deployment_ends_at_its_last_known_second(path: Path, found: Found) -> None:
    sites = exported(path, Csv(), path.parent / "out")

    assert [(one.deployment.name, one.is_open) for one in sites][1] == ("Lake", True)
    assert sites[1].ended_on == at(1023)
    last = rows_of(path.parent / "out" / "effort.csv")[-1]
    assert utc(last["end"]) == at(1023)


def test_only_the_chosen_time_and_site_are_exported(path: Path, found: Found) -> None:
    chosen = Filters(since=at(5), until=at(40), deployments=frozenset({OAK.id}))
    exported(path, Csv(), path.parent / "out", chosen)

    rows = rows_of(path.parent / "out" / "effort.csv")
    assert (utc(rows[0]["start"]), utc(rows[-1]["end"])) == (at(5), at(40))
    assert {row["deploymentID"] for row in rows} == {str(OAK.id)}
    assert len(rows_of(path.parent / "out" / "detections.csv")) == 3


@pytest.mark.parametrize("name", FORMATS)
def test_what_no_effort_accounts_for_is_left_out(path: Path, found: Found, name: str) -> None:
    """A recording that went on after its deployment had ended, and a later time is chosen."""
    store = SqliteStore(path)
    late = recording("late.wav", 99, deployment=OAK)
    box = data.BoundingBox.from_coordinates(2, 1, 3, 2)
    bat = detection(0.5, ("species", "Late bat", 0.5), location=box)
    store.store_recording(late)
    store.store_model_output(output(late, bat))
    store.close()
    review(path, bat.id, Verdict.RIGHT)

    exported(path, FORMATS[name](), path.parent / "out", Filters(since=at(100.5)))

    assert b"Late bat" not in b"".join(contents(path.parent / "out").values())
    assert {row["deploymentID"] for row in rows_of(path.parent / "out" / "effort.csv")} == {
        str(LAKE.id)
    }


# Tables


def test_the_columns_of_a_table_are_those_of_its_rows(path: Path, found: Found) -> None:
    with SqliteReader(path) as reader:
        row = next(reader.detections(Filters()))
    assert tuple(flat_detection(row)) == DETECTION_COLUMNS
    assert tuple(flat_recording(row.recording)) == RECORDING_COLUMNS


def test_csv_holds_each_row_once(path: Path, found: Found) -> None:
    id_ = next(iter(found))
    review(path, id_, Verdict.WRONG)
    exported(path, Csv(), path.parent / "out")

    rows = rows_of(path.parent / "out" / "detections.csv")
    assert sorted(row["detection_id"] for row in rows) == sorted(map(str, found))
    assert {row["deployment_name"] for row in rows} == {OAK.name, LAKE.name}
    assert [row["verdict"] for row in rows if row["detection_id"] == str(id_)] == ["wrong"]
    assert len(rows_of(path.parent / "out" / "recordings.csv")) == 6
    sites = rows_of(path.parent / "out" / "deployments.csv")
    assert [row["has_ended"] for row in sites] == ["true", "false"]
    (verdict,) = rows_of(path.parent / "out" / "verdicts.csv")
    assert (verdict["detection_id"], verdict["reviewer"]) == (str(id_), "Ana")


# Times, by file, as tools see them: a time-expanded file is 10 times as long.

TIMES = {
    "a": [(0.5, 0.6015), (2, 2.5)],
    'b "two" ñ': [(1, 1.2)],
    "20240601_200020_00000000": [(0, 3)],
    "x10": [(2.5, 3)],
    f"a-{UUID(int=5)}": [(0, 3)],
}


def times(path: Path, read: Callable[[Path], Any], suffix: str) -> dict[str, Any]:
    files = path.rglob(f"*{suffix}")
    return {one.name.removesuffix(suffix): read(one) for one in files}


def approx(pairs: Sequence[tuple[float, float]]) -> list[Any]:
    return [pytest.approx(pair, abs=1e-3) for pair in pairs]


@pytest.mark.filterwarnings("ignore:The inplace keyword")  # crowsetta with pandas 3.1
def test_crowsetta_reads_what_raven_reads(path: Path, found: Found) -> None:
    exported(path, Raven(), path.parent / "out")

    def read(file: Path) -> list[tuple[float, float]]:
        boxes = crowsetta.formats.bbox.Raven.from_file(file, annot_col="Species").to_bbox()
        return [(one.onset, one.offset) for one in boxes]

    seen = times(path.parent / "out" / "files", read, ".selections.txt")
    assert seen == {name: approx(pairs) for name, pairs in TIMES.items()}
    whole = crowsetta.formats.bbox.Raven.from_file(
        path.parent / "out" / "all.selections.txt", annot_col="Species"
    ).to_bbox()
    assert [one.label for one in whole] == [BAT, BIRD, "odd 'tag' name,", BAT, BIRD, BAT]
    assert [(one.low_freq, one.high_freq) for one in whole][-1] == (2_000, 6_000)
    table = rows_of(path.parent / "out" / "all.selections.txt", delimiter="\t")
    assert sorted(row["Detection ID"] for row in table) == sorted(map(str, found))
    assert [row["Selection"] for row in table] == [str(number) for number in range(1, 7)]


def test_crowsetta_reads_both_kinds_of_audacity_labels(path: Path, found: Found) -> None:
    exported(path, Audacity(), path.parent / "plain")
    exported(path, Audacity(boxes=True), path.parent / "boxes")

    def plain(file: Path) -> list[tuple[float, float]]:
        labels = crowsetta.formats.seq.AudSeq.from_file(file).to_seq()
        return list(zip(labels.onsets_s, labels.offsets_s, strict=True))

    def boxes(file: Path) -> list[tuple[float, float]]:
        found = crowsetta.formats.bbox.AudBBox.from_file(file).to_bbox()
        return [(one.onset, one.offset) for one in found]

    for kind, read in (("plain", plain), ("boxes", boxes)):
        seen = times(path.parent / kind, read, ".txt")
        assert seen == {name: approx(pairs) for name, pairs in TIMES.items()}


@pytest.mark.parametrize(
    ("name", "file", "columns"),
    [
        ("kaleidoscope", "id.csv", ("IN FILE", "OFFSET", "DURATION", "TOP1MATCH", "TOP1DIST")),
        (
            "birdnet",
            "BirdNET_CombinedTable.csv",
            ("File", "Start (s)", "End (s)", "Scientific name", "Confidence"),
        ),
    ],
)
def test_one_table_for_all_files(
    path: Path, found: Found, name: str, file: str, columns: tuple[str, ...]
) -> None:
    exported(path, FORMATS[name](), path.parent / "out")

    rows = [[row[one] for one in columns] for row in rows_of(path.parent / "out" / file)]
    starts = [float(row[1]) for row in rows]
    ends = [float(row[2]) + (start if name == "kaleidoscope" else 0)
            for row, start in zip(rows, starts, strict=True)]  # fmt: skip
    expected = [pair for name in ("a", 'b "two" ñ', "20240601_200020_00000000",
                                  f"a-{UUID(int=5)}", "x10") for pair in TIMES[name]]  # fmt: skip
    assert list(zip(starts, ends, strict=True)) == approx(expected)
    assert Path(rows[0][0]).name == "a.wav"
    assert rows[0][3] == BAT
    assert float(rows[0][4]) == pytest.approx(0.1 if name == "kaleidoscope" else 0.9)


# Any text

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)


@settings(max_examples=20, deadline=None)
@given(name=TEXTS, species=TEXTS)
def test_any_text_stays_in_its_cell(
    tmp_path_factory: pytest.TempPathFactory, name: str, species: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    site = deployment(name=name, latitude=1, longitude=2, ended_on=at(60))
    store = SqliteStore(folder / "metadata.db")
    sound = recording("a.wav", 0, deployment=site)
    store.store_recording(sound)
    store.store_model_output(output(sound, detection(0.5, ("species", species, 0.5))))
    store.close()

    kinds = (Csv(), Raven(), Audacity(boxes=True), Kaleidoscope(), BirdNet(), CamtrapDp(),
             DarwinCore(), Aoef())  # fmt: skip
    for one in kinds:
        exported(folder / "metadata.db", one, folder / one.name)

    (row,) = rows_of(folder / "csv" / "detections.csv")
    assert (row["deployment_name"], row["species"]) == (name, species)
    table = (folder / "raven" / "all.selections.txt").read_bytes().decode()
    assert [len(line.split("\t")) for line in table.removesuffix("\n").split("\n")] == [14, 14]
    labels = next(_texts(folder / "audacity"))
    assert [len(line.split("\t")) for line in labels.removesuffix("\n").split("\n")] == [3, 3]
    for table in ("kaleidoscope/id.csv", "birdnet/BirdNET_CombinedTable.csv",
                  "camtrap-dp/observations.csv", "darwin-core/occurrence.csv"):  # fmt: skip
        (row,) = rows_of(folder / table)
        assert None not in row.values()
    (row,) = rows_of(folder / "camtrap-dp" / "deployments.csv")
    assert row["locationName"] == name
    for file in ("meta.xml", "eml.xml"):
        ElementTree.parse(folder / "darwin-core" / file)
    (file,) = (folder / "aoef").glob("predictions-*.json")
    (clip,) = io.load(file, type="prediction_set").clip_predictions
    assert [tag.tag.value for tag in clip.sound_events[0].tags] == [species]


def _texts(folder: Path) -> Iterator[str]:
    return (one.read_bytes().decode() for one in folder.rglob("*.txt"))
