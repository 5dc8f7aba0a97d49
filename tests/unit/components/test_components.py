"""What is left: the cleaner, the scheduler, the trivial filter, the lazy package."""

import datetime
import re
import subprocess
import sys
from pathlib import Path

import pytest

from acoupi import components, data
from acoupi.components import (
    IntervalScheduler,
    ThresholdDetectionCleaner,
    TrivialProcessingFilter,
)
from acoupi.components.types import RecordingSavingFilter
from acoupi.testing import make_recording


def test_a_cleaner_keeps_a_detection_that_loses_its_tags() -> None:
    tag = data.PredictedTag(data.Tag("species", "a"), 0.1)
    detections = [
        data.Detection(detection_score=0.7, tags=[tag]),
        data.Detection(detection_score=0.4, tags=[data.PredictedTag(tag.tag, 0.9)]),
    ]
    output = data.ModelOutput(name_model="m", recording=make_recording(), detections=detections)

    cleaned = ThresholdDetectionCleaner(0.5).clean(output)

    assert [(d.id, d.tags) for d in cleaned.detections] == [(detections[0].id, [])]
    assert (cleaned.id, cleaned.created_on) == (output.id, output.created_on)


def test_a_cleaner_keeps_what_is_at_the_threshold() -> None:
    tag = data.PredictedTag(data.Tag("species", "a"), 0.5)
    detection = data.Detection(detection_score=0.5, tags=[tag])

    assert ThresholdDetectionCleaner(0.5).get_clean_detections([detection]) == [detection]


def test_an_interval_is_as_long_as_it_says() -> None:
    assert IntervalScheduler(10).time_until_next_recording() == 10
    assert IntervalScheduler(10).time_until_next_recording(data.utc_now()) == 10
    assert IntervalScheduler(10).interval == IntervalScheduler(10).timeinterval == 10
    with pytest.raises(ValueError, match="0 seconds or more"):
        IntervalScheduler(-5)


def test_the_trivial_filter_lets_everything_through() -> None:
    assert TrivialProcessingFilter().should_process_recording(make_recording())


def test_an_unknown_component_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Nope"):
        components.Nope  # noqa: B018


def test_importing_one_component_does_not_import_the_others() -> None:
    code = (
        "import sys; from acoupi.components import IsInInterval; from acoupi import tasks;"
        "tasks.generate_recording_task;"
        "print([m for m in ('sqlite3','requests','paho','numpy','celery') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


def test_the_saving_filter_of_the_readme_is_one() -> None:
    text = (Path(components.__file__).parent / "README.md").read_text()
    block = next(
        one for one in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "FirstOf" in one
    )
    names: dict[str, type[RecordingSavingFilter]] = {}
    exec(block, names)
    recording = make_recording()

    kept = [
        names["FirstOfHour"]().should_save_recording(
            recording.model_copy(
                update={"created_on": datetime.datetime(2026, 5, 1, 4, minute, tzinfo=datetime.UTC)}
            )
        )
        for minute in (0, 1)
    ]

    assert kept == [True, False]
