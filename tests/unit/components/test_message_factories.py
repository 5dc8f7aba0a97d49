"""What is said of a model's output."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acoupi import data, devices
from acoupi.components.message_factories import (
    DetectionThresholdMessageBuilder,
    FullModelOutputMessageBuilder,
)

DEPLOYMENT = data.Deployment(name="Pond", latitude=51.5, longitude=-0.1)
MYOTIS = data.PredictedTag(tag=data.Tag("species", "Myotis mystacinus"), confidence_score=0.9)


def detection(score: float, *tags: data.PredictedTag) -> data.Detection:
    return data.Detection(
        detection_score=score,
        tags=list(tags),
        location=data.BoundingBox.from_coordinates(0.1, 40_000, 0.2, 80_000),
    )


def output(*detections: data.Detection) -> data.ModelOutput:
    return data.ModelOutput(
        name_model="BatDetect2",
        detections=list(detections),
        created_on=datetime(2024, 8, 1, 20, 30, 9, tzinfo=UTC),
        recording=data.Recording(
            path=Path("spool/a.wav"),
            duration=3,
            samplerate=256_000,
            deployment=DEPLOYMENT,
            created_on=datetime(2024, 8, 1, 20, 30, tzinfo=UTC),
        ),
    )


def test_the_full_message_has_the_shape_that_servers_know() -> None:
    model_output = output(detection(0.8, MYOTIS))

    message = FullModelOutputMessageBuilder().build_message(model_output)

    content = json.loads(message.content)
    assert message.message_type is data.MessageType.DETECTION
    assert content.keys() == {
        "id",
        "name_model",
        "recording",
        "detections",
        "created_on",
        "device",
    }
    assert content["device"] == devices.get_device_id()
    assert content["recording"]["path"] is None  # the file is moved soon after
    assert content["recording"]["id"] == str(model_output.recording.id)
    assert content["recording"].keys() == {
        "created_on",
        "duration",
        "samplerate",
        "deployment",
        "path",
        "audio_channels",
        "time_expansion",
        "id",
    }
    assert content["created_on"] == "2024-08-01T20:30:09Z"
    assert content["recording"]["created_on"] == "2024-08-01T20:30:00Z"
    assert content["detections"] == [
        {
            "id": str(model_output.detections[0].id),
            "prediction_type": "presence",
            "location": {"type": "BoundingBox", "coordinates": [0.1, 40_000, 0.2, 80_000]},
            "detection_score": 0.8,
            "tags": [
                {
                    "tag": {"key": "species", "value": "Myotis mystacinus"},
                    "confidence_score": 0.9,
                }
            ],
        }
    ]


def test_the_full_message_also_says_that_nothing_was_found() -> None:
    message = FullModelOutputMessageBuilder().build_message(output())

    assert json.loads(message.content)["detections"] == []


def test_the_full_message_reads_back_as_the_output_it_was_made_of() -> None:
    model_output = output(detection(0.8, MYOTIS), detection(0.1))

    message = FullModelOutputMessageBuilder().build_message(model_output)

    read = data.ModelOutput.model_validate_json(message.content)
    read.recording.path = model_output.recording.path
    assert read == model_output


def test_nothing_sure_enough_is_no_message() -> None:
    builder = DetectionThresholdMessageBuilder(detection_threshold=0.5)

    assert builder.build_message(output(detection(0.49, MYOTIS))) is None
    assert builder.build_message(output()) is None


def test_a_detection_without_a_tag_says_nothing() -> None:
    builder = DetectionThresholdMessageBuilder(detection_threshold=0.5)

    assert builder.build_message(output(detection(0.9))) is None


def test_the_threshold_itself_is_sure_enough() -> None:
    builder = DetectionThresholdMessageBuilder(detection_threshold=0.5)

    assert builder.build_message(output(detection(0.5, MYOTIS))) is not None


def test_the_message_names_the_output_that_is_in_the_store() -> None:
    model_output = output(detection(0.9, MYOTIS), detection(0.2, MYOTIS))

    message = DetectionThresholdMessageBuilder(detection_threshold=0.5).build_message(model_output)

    assert message is not None
    content = json.loads(message.content)
    assert content["id"] == str(model_output.id)
    assert content["created_on"] == "2024-08-01T20:30:09Z"
    assert len(model_output.detections) == 2


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=8), st.floats(0, 1))
def test_the_message_holds_exactly_the_sure_and_tagged(
    drawn: list[tuple[float, bool]], threshold: float
) -> None:
    model_output = output(*(detection(s, *([MYOTIS] if tagged else [])) for s, tagged in drawn))

    message = DetectionThresholdMessageBuilder(threshold).build_message(model_output)

    expected = [
        str(d.id) for d in model_output.detections if d.detection_score >= threshold and d.tags
    ]
    sent = [d["id"] for d in json.loads(message.content)["detections"]] if message else []
    assert sent == expected


@pytest.mark.parametrize(
    "builder", [FullModelOutputMessageBuilder(), DetectionThresholdMessageBuilder(0)]
)
def test_a_message_is_utf_8_json(
    builder: FullModelOutputMessageBuilder | DetectionThresholdMessageBuilder,
) -> None:
    tag = data.PredictedTag(tag=data.Tag("species", "Großes Mausohr"))

    message = builder.build_message(output(detection(1, tag)))

    assert message is not None
    assert isinstance(message.content, str)
    assert (
        "Mausohr"
        in json.loads(message.content.encode().decode())["detections"][0]["tags"][0]["tag"]["value"]
    )
