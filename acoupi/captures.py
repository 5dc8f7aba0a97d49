"""How a recording was captured, and the state of its microphone (see `acoupi.data`)."""

from dataclasses import dataclass
from enum import Enum
from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, ConfigDict, Field

from acoupi.deferred import DeferredModel

__all__ = [
    "CLIPPING",
    "LOWEST_DBFS",
    "OFFSET",
    "BootClock",
    "CaptureReport",
    "IncompleteReason",
    "MicrophoneHealth",
    "Overrun",
]


@dataclass(frozen=True, slots=True)
class Overrun:
    """Sound that was lost while the microphone was running."""

    frame: int
    """Frame of the stream (counted as `CaptureReport.first_frame`) that was lost first.

    Lost frames are counted, and the file holds silence in their place: times
    in it stay true.
    """
    frames: int
    """Number of frames lost, as estimated from the clocks; at least 0."""


LOWEST_DBFS = -200.0
"""The level of digital silence: below what 32-bit samples can hold, and a number that JSON has."""

CLIPPING, OFFSET = 0.001, 0.05
"""Limits from which a microphone counts as clipping, and as having an offset."""

Level = Annotated[float, BeforeValidator(lambda level: level if level > LOWEST_DBFS else -200.0)]
"""dB below full scale, 0 being the largest sample there is; no less than `LOWEST_DBFS`."""


class MicrophoneHealth(DeferredModel):
    """Signs of a faulty microphone, measured in a recording."""

    model_config = ConfigDict(frozen=True)

    rms_dbfs: Level
    """Root mean square without the DC offset, dB re full scale, of the loudest channel."""
    peak_dbfs: Level
    """Largest sample, dB re full scale."""
    clipped_share: float
    """Fraction of samples at full scale, 0 to 1."""
    dc_offset: float
    """Mean of the samples, full scale being 1; the channel where it is furthest from 0."""
    is_silent: bool
    """Whether the level is below the noise of any working microphone."""
    is_stuck: bool
    """Whether one value was repeated more often than any microphone would."""
    noise_floor_dbfs: Level
    """Level of the quietest moments, dB re full scale."""

    def faults(self) -> list[str]:
        """Return what is wrong, in words; empty if nothing is.

        Clipping counts from a share of 0.1 %, an offset from 5 % of full scale.
        """
        found = []
        if self.is_silent:
            found.append("silent")
        elif self.is_stuck:
            found.append("stuck at one value at times")
        if self.clipped_share >= CLIPPING:
            found.append(f"clipping {self.clipped_share * 100:.2g} %")
        if abs(self.dc_offset) >= OFFSET:
            found.append(f"DC offset {self.dc_offset * 100:.2g} %")
        return found


class IncompleteReason(str, Enum):
    """Why a recording is shorter than planned."""

    DEVICE_LOST = "device_lost"
    """The microphone was unplugged or stopped delivering samples."""
    DEVICE_LATE = "device_late"
    """The microphone was not open yet when the recording should have begun."""
    DISK_FULL = "disk_full"
    """The disk was full or could not be written to."""
    STOPPED = "stopped"
    """The recorder was asked to stop."""
    CRASHED = "crashed"
    """The recorder crashed or lost power; the file was repaired afterwards."""
    OTHER = "other"
    """The file states a reason that this version does not know."""


class BootClock(DeferredModel):
    """How a time of the monotonic clock was turned into UTC."""

    model_config = ConfigDict(frozen=True)

    boot_id: UUID
    """Id of the boot; the monotonic clock starts there."""
    offset_s: float
    """UTC, seconds since 1970, minus the monotonic clock, as the system clock was then."""


class CaptureReport(DeferredModel):
    """How a recording was cut from the stream of its microphone.

    Frames are counted from the opening of the stream, including lost ones.
    """

    model_config = ConfigDict(frozen=True)

    stream_id: UUID
    """The stream; recordings of one stream can be laid end to end by their frames."""
    first_frame: int
    """Frame of the stream at which the recording begins."""
    frames: int
    """Number of frames in its file, including lost ones, which are silence."""
    samplerate_measured: float | None
    """Frames per second of the monotonic clock, Hz; None until it is known."""
    clock_synchronised: bool | None
    """Whether the system clock was set by a time server or a GPS; None if it does not say."""
    clock_error_s: float | None
    """Error of the system clock by its own estimate, seconds; None if it gives none."""
    boot_clock: BootClock | None = None
    """Clock reading that `Recording.created_on` is based on; None if unknown."""
    clock_corrected_s: float = 0.0
    """Correction applied to `Recording.created_on` after the clock was set."""
    overruns: list[Overrun] = Field(default_factory=list)
    """Sound lost within it, oldest first."""
    gap_before_frames: int = 0
    """Frames of planned time that were lost between the recording before and this one."""
    incomplete: IncompleteReason | None = None
    """Why it is shorter than planned; None if it is complete."""
    incomplete_detail: str = ""
    """The same as text for people, e.g. the driver's message; may be empty."""
    health: MicrophoneHealth | None = None
    """None if it was not measured."""

    @property
    def incomplete_words(self) -> str | None:
        """Why it is shorter than planned, in words; None if it is complete."""
        if self.incomplete is None:
            return None
        return self.incomplete_detail or self.incomplete.value.replace("_", " ")
