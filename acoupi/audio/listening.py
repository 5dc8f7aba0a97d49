"""Playing a recording through this machine's sound output."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from acoupi.audio.formats import read_audio
from acoupi.errors import DeviceError, DeviceUnavailableError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["play"]

_BLOCK_S = 0.5


def play(path: Path, *, start: int, frames: int, rate: float) -> None:
    """Play a part of a file, and return when it is over.

    Parameters
    ----------
    path
        The file.
    start, frames
        First frame, and how many.
    rate
        Frames to play per second, Hz: the samplerate of the original sound divided by how
        many times slower it is to be heard. It is converted to that of the output; what is
        above half of that cannot be heard.

    Raises
    ------
    DeviceUnavailableError
        If this machine has no sound output.
    DeviceError
        If the output fails.
    AudioError
        If the file cannot be read.
    """
    sounddevice = _library()
    try:
        device = sounddevice.query_devices(kind="output")
    except (ValueError, sounddevice.PortAudioError) as error:
        raise _no_output(str(error)) from error
    out = float(device["default_samplerate"])
    block = max(1, round(_BLOCK_S * rate))
    try:
        with sounddevice.OutputStream(samplerate=out, channels=1, dtype="float32") as stream:
            for first in range(start, start + frames, block):
                samples, _ = read_audio(
                    path, start=first, frames=min(block, start + frames - first)
                )
                stream.write(_converted(samples.mean(axis=1), rate, out)[:, None])
    except sounddevice.PortAudioError as error:
        raise DeviceError(
            f'cannot play "{path}".',
            "acoupi recordings copy ID DIR   (to listen elsewhere)",
            why=f'the sound output answered "{error}".',
        ) from error


def _library() -> Any:
    try:
        import sounddevice  # noqa: PLC0415 - only who plays needs PortAudio
    except (ImportError, OSError) as error:
        raise _no_output(str(error)) from error
    return sounddevice


def _no_output(said: str) -> DeviceUnavailableError:
    return DeviceUnavailableError(
        "this machine has no sound output.",
        "acoupi recordings copy ID DIR   (to listen elsewhere)",
        why=f'the sound library answered "{said}".',
    )


def _converted(samples: "NDArray[np.float32]", rate: float, out: float) -> "NDArray[np.float32]":
    """Return samples at another rate: means where it is lower, straight lines where higher."""
    import numpy as np  # noqa: PLC0415 - as above

    if rate > out:  # A running mean as long as a new sample: what would fold down is weakened.
        width = round(rate / out)
        samples = np.convolve(samples, np.full(width, 1 / width), mode="same")
    times = np.arange(max(1, round(len(samples) * out / rate))) * rate / out
    found = np.interp(times, np.arange(len(samples)), samples)
    return np.asarray(found, np.float32)
