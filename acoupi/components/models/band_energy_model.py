"""The model of `band_energy`, for programs.

Every worker of a program creates it, and only one runs it: only there are the
detector and numpy imported.
"""

from typing import Self

from pydantic import Field, model_validator

from acoupi import data
from acoupi.components import types
from acoupi.deferred import DeferredModel
from acoupi.errors import AudioError, HealthCheckError

__all__ = ["BandEnergyConfig", "BandEnergyModel"]


class BandEnergyConfig(DeferredModel):
    """Settings of the band-energy detector."""

    min_snr_db: float = Field(default=10, ge=8, le=60)
    """How far a sound must be above the background at its strongest, dB."""
    low_freq: float | None = Field(default=None, ge=0)
    """Lowest frequency to search, Hz; None: a hundredth of half the samplerate, or 15 kHz at
    rates of 96 kHz and more."""
    high_freq: float | None = Field(default=None, gt=0)
    """Highest frequency to search, Hz; None: half the samplerate."""

    @model_validator(mode="after")
    def validate_band(self) -> Self:
        """Refuse a band without width."""
        if self.high_freq is not None and self.high_freq <= (self.low_freq or 0):
            raise ValueError("high_freq must be above low_freq")
        return self


class BandEnergyModel(types.Model):
    """Finds sounds that rise above the background (see `acoupi.components.models.detect`).

    Parameters
    ----------
    config
        None: the defaults.
    name
        Name its outputs are filed under; two of them on one sensor need
        different names.
    """

    def __init__(self, config: BandEnergyConfig | None = None, *, name: str = "BandEnergy") -> None:
        self.config = config or BandEnergyConfig()
        self.name = name

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Return the sounds in a recording, in order of start time.

        ``created_on`` is when the analysis began. The channels are mixed first
        (their mean), so that each sound is reported once; sound in opposite
        phase on two channels is lost. What the recorder lost (`Recording.lost_frames`)
        is neither background nor sound.

        Raises
        ------
        AudioError
            If the recording has no file, or it cannot be read.
        """
        from acoupi.components.models import band_energy  # noqa: PLC0415 - brings numpy

        started_on = data.utc_now()
        if recording.path is None:
            raise AudioError(
                f"cannot look for sounds in recording {recording.id}.",
                why="its file was deleted or lost.",
            )
        read, count, file_rate = band_energy.open_sound(recording.path)
        found = band_energy.find(
            read,
            count,
            _true_samplerate(recording, file_rate),
            self.config.min_snr_db,
            low_freq=self.config.low_freq,
            high_freq=self.config.high_freq,
            lost=recording.lost_frames,
        )
        return data.ModelOutput(
            name_model=self.name, recording=recording, detections=found, created_on=started_on
        )

    def check(self) -> None:
        """Look for a tone burst in noise.

        Raises
        ------
        HealthCheckError
            If it is not found, or anything else is: numpy gives wrong results
            on this machine.
        """
        import numpy as np  # noqa: PLC0415 - workers that run no model do without

        from acoupi.components.models.band_energy import detect  # noqa: PLC0415 - as above

        rng = np.random.default_rng(0)
        samples = 0.01 * rng.standard_normal(48_000)
        samples[24_000:28_800] += 0.1 * np.sin(0.2 * np.pi * np.arange(4_800))
        found = detect(samples.astype(np.float32), 48_000)
        if len(found) != 1:
            raise HealthCheckError(
                f'the model "{self.name}" found {len(found)} sounds where there is one.',
                why="numpy gives wrong results on this machine.",
                help="pip install --force-reinstall numpy",
            )


def _true_samplerate(recording: data.Recording, file_rate: int) -> float:
    """Return the samplerate of the original sound, Hz.

    The file decides. But its header holds whole numbers, so for 44,100 Hz
    slowed down 8 times it gives 5,512.
    """
    if int(recording.samplerate / recording.time_expansion) == file_rate:
        return recording.samplerate
    return file_rate * recording.time_expansion
