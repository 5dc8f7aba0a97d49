"""The R on the page of reading results is run, and counts as acoupi does."""

import csv
import datetime
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import acoupi
from acoupi import data
from acoupi.components.stores.reader import SqliteReader
from acoupi.heard import Filters, Verdict, VerdictRow
from tests.services import require, require_program
from tests.stores import at, detection, output, recording
from tests.web.heard_home import BAT, OAK, POND, set_up, store_of

PAGE = Path(acoupi.__path__[0]) / "docs" / "howto" / "r-and-python.md"
BLOCKS = re.findall(r"^```r\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
RARE = "Barbastella barbastellus"

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A home: two sites in one night, a rare species at one, a detection found wrong."""
    settings = set_up(tmp_path / ".acoupi")
    store = store_of(settings)
    late = recording(None, 86_400 - 60, duration=2, deployment=OAK)
    store.store_recording(late)
    found = detection(0.9, ("species", RARE, 0.9)), detection(0.4, ("species", BAT, 0.9))
    store.store_model_output(output(late, *found))
    with SqliteReader(store.db_path) as reader:
        bat = next(reader.detections(Filters(species=frozenset([BAT]), min_score=0.7)))
    store.add_verdict(VerdictRow(bat.recording.id, bat.id, Verdict.WRONG, None, "ana", "", at(0)))
    store.close()
    return tmp_path


def run(folder: Path, code: str) -> None:
    """Run R code far from the sites: the nights are theirs, not those of the computer."""
    here = {"LC_ALL": "C.UTF-8", "TZ": "America/Lima", "HOME": str(folder)}
    done = subprocess.run(
        [require_program("Rscript"), "-e", code],
        cwd=folder, env={**os.environ, **here}, timeout=120,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    missing = re.search(r"no package called .(\w+)", done.stderr)
    require(f"the R package {missing and missing[1]} is not installed", missing is None)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr


def table(folder: Path, code: str, name: str) -> list[dict[str, str]]:
    """Run R, and return the data frame of that name as it is then."""
    keep = f'write.csv({name}, "kept.csv", row.names = FALSE)'
    run(folder, f"{code}\n{keep}\n")
    with (folder / "kept.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_r_counts_what_acoupi_counts_night_by_night(folder: Path) -> None:
    export = [str(Path(sys.executable).with_name("acoupi")), "export", "csv", "-o", "heard"]
    environ = {**os.environ, "ACOUPI_HOME": str(folder / ".acoupi")}
    subprocess.run(export, cwd=folder, env=environ, check=True, capture_output=True, timeout=120)
    with SqliteReader(folder / ".acoupi" / "data" / "metadata.db") as reader:
        right = [
            one
            for one in reader.detections(Filters(min_score=0.6))
            if one.verdict is None or one.verdict.verdict is not Verdict.WRONG
        ]
        recordings = list(reader.recordings(Filters()))

    rows = table(folder, BLOCKS[0], "table")

    expected = Counter(
        (one.recording.deployment.name, night(one.started_on), name_of(one.species))
        for one in right
    )
    printed = {(row["site"], row["night"], row["species"]): int(row["count"]) for row in rows}
    listened: Counter[tuple[str, str]] = Counter()
    for one in recordings:
        listened[one.deployment.name, night(one.started_on)] += one.duration_s
    assert len(printed) == len(rows) == len(listened) * len({key[2] for key in expected})
    assert {key: count for key, count in printed.items() if count} == expected
    assert printed[POND.name, "2024-06-02", RARE] == 0
    for row in rows:
        assert float(row["hours"]) * 3600 == pytest.approx(listened[row["site"], row["night"]])


def test_r_reads_the_database_as_acoupi_does(folder: Path) -> None:
    with SqliteReader(folder / ".acoupi" / "data" / "metadata.db") as reader:
        counted = reader.count_detections("species", Filters())

    rows = table(folder, BLOCKS[1], "species")

    assert {row["species"]: int(row["count"]) for row in rows} == counted


def night(time: datetime.datetime) -> str:
    """The evening of a night, in British summer time (the recordings are of June)."""
    return str((time + datetime.timedelta(hours=1 - 12)).date())


def name_of(tag: data.PredictedTag | None) -> str:
    assert tag is not None
    return tag.tag.value
