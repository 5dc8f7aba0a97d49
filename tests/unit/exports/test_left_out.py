"""Exports say which share of the recordings was analysed, so that counts can be scaled."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest

import acoupi
from acoupi import data
from acoupi.backlog import LeftOut
from acoupi.components import SqliteStore
from acoupi.exports.formats.camtrap import CamtrapDp
from acoupi.exports.formats.darwin_core import DarwinCore
from acoupi.exports.formats.tables import Csv
from tests.stores import SITE, at, detection, output, recording
from tests.unit.exports.heard import LAKE, OAK, exported
from tests.unit.exports.test_formats import rows_of

Found = dict[UUID, data.Detection]


@pytest.fixture
def folder(path: Path, found: Found, tmp_path: Path) -> Path:
    """One of the four recordings at the oak, each of 3 s, is left out."""
    store = SqliteStore(path)
    left_out = LeftOut(OAK.id, at(0), at(100), frozenset({UUID(int=5)}), "too many waited")
    assert store.leave_out(left_out, ["bats"]) == 1
    store.close()
    return tmp_path / "out"


def test_tables_have_the_share_in_every_row(path: Path, folder: Path) -> None:
    exported(path, Csv(), folder)

    for name in ("detections", "recordings"):
        rows = rows_of(folder / f"{name}.csv")
        shares = {(row["deployment_id"], row["analysed_fraction"]) for row in rows}
        assert shares == {(str(OAK.id), "0.75"), (str(LAKE.id), "1.0")}
    effort = rows_of(folder / "effort.csv")
    recorded = [
        (row["deploymentID"], row["analysedFraction"])
        for row in effort
        if row["state"] == "recorded"
    ]
    assert set(recorded) == {(str(OAK.id), "0.75"), (str(LAKE.id), "1")}


def test_darwin_core_counts_the_seconds_that_were_analysed(path: Path, folder: Path) -> None:
    exported(path, DarwinCore(), folder)

    event = rows_of(folder / "event.csv")[0]
    assert event["sampleSizeValue"] == "9.000"
    assert event["samplingEffort"] == (
        "12.000 s recorded of 30.000 s planned, 9.000 s of it analysed, chosen by time alone"
    )
    efforts = rows_of(folder / "humboldt.csv")
    assert [one["samplingEffortValue"] for one in efforts[:2]] == ["9.000", "9.000"]
    assert efforts[0]["samplingEffortProtocol"] == "seconds recorded and analysed, see effort.csv"


def test_camtrap_dp_says_it_of_the_deployment(path: Path, folder: Path) -> None:
    exported(path, CamtrapDp(), folder)

    oak, lake = rows_of(folder / "deployments.csv")
    assert "75.000 % of what was recorded is analysed" in oak["deploymentComments"]
    assert "analysed" not in lake["deploymentComments"]


@pytest.mark.parametrize(
    "analysed", [range(0, 180, 4), range(90, 180)], ids=["each 4th", "the newest"]
)
def test_the_rate_of_the_page_is_that_of_the_calls_whatever_was_left_out(
    tmp_path: Path, analysed: range
) -> None:
    """One call in each recording of 10 s: 360 an hour."""
    path = tmp_path / "metadata.db"
    store = SqliteStore(path)
    made = [recording(None, 10 * number, duration=10) for number in range(180)]
    for one in made:
        store.store_recording(one)
    for number in analysed:
        analysis = store.begin_analysis(made[number], "bats")
        store.store_model_output(output(made[number], detection(0.9, ("species", "bat", 0.9))))
        store.end_analysis(analysis.model_copy(update={"state": data.AnalysisState.DONE}))
    for start, end in ((0, 900), (900, 1800)):
        ids = [
            made[number].id for number in range(start // 10, end // 10) if number not in analysed
        ]
        store.leave_out(LeftOut(SITE.id, at(start), at(end), frozenset(ids), "slow"), ["bats"])
    store.close()
    page = (Path(acoupi.__file__).parent / "docs" / "backlog.md").read_text()
    found = re.search(r"SELECT species.*?GROUP BY species", page, re.DOTALL)
    assert found is not None

    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute(found[0]).fetchall()

    assert rows == [("bat", pytest.approx(360))]
