"""Formatting values for pages."""

from typing import Any, cast
from uuid import UUID

import pytest

from acoupi.data import Analysis, AnalysisState, RecordingState
from acoupi.web import shown

STATE = AnalysisState
FATES: dict[str, tuple[int, str, dict[str, Any] | None]] = {
    "waits for its analysis": (0, "captured", None),
    "bats is analysing it now": (0, "captured", {"state": STATE.RUNNING}),
    "bats will try again: no memory": (
        0, "captured", {"state": STATE.RETRY, "error": "no memory"}
    ),
    "bats failed: no memory; file kept": (
        0, "kept", {"state": STATE.FAILED, "error": "no memory"}
    ),
    "not analysed by bats: a processing filter refused it; file deleted, by the saving filters or "
    "for lack of room": (0, "deleted", {"state": STATE.SKIPPED}),
    "nothing found; file deleted, by the saving filters or for lack of room": (
        0, "deleted", {"state": STATE.DONE}
    ),
    "3 found; clips kept in place of the file": (3, "clipped", {"state": STATE.DONE}),
    "3 found; file kept": (3, "kept", {"state": STATE.DONE}),
    "3 found; its file disappeared; acoupi did not delete it": (3, "lost", {"state": STATE.DONE}),
}  # fmt: skip


@pytest.mark.parametrize("words", FATES)
def test_what_became_of_a_recording_is_told_with_the_reason(words: str) -> None:
    number, state, analysis = FATES[words]
    row = cast("Any", {"detection_count": number, "recording_state": state})
    found = analysis and Analysis(recording_id=UUID(int=1), name_model="bats", **analysis)

    assert shown.fate(row, [found] if found else []) == words


def test_every_state_of_a_recording_has_words() -> None:
    for state in RecordingState:
        shown.fate(cast("Any", {"detection_count": 1, "recording_state": state.value}), [])


def test_an_hour_has_the_shade_of_its_share_and_says_it() -> None:
    hours = [
        {"hour": 0, "captured_share": 1.0, "recorded_s": 60},
        {"hour": 1, "captured_share": 0.5, "recorded_s": 30},
        {"hour": 2, "captured_share": 0.0, "recorded_s": 0},
        {"hour": 3, "captured_share": None, "recorded_s": 0},
    ]
    told = shown.effort(
        {"days": [{"hours": hours}], "holes": [], "states_s": {"recorded": 90.0, "overrun": 0.0}}
    )

    (day,) = told["days"]
    assert [one["level"] for one in day["hours"][:5]] == ["8", "4", "none", "idle", "outside"]
    assert day["hours"][1]["says"] == "01:00: 50.000 %"
    assert told["states"] == [("recorded", 90.0)]


def test_of_many_gaps_the_longest_are_shown_in_order_of_time() -> None:
    holes = [{"start": f"{number:03}", "lost_s": float(number)} for number in range(100)]

    told = shown.effort({"days": [], "holes": holes, "states_s": {}})

    assert [one["start"] for one in told["holes"]] == [f"{number:03}" for number in range(70, 100)]
    assert told["more_holes"] == 70
