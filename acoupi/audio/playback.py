"""Files in place of a microphone."""

import logging
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Literal

from acoupi.audio.foreign import read_true_info
from acoupi.audio.formats import is_sound_file, read_audio
from acoupi.audio.simulated_source import SimulatedSource, to_int16
from acoupi.errors import AudioError, DeviceConfigurationError, DeviceUnavailableError

__all__ = ["PlaybackSource"]

_logger = logging.getLogger(__name__)


class PlaybackSource(SimulatedSource):
    """Plays a WAV file, or a folder of them in order of name, in an endless loop.

    Files of a folder that cannot be read are left out, with a warning.

    Parameters
    ----------
    path
        The file or folder.
    samplerate, channels
        Every file must have them. The rate is that of the original sound: what was
        slowed down (GUANO's TE) is played at its true speed.
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
        self._files = self._usable(self._find())
        if not any(frames for _, frames in self._files):
            raise DeviceUnavailableError(
                f'cannot simulate a microphone from "{self._path}".',
                "give a WAV file with some sound in it, or synthetic",
                why="there is no sound in it." if self._files else "the folder holds no WAV file.",
            )

    def blocks(self, frames: int) -> Iterator[memoryview]:
        """Yield the files block by block."""
        while True:
            for path, length in tuple(self._files):
                yield from self._blocks_of(path, length, frames)

    def _blocks_of(self, path: Path, length: int, frames: int) -> Iterator[memoryview]:
        for start in range(0, length, frames):
            try:
                samples, _ = read_audio(path, start=start, frames=min(frames, length - start))
            except AudioError as error:
                self._leave_out(path, error)
                return
            yield to_int16(samples).data.cast("B")

    def _usable(self, paths: list[Path]) -> list[tuple[Path, int]]:
        """Return the files that can be read, and their lengths.

        Raises
        ------
        DeviceUnavailableError
            If there are files, and none can be read.
        """
        usable: list[tuple[Path, int]] = []
        failure: DeviceUnavailableError | None = None
        for path in paths:
            try:
                usable.append((path, self._frames_of(path)))
            except DeviceUnavailableError as error:
                failure = failure or error
                if len(paths) > 1:
                    _logger.warning("%s is skipped: %s", path, error.why)
        if failure is not None and not usable:
            raise failure
        return usable

    def _leave_out(self, path: Path, error: AudioError) -> None:
        """Drop a file that was damaged or removed since the start; the last one ends the source."""
        self._files = [one for one in self._files if one[0] != path]
        if not any(frames for _, frames in self._files):
            raise error
        _logger.warning("%s is skipped: %s", path, error.why)

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
            info = read_true_info(path)
        except AudioError as error:
            raise DeviceUnavailableError(
                f'cannot simulate a microphone from "{path}".', error.help, why=error.why
            ) from error
        if info.samplerate != self.samplerate:
            raise DeviceConfigurationError(
                f'cannot simulate a microphone of {self.samplerate} Hz with "{path.name}".',
                f"acoupi config set microphone.samplerate {info.samplerate}",
                why=f"the file has {info.samplerate} Hz, and acoupi does not resample.",
            )
        if info.channels != self.channels:
            raise DeviceConfigurationError(
                f'cannot simulate a microphone of {self.channels} channels with "{path.name}".',
                f"acoupi config set microphone.audio_channels {info.channels}",
                why=f"the file has {info.channels}, and nothing is mixed.",
            )
        return info.frames
