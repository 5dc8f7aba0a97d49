"""Recordings and detections, read side by side while the sensor stores more of both."""

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from acoupi import data
from acoupi.components.stores import SqliteReader
from acoupi.errors import ParameterError
from acoupi.exports.source import Source, with_coordinates
from acoupi.heard import DetectionRow, Filters, RecordingRow
from tests.stores import SITE, at

BAT = data.PredictionType.EVENT


def sound(number: int, seconds: float) -> RecordingRow:
    state = data.RecordingState.KEPT
    return RecordingRow(UUID(int=number), SITE, at(seconds), 3, 48_000, 1, 1, None, state)


def heard(number: int, recording: RecordingRow) -> DetectionRow:
    id_ = UUID(int=number)
    return DetectionRow(id_, recording, id_, "bats", at(9), None, BAT, None, 0.5, ())


class Rows(SqliteReader):
    """A reader of two streams that saw the store at different moments."""

    def __init__(self, recordings: list[RecordingRow], detections: list[DetectionRow]) -> None:
        self._rows = recordings, detections

    def recordings(self, *_: object, **__: object) -> Iterator[RecordingRow]:
        return iter(self._rows[0])

    def detections(self, *_: object, **__: object) -> Iterator[DetectionRow]:
        return iter(self._rows[1])


A, B, C, D = sound(1, 0), sound(2, 10), sound(3, 10), sound(4, 20)


@pytest.mark.parametrize(
    ("recordings", "detections", "expected"),
    [
        ([], [], []),
        ([A, B, C, D], [], [(1, []), (2, []), (3, []), (4, [])]),
        ([], [heard(7, A), heard(8, D)], [(1, [7]), (4, [8])]),
        ([A, D], [heard(7, A), heard(8, A), heard(9, D)], [(1, [7, 8]), (4, [9])]),
        ([B, C], [heard(7, C), heard(8, B)], [(2, [8]), (3, [7])]),
        ([B], [heard(7, A), heard(8, C), heard(9, D)], [(1, [7]), (2, []), (3, [8]), (4, [9])]),
        ([A, D], [heard(8, B), heard(9, C)], [(1, []), (2, [8]), (3, [9]), (4, [])]),
    ],
)
def test_each_recording_comes_once_with_all_that_was_found_in_it(
    recordings: list[RecordingRow],
    detections: list[DetectionRow],
    expected: list[tuple[int, list[int]]],
) -> None:
    source = Source(Rows(recordings, detections), Filters(), [])

    found = [(one.id.int, [row.id.int for row in rows]) for one, rows in source.recordings()]
    assert found == expected


def test_a_row_has_the_place_that_others_may_see(path: Path, found: dict[UUID, object]) -> None:
    with SqliteReader(path) as reader:
        source = Source(reader, Filters(), [], precision=0.5)
        rows = list(source.detections())
        recordings = [one for one, _ in source.recordings()]

    places = {
        (row.recording.deployment.latitude, row.recording.deployment.longitude) for row in rows
    }
    assert places == {(51.5, 0), (52, 0.5)}
    assert {one.deployment.latitude for one in recordings} == {51.5, 52}


def test_a_place_must_be_on_the_map() -> None:
    with pytest.raises(ParameterError, match="91"):
        with_coordinates(SITE, None, (91, 0))
