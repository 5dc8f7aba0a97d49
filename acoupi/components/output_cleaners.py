"""Cleaners: what to remove from a model's output before it is stored."""

from collections.abc import Sequence

from acoupi import data
from acoupi.components.types import ModelOutputCleaner

__all__ = ["ThresholdDetectionCleaner"]


class ThresholdDetectionCleaner(ModelOutputCleaner):
    """Keeps detections, and tags within them, that reach a score.

    A detection that loses all its tags stays.

    Parameters
    ----------
    detection_threshold
        Lowest score to keep, 0 to 1.
    """

    def __init__(self, detection_threshold: float) -> None:
        self.detection_threshold = detection_threshold

    def clean(self, model_output: data.ModelOutput) -> data.ModelOutput:
        """Return the output with the same id and time, and only what reaches the threshold."""
        detections = self.get_clean_detections(model_output.detections)
        return model_output.model_copy(update={"detections": detections})

    def get_clean_detections(self, detections: Sequence[data.Detection]) -> list[data.Detection]:
        """Return the detections that reach the threshold, each cleaned."""
        return [
            self.clean_detection(detection)
            for detection in detections
            if detection.detection_score >= self.detection_threshold
        ]

    def clean_detection(self, detection: data.Detection) -> data.Detection:
        """Return the detection with the same id, and only the tags that reach the threshold."""
        return detection.model_copy(update={"tags": self.get_clean_tags(detection.tags)})

    def get_clean_tags(self, tags: list[data.PredictedTag]) -> list[data.PredictedTag]:
        """Return the tags that reach the threshold."""
        return [tag for tag in tags if tag.confidence_score >= self.detection_threshold]
