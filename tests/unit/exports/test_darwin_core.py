"""Darwin Core archives, as python-dwca-reader sees them."""

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from dwca.read import DwCAReader

from acoupi import data
from acoupi.errors import ParameterError
from acoupi.exports.formats.darwin_core import HUMBOLDT, MULTIMEDIA, OCCURRENCE, DarwinCore
from acoupi.heard import Verdict
from tests.stores import at
from tests.unit.exports.heard import BAT, LAKE, OAK, exported, review, utc
from tests.unit.exports.test_formats import rows_of

DWC = "http://rs.tdwg.org/dwc/terms/"
ECO = "http://rs.tdwg.org/eco/terms/"
Found = dict[UUID, data.Detection]


def term(row: Any, name: str) -> str:
    return str(row.data[name if "/" in name else f"{DWC}{name}"])


@pytest.fixture
def folder(path: Path, found: Found) -> Path:
    return path.parent / "out"


def test_each_detection_is_an_occurrence_in_an_event(
    path: Path, found: Found, folder: Path
) -> None:
    exported(path, DarwinCore(), folder)

    with DwCAReader(str(folder)) as archive:
        events = list(archive)
        extended = [(event, row) for event in events for row in event.extensions]
    kinds = [term(event, "eventType") for event in events]
    assert kinds == ["Deployment", "SamplingOccasion"] * 2
    occurrences = {
        UUID(term(row, "occurrenceID")): (event, row)
        for event, row in extended
        if row.rowtype == OCCURRENCE.row_type
    }
    assert occurrences.keys() == found.keys()
    table = rows_of(folder / "occurrence.csv")
    assert len(table) == len(found)
    first, row = occurrences[next(iter(found))]
    assert (term(row, "scientificName"), term(row, "occurrenceStatus")) == (BAT, "present")
    start, end = term(row, "eventDate").split("/")
    assert (utc(start), utc(end)) == (at(0.625), at(0.7265))
    assert term(first, "parentEventID") == str(OAK.id)
    media = [row for _, row in extended if row.rowtype == MULTIMEDIA.row_type]
    assert len(media) == 5


def test_effort_is_in_every_event(path: Path, found: Found, folder: Path) -> None:
    exported(path, DarwinCore("hour"), folder)

    with DwCAReader(str(folder)) as archive:
        events = {event.id: event for event in archive}
        humboldt = {
            id_: [row for row in event.extensions if row.rowtype == HUMBOLDT.row_type]
            for id_, event in events.items()
        }
    oak = events[str(OAK.id)]
    assert (term(oak, "sampleSizeValue"), term(oak, "sampleSizeUnit")) == ("12.000", "second")
    assert term(oak, "samplingEffort") == "12.000 s recorded of 30.000 s planned"
    children = [one for one in events.values() if term(one, "parentEventID") == str(OAK.id)]
    assert [one.id for one in children] == [f"{OAK.id}:2024-06-01T20"]
    for id_, (effort,) in humboldt.items():
        assert term(effort, f"{ECO}samplingEffortValue") == term(events[id_], "sampleSizeValue")
        assert term(effort, f"{ECO}samplingEffortUnit") == "seconds"
        assert term(effort, f"{ECO}isAbsenceReported") == "false"
    lake = events[str(LAKE.id)]
    assert "has not ended" in term(lake, "eventRemarks")


@pytest.mark.parametrize(
    ("said", "species", "expected"),
    [
        (Verdict.RIGHT, None, (BAT, "verified", "present")),
        (Verdict.OTHER, "Myotis x", ("Myotis x", "verified as another species", "present")),
        (Verdict.WRONG, None, ("", "rejected", "present")),
        (Verdict.UNSURE, None, (BAT, "uncertain", "present")),
        (Verdict.WITHDRAWN, None, (BAT, "unverified", "present")),
    ],
)
def test_what_a_person_said_is_the_status_of_the_identification(
    path: Path, found: Found, folder: Path, said: Verdict, species: str | None, expected: Any
) -> None:
    id_ = next(iter(found))
    review(path, id_, said, species)
    exported(path, DarwinCore(), folder)

    (row,) = [row for row in rows_of(folder / "occurrence.csv") if row["occurrenceID"] == str(id_)]
    names = ("scientificName", "identificationVerificationStatus", "occurrenceStatus")
    assert tuple(row[name] for name in names) == expected
    assert ("Ana" in row["identifiedBy"]) == (said is not Verdict.WITHDRAWN)


def test_an_occasion_is_a_night_or_an_hour() -> None:
    with pytest.raises(ParameterError, match="week"):
        DarwinCore("week")  # type: ignore[arg-type]
