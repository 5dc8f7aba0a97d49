"""The saving filters of the built-in programs."""

import datetime
from typing import Self
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from acoupi import components, data
from acoupi.components import types
from acoupi.deferred import DeferredModel
from acoupi.programs.fields import TimeOfDay

__all__ = ["SaveRecordingFilter", "saving_filters"]


class SaveRecordingFilter(DeferredModel):
    """What to keep: a recording is kept if any of these accepts it."""

    starttime: TimeOfDay = Field(
        default=datetime.time(hour=18, minute=0, second=0),
        description="Keep recordings made from this local time of day...",
    )
    endtime: TimeOfDay = Field(
        default=datetime.time(hour=20, minute=0, second=0),
        description="...to this one. Before the start: over midnight.",
    )
    before_dawndusk_duration: int = Field(
        default=10, ge=0, description="Minutes to keep before dawn and before dusk; 0: none."
    )
    after_dawndusk_duration: int = Field(
        default=10, ge=0, description="Minutes to keep after dawn and after dusk; 0: none."
    )
    frequency_duration: int = Field(
        default=5, ge=0, description="Minutes to keep of every frequency_interval; 0: none."
    )
    frequency_interval: int = Field(
        default=30,
        ge=0,
        description="Minutes from the start of one stretch to the start of the next; 0: none.",
    )

    @model_validator(mode="after")
    def validate_frequency(self) -> Self:
        """Refuse to keep more minutes than an interval has."""
        if 0 < self.frequency_interval < self.frequency_duration:
            raise ValueError(
                f"frequency_interval ({self.frequency_interval} min) must be at least "
                f"frequency_duration ({self.frequency_duration} min)"
            )
        return self


def saving_filters(
    saving: SaveRecordingFilter | None, timezone: str
) -> list[types.RecordingSavingFilter]:
    """Return the filters of a section; without a section none, which keeps everything."""
    if saving is None:
        return []
    zone = ZoneInfo(str(timezone))
    interval = data.TimeInterval(start=saving.starttime, end=saving.endtime)
    filters: list[types.RecordingSavingFilter] = [components.SaveIfInInterval(interval, zone)]
    if saving.frequency_duration > 0 and saving.frequency_interval > 0:
        filters.append(
            components.FrequencySchedule(saving.frequency_duration, saving.frequency_interval)
        )
    if saving.before_dawndusk_duration > 0:
        filters.append(
            components.Before_DawnDuskTimeInterval(saving.before_dawndusk_duration, zone)
        )
    if saving.after_dawndusk_duration > 0:
        filters.append(components.After_DawnDuskTimeInterval(saving.after_dawndusk_duration, zone))
    return filters
