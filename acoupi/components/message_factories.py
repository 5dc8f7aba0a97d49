"""Builders of messages: what to report about a model's output, and when to report nothing."""

import json
from collections.abc import Sequence

from acoupi import data, devices
from acoupi.components import types

__all__ = [
    "DetectionContent",
    "DetectionThresholdMessageBuilder",
    "FullModelOutputMessageBuilder",
]


class DetectionContent(data.ModelOutput):
    """The content of a message about detections, for its receivers."""

    device: str
    """Id of the device."""


class FullModelOutputMessageBuilder(types.MessageBuilder[[data.ModelOutput]]):
    """Report everything a model found, including that it found nothing.

    The content is the JSON of the model output: ids, recording with its
    deployment, detections with box, score and tags; how it was made as ``provenance``,
    where that is known; the share of the recordings around it that are analysed as
    ``analysed_fraction``, where it is not 1; and the id of the device as ``device``. Times are
    UTC and end in ``Z``. The recording's ``path`` is null: the file is moved or deleted soon
    after, and its ``id`` stays.
    """

    def build_message(self, model_output: data.ModelOutput) -> data.Message:
        """Return the whole output as a message."""
        return _detection_message(model_output)


class DetectionThresholdMessageBuilder(types.MessageBuilder[[data.ModelOutput]]):
    """Report the detections whose score is high enough.

    Parameters
    ----------
    detection_threshold
        Lowest detection score to report, 0 to 1.
    """

    def __init__(self, detection_threshold: float) -> None:
        self.detection_threshold = detection_threshold

    def build_message(self, model_output: data.ModelOutput) -> data.Message | None:
        """Return the detections above the threshold as a message; None if there are none.

        The message carries the id and the time of the given output, so that
        what a server received can be found in the store.
        """
        detections = self.filter_detections(model_output.detections)
        if not detections:
            return None
        return _detection_message(model_output.model_copy(update={"detections": detections}))

    def filter_detections(self, detections: Sequence[data.Detection]) -> list[data.Detection]:
        """Return those that reach the threshold and have a tag."""
        return [
            detection
            for detection in detections
            if detection.detection_score >= self.detection_threshold and detection.tags
        ]


def _detection_message(model_output: data.ModelOutput) -> data.Message:
    recording = model_output.recording.model_copy(update={"path": None})
    content = model_output.model_copy(update={"recording": recording}).model_dump(mode="json")
    for name in ("provenance", "analysed_fraction"):
        if content[name] is None:
            del content[name]
    content["device"] = devices.get_device_id()
    return data.Message(
        content=json.dumps(content, ensure_ascii=False, separators=(",", ":")),
        message_type=data.MessageType.DETECTION,
    )
