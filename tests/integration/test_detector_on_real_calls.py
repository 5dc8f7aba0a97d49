"""The reference model on recordings of real bats, at its default settings.

The recordings are CC BY-NC and not part of the project: they are looked for in
``../shared/audio`` beside it, or where ACOUPI_TEST_AUDIO says.
"""

import json
import os
import sys
from pathlib import Path

import pytest

from acoupi import data
from acoupi.audio.formats import read_info
from acoupi.components.models import BandEnergyModel

# Read when this module is: the tests themselves run without any ACOUPI_ variable.
AUDIO = Path(
    os.environ.get("ACOUPI_TEST_AUDIO") or Path(__file__).parents[2] / ".." / "shared" / "audio"
)


def say(line: str) -> None:
    """Show a figure (pytest -s, or with a failure)."""
    sys.stdout.write(f"{line}\n")


def recordings() -> list[Path]:
    files = sorted(AUDIO.glob("*.wav"))
    if not files and os.environ.get("CI"):
        pytest.fail(f"no recordings in {AUDIO}: set ACOUPI_TEST_AUDIO to their folder")
    if not files:
        pytest.skip("the bat recordings are not here (ACOUPI_TEST_AUDIO says where)")
    return files


def boxes_of(path: Path) -> list[data.BoundingBox]:
    info = read_info(path)
    recording = data.Recording(
        path=path,
        duration=info.duration,
        samplerate=info.samplerate,
        deployment=data.Deployment(name="test"),
    )
    found = BandEnergyModel().run(recording).detections
    return [detection.location for detection in found if detection.location is not None]


def calls_of(path: Path) -> list[data.BoundingBox]:
    """What the annotations call a call: det_prob of at least one half."""
    annotations = json.loads(Path(f"{path}.json").read_text())["annotation"]
    return [
        data.BoundingBox.from_coordinates(
            call["start_time"], call["low_freq"], call["end_time"], call["high_freq"]
        )
        for call in annotations
        if call["det_prob"] >= 0.5
    ]


def meet(one: data.BoundingBox, other: data.BoundingBox) -> bool:
    """Whether two boxes share some time and some frequency."""
    start, low, end, high = one.coordinates
    other_start, other_low, other_end, other_high = other.coordinates
    return start < other_end and other_start < end and low < other_high and other_low < high


def overlap(one: data.BoundingBox, other: data.BoundingBox) -> float:
    """Intersection over union."""
    start, low, end, high = one.coordinates
    other_start, other_low, other_end, other_high = other.coordinates
    shared = max(0.0, min(end, other_end) - max(start, other_start)) * max(
        0.0, min(high, other_high) - max(low, other_low)
    )
    areas = (end - start) * (high - low) + (other_end - other_start) * (other_high - other_low)
    return shared / (areas - shared)


def test_the_calls_of_real_bats_are_found_and_little_else() -> None:
    calls = found = detections = 0
    for path in recordings():
        boxes, here = boxes_of(path), calls_of(path)
        hits = sum(any(meet(box, call) for box in boxes) for call in here)
        say(f"{path.name}: {hits} of {len(here)} calls, {len(boxes)} detections")
        calls, found, detections = calls + len(here), found + hits, detections + len(boxes)

    ratio = detections / calls
    say(f"all: {found} of {calls} calls, {detections} detections, {ratio:.2f} for each call")
    assert calls == 33
    assert found == 33
    assert detections <= 3 * calls


def test_boxes_of_real_calls_are_tight() -> None:
    best = [
        max(overlap(box, call) for box in boxes_of(path))
        for path in recordings()
        for call in calls_of(path)
    ]

    assert sum(share >= 0.3 for share in best) >= 28


def test_boxes_of_real_calls_are_not_just_large() -> None:
    """A box over everything overlaps every call; these share a good part with theirs."""
    longest = max(
        box.coordinates[2] - box.coordinates[0] for path in recordings() for box in boxes_of(path)
    )

    assert longest < 0.1  # of 0.5 s; the longest call (a horseshoe bat's) lasts 0.062 s
