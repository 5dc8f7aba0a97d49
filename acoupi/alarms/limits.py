"""The limits of the alarms: the section ``alarms`` of ``config/sensor.json``."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from acoupi.deferred import DeferredModel

__all__ = ["Alarms", "Key"]

Key = Literal[
    "cannot_record",
    "nothing_recorded",
    "effort_low",
    "microphone_silent",
    "microphone_stuck",
    "microphone_clipped",
    "microphone_offset",
    "microphone_deaf",
    "disk_low",
    "messages_old",
    "recordings_old",
    "clock_unknown",
    "clock_stepped",
    "store_damaged",
    "service_down",
    "service_restarts",
    "temperature_high",
    "voltage_low",
]
"""Names of the alarms."""


def _web_address(value: SecretStr) -> SecretStr:
    scheme, found, rest = value.get_secret_value().partition("://")
    if scheme not in ("http", "https") or not found or not rest.strip("/"):
        raise ValueError("must start with https:// or http:// and name a server")
    return value


class Alarms(DeferredModel):
    """Alarms: what the sensor reports about itself when something is wrong."""

    enabled: bool = Field(default=False, description="Whether the sensor looks for faults.")
    interval_seconds: float = Field(
        default=30, ge=1, le=3600, description="Seconds between two looks at the sensor."
    )
    ignored: list[Key] = Field(
        default_factory=list, description="Alarms that are never raised, by their names."
    )
    nothing_recorded_minutes: float = Field(
        default=10,
        gt=0,
        le=10_080,
        description="Minutes without a recording, counted from the first planned moment that was "
        "missed.",
    )
    effort_percent: float = Field(
        default=80,
        ge=0,
        le=100,
        description="Percent of the planned time of the last 24 hours that must be recorded.",
    )
    microphone_times: int = Field(
        default=5,
        ge=1,
        le=1000,
        description="Recordings in a row that must show a fault of the microphone.",
    )
    noise_floor_drop_db: float = Field(
        default=10,
        ge=3,
        le=100,
        description="How far the noise floor must fall below its own ten-day median for this hour "
        "of the day, dB.",
    )
    disk_hours: float = Field(
        default=24, ge=0, le=10_000, description="Hours until the disk is full at the current rate."
    )
    message_hours: float = Field(
        default=6, gt=0, le=10_000, description="Age of the oldest message not yet sent, hours."
    )
    recording_hours: float = Field(
        default=2, gt=0, le=10_000, description="Age of the oldest recording not analysed, hours."
    )
    clock_minutes: float = Field(
        default=10, ge=0, le=10_080, description="Minutes without a synchronised clock."
    )
    restarts_per_hour: int = Field(
        default=3, ge=1, le=1000, description="Restarts of one service within an hour."
    )
    temperature_celsius: float = Field(
        default=80, ge=0, le=200, description="Temperature of the board, degrees Celsius."
    )
    dead_mans_url: Annotated[SecretStr, AfterValidator(_web_address)] | None = Field(
        default=None,
        description="Address that is called only when there were new recordings since the last "
        "call, so that the server there raises the alarm when the calls stop.",
    )
