"""Where sound comes from: the interface of microphones, real and simulated."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol

from acoupi.errors import AcoupiError

__all__ = ["SAMPLE_BYTES", "WIDE_SAMPLE_BYTES", "AudioSource", "Sink"]

SAMPLE_BYTES = 2
"""Size of a usual sample: a native 16-bit integer, channels interleaved within a frame."""
WIDE_SAMPLE_BYTES = 4
"""Size of a sample with more than 16 bits: a 32-bit integer, its highest bits in use."""


class Sink(Protocol):
    """Where a source delivers: the ring of a `CaptureStream`."""

    def deliver(
        self, block: memoryview, time: float, *, overrun: bool = False, lost: int | None = None
    ) -> bool:
        """Take whole frames, which must not change until it returns.

        Parameters
        ----------
        block
            Bytes of whole frames, following on from the previous block without a gap.
        time
            When its first frame was captured, on the clock of `data.monotonic`.
        overrun
            Whether sound was lost just before it.
        lost
            How many frames; None: to be estimated from the clocks.

        Returns
        -------
        bool
            False once no more sound is wanted.
        """

    def fail(self, error: AcoupiError) -> None:
        """Take note that no more sound will come, and why."""


class AudioSource(ABC):
    """Something that delivers frames of sound once started.

    Parameters
    ----------
    name
        Its name in messages.
    samplerate
        Frames per second, Hz.
    channels
        Samples of one frame.
    """

    waits_for_reader = False
    """Whether it produces sound only as fast as it is read. A microphone does not wait."""
    settle_seconds = 0.0
    """Sound needed before the times of blocks show when they were captured, seconds."""
    sample_bytes = SAMPLE_BYTES
    """2 or 4 (see `WIDE_SAMPLE_BYTES`)."""

    def __init__(self, name: str, samplerate: int, channels: int) -> None:
        self.name = name
        self.samplerate = samplerate
        self.channels = channels

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Identifies the device: equal for all sources that use the same one."""

    @abstractmethod
    def start(self, sink: Sink) -> None:
        """Start to deliver, from another thread, until `stop`.

        Raises
        ------
        DeviceUnavailableError
            If the device is not there, or another program holds it.
        DeviceConfigurationError
            If it does not offer the rate or the channels; the message says
            what it offers.
        """

    @abstractmethod
    def stop(self) -> None:
        """Stop delivering and release the device; harmless when not started."""
