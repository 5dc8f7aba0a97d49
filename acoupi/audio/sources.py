"""Where sound comes from: the interface of microphones, real and simulated."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Protocol

from acoupi.errors import AcoupiError

__all__ = ["SAMPLE_BYTES", "WIDE_SAMPLE_BYTES", "AudioSource", "Sink"]

SAMPLE_BYTES = 2
"""Of the usual sample: a 16-bit integer of this machine, channel after channel within a frame."""
WIDE_SAMPLE_BYTES = 4
"""Of samples with more than 16 bits: 32-bit integers, the bits at the top."""


class Sink(Protocol):
    """Where a source delivers: the ring of a `CaptureStream`."""

    def deliver(
        self, block: memoryview, time: float, *, overrun: bool = False, lost: int | None = None
    ) -> bool:
        """Take whole frames, which must not change until it returns.

        Parameters
        ----------
        block
            Bytes of whole frames, in order, without gaps to the block before.
        time
            When its first frame was captured, on the clock of `data.monotonic`.
        overrun
            Whether sound was lost just before it.
        lost
            How many frames of it; None: as many as the clocks tell.

        Returns
        -------
        bool
            False once nothing more is wanted.
        """

    def fail(self, error: AcoupiError) -> None:
        """Learn that nothing more will come, and why."""


class AudioSource(ABC):
    """Something that delivers frames of sound once started.

    Parameters
    ----------
    name
        What messages call it.
    samplerate
        Frames per second, Hz.
    channels
        Samples of one frame.
    """

    waits_for_reader = False
    """Whether it makes sound only as fast as it is read. A microphone does not wait."""
    settle_seconds = 0.0
    """How much sound it takes until the times of its blocks tell when they were captured."""
    sample_bytes = SAMPLE_BYTES
    """2 or 4 (see `WIDE_SAMPLE_BYTES`)."""

    def __init__(self, name: str, samplerate: int, channels: int) -> None:
        self.name = name
        self.samplerate = samplerate
        self.channels = channels

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """What it has in common with other sources that are the same device."""

    @abstractmethod
    def start(self, sink: Sink) -> None:
        """Begin to deliver, from another thread, until `stop`.

        Raises
        ------
        DeviceUnavailableError
            If the device is not there, or somebody else holds it.
        DeviceConfigurationError
            If it does not offer the rate or the channels; the message says
            what it offers.
        """

    @abstractmethod
    def stop(self) -> None:
        """End delivering and let go of the device; harmless when not started."""
