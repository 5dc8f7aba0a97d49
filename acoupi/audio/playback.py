"""Files in place of a microphone."""

from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Literal

from acoupi.audio.formats import is_sound_file, read_audio, read_info
from acoupi.audio.simulated_source import SimulatedSource, to_int16
from acoupi.errors import AudioError, DeviceConfigurationError, DeviceUnavailableError

__all__ = ["PlaybackSource"]


class PlaybackSource(SimulatedSource):
    """Plays a WAV file, or a folder of them in order of name, in an endless loop.

    Parameters
    ----------
    path
        The file or folder.
    samplerate, channels
        Every file must have them.
    pace, owner
        As for `SimulatedSource`.
    """

    def __init__(
        self,
        path: Path,
        samplerate: int,
        channels: int,
        *,
        pace: Literal["realtime", "fast"],
        owner: Hashable,
    ) -> None:
        super().__init__(str(path), samplerate, channels, pace=pace, owner=owner)
        self._path = path
        self._files: list[tuple[Path, int]] = []

    def prepare(self) -> None:
        """Read the headers of all files (see `SimulatedSource.prepare`)."""
        self._files = [(path, self._frames_of(path)) for path in self._find()]
        if not any(frames for _, frames in self._files):
            raise DeviceUnavailableError(
                f'cannot simulate a microphone from "{self._path}".',
                "give a WAV file with some sound in it, or synthetic",
                why="there is no sound in it." if self._files else "the folder holds no WAV file.",
            )

    def blocks(self, frames: int) -> Iterator[memoryview]:
        """Yield the files block by block."""
        while True:
            for path, length in self._files:
                for start in range(0, length, frames):
                    samples, _ = read_audio(path, start=start, frames=min(frames, length - start))
                    yield to_int16(samples).data.cast("B")

    def _find(self) -> list[Path]:
        if self._path.is_dir():
            return sorted(path for path in self._path.iterdir() if is_sound_file(path.name))
        if not self._path.exists():
            raise DeviceUnavailableError(
                f'cannot simulate a microphone from "{self._path}".',
                "give a WAV file, a folder of them, or synthetic",
                why="there is no such file or folder.",
            )
        return [self._path]

    def _frames_of(self, path: Path) -> int:
        try:
            info = read_info(path)
        except AudioError as error:
            raise DeviceUnavailableError(
                f'cannot simulate a microphone from "{path}".', error.help, why=error.why
            ) from error
        if info.samplerate != self.samplerate:
            raise DeviceConfigurationError(
                f'cannot simulate a microphone of {self.samplerate} Hz with "{path.name}".',
                f"acoupi config set microphone.samplerate {info.samplerate}",
                why=f"the file has {info.samplerate} Hz, and nothing is resampled.",
            )
        if info.channels != self.channels:
            raise DeviceConfigurationError(
                f'cannot simulate a microphone of {self.channels} channels with "{path.name}".',
                f"acoupi config set microphone.audio_channels {info.channels}",
                why=f"the file has {info.channels}, and nothing is mixed.",
            )
        return info.frames
