"""Saving filters: a recording is kept if at least one filter of a program accepts it.

The time of a recording is that of its first frame. Around dawn and dusk, instants
are compared, not times of day, at the place of the recording's deployment (the
reference city of the time zone if it has no coordinates). Where there is no dawn
or dusk for weeks, a filter around them accepts nothing; see `acoupi.sun`.

Filters of detections refuse a recording without outputs. The file management task
does not ask them where no model has analysed it (`judges_detections`).
"""

import datetime
from typing import ClassVar

from acoupi import data, sun
from acoupi.components.recording_conditions import is_time_in_interval
from acoupi.components.types import RecordingSavingFilter

__all__ = [
    "After_DawnDuskTimeInterval",
    "Before_DawnDuskTimeInterval",
    "DetectionTagValue",
    "DetectionTags",
    "FrequencySchedule",
    "SaveIfInInterval",
    "SavingThreshold",
]

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


class SaveIfInInterval(RecordingSavingFilter):
    """Keeps recordings made between two local times of day.

    Parameters
    ----------
    interval
        Times of day in `timezone`; see `is_time_in_interval` for its ends.
    timezone
        Time zone of the interval.
    """

    def __init__(self, interval: data.TimeInterval, timezone: datetime.tzinfo) -> None:
        self.interval = interval
        self.timezone = timezone

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether the recording began in the interval."""
        local = recording.created_on.astimezone(self.timezone)
        return is_time_in_interval(local.time(), self.interval)


class FrequencySchedule(RecordingSavingFilter):
    """Keeps the first minutes of each period.

    Minutes are counted from 1970-01-01 00:00 UTC. If the frequency divides 60,
    that is the minute of the (UTC) hour; if it divides a day, the minute of the
    UTC day; any other period simply continues across midnight.

    Parameters
    ----------
    duration
        Minutes to keep of each period; 0 keeps nothing, `frequency` or more everything.
    frequency
        Minutes from the start of one period to the next, greater than 0.
    """

    def __init__(self, duration: int, frequency: int) -> None:
        if frequency <= 0:
            raise ValueError(f"frequency must be greater than 0 minutes, not {frequency}")
        self.duration = duration
        self.frequency = frequency

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether the recording began in the minutes to keep."""
        into_round = (recording.created_on - _EPOCH) % datetime.timedelta(minutes=self.frequency)
        return into_round < datetime.timedelta(minutes=self.duration)


class _DawnDusk(RecordingSavingFilter):
    """Keeps recordings made on one side of dawn or dusk."""

    is_before: ClassVar[bool]

    def __init__(self, duration: float, timezone: datetime.tzinfo) -> None:
        if duration < 0:
            raise ValueError(f"duration must be 0 minutes or more, not {duration}")
        self.duration = duration
        self.timezone = timezone

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether a dawn or dusk is within `duration` of the recording's start."""
        location = sun.deployment_location(recording.deployment, self.timezone)
        margin = datetime.timedelta(minutes=self.duration)
        start = recording.created_on - (datetime.timedelta() if self.is_before else margin)
        end = start + margin
        return bool(sun.dawns(location, start, end) or sun.dusks(location, start, end))


class Before_DawnDuskTimeInterval(_DawnDusk):
    """Keeps recordings made shortly before dawn or dusk.

    Parameters
    ----------
    duration
        Minutes, 0 or more.
    timezone
        Its reference city stands for a deployment without coordinates.
    """

    is_before = True


class After_DawnDuskTimeInterval(_DawnDusk):
    """Keeps recordings made shortly after dawn or dusk.

    Parameters
    ----------
    duration, timezone
        As for `Before_DawnDuskTimeInterval`.
    """

    is_before = False


class SavingThreshold(RecordingSavingFilter):
    """Keeps recordings with a detection that reaches a score.

    Parameters
    ----------
    saving_threshold
        Lowest detection score, 0 to 1.
    """

    judges_detections = True

    def __init__(self, saving_threshold: float) -> None:
        self.saving_threshold = saving_threshold

    def has_confident_model_output(self, model_output: data.ModelOutput) -> bool:
        """Return whether a detection of this output reaches the score."""
        return any(d.detection_score >= self.saving_threshold for d in model_output.detections)

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether a detection reaches the score; without outputs, no."""
        return any(self.has_confident_model_output(output) for output in model_outputs or [])


class DetectionTagValue(RecordingSavingFilter):
    """Keeps recordings with a detection of one of some tag values, whatever the score.

    Parameters
    ----------
    values
        The values, e.g. species names; the key of the tag does not matter.
    """

    judges_detections = True

    def __init__(self, values: list[str]) -> None:
        self.values = values

    def has_confident_tagvalues(self, model_output: data.ModelOutput) -> bool:
        """Return whether a detection of this output has one of the values."""
        return any(
            predicted.tag.value in self.values
            for detection in model_output.detections
            for predicted in detection.tags
        )

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether a detection has one of the values; without outputs, no."""
        return any(self.has_confident_tagvalues(output) for output in model_outputs or [])


class DetectionTags(RecordingSavingFilter):
    """Keeps recordings with a detection and one of some tags that both reach a score.

    Parameters
    ----------
    tags
        The tags, key and value.
    saving_threshold
        Lowest detection score and lowest tag confidence, 0 to 1.
    """

    judges_detections = True

    def __init__(self, tags: list[data.Tag], saving_threshold: float = 0.5) -> None:
        self.tags = tags
        self.saving_threshold = saving_threshold

    def has_confident_tag(self, model_output: data.ModelOutput) -> bool:
        """Return whether such a detection is in this output."""
        return any(
            predicted.tag in self.tags and predicted.confidence_score >= self.saving_threshold
            for detection in model_output.detections
            if detection.detection_score >= self.saving_threshold
            for predicted in detection.tags
        )

    def should_save_recording(
        self, recording: data.Recording, model_outputs: list[data.ModelOutput] | None = None
    ) -> bool:
        """Return whether there is such a detection; without outputs, no."""
        return any(self.has_confident_tag(output) for output in model_outputs or [])
