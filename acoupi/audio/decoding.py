"""Sound that libsndfile decodes: FLAC, compressed WAV files, and other containers."""

import functools
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from acoupi.audio.disk import open_sound
from acoupi.audio.writer import SoundInfo
from acoupi.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["one_way", "read_audio", "read_info", "read_samples"]

_UNKNOWN = 2**62
"""Length from which libsndfile reports an unknown length."""
_BLOCK = 4096
_ORDINARY_BITS = 16


def read_info(path: Path) -> SoundInfo:
    """Read libsndfile's information on a file.

    Raises
    ------
    AudioError
        If it is missing, or not sound.
    """
    with _Opened(path) as file:
        bits = next((int(w) for w in file.subtype.split("_") if w.isdigit()), _ORDINARY_BITS)
        return SoundInfo(int(file.samplerate), int(file.channels), bits, _frames(path, file))


def read_audio(path: Path, start: int, frames: int | None) -> "tuple[NDArray[np.float32], int]":
    """Read samples, as `formats.read_audio`."""
    with _Opened(path) as file:
        return _read(file, path, _frames(path, file), start, frames)


def read_samples(
    stream: BinaryIO, name: Path, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int]":
    """Read samples of an open file, as `formats.read_samples`."""
    with _Opened(name, stream) as file:
        if file.frames >= _UNKNOWN:
            raise AudioError(
                f'cannot read "{name.name}".',
                "copy it, and open the copy",
                why="its header does not tell how long it is.",
            )
        return _read(file, name, file.frames, start, frames)


def _read(
    file: Any, name: Path, total: int, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int]":
    start = min(start, total)
    wanted = total - start if frames is None else min(frames, total - start)
    file.seek(start)
    samples, samplerate = file.read(wanted, "float32", always_2d=True), file.samplerate
    if len(samples) < wanted:
        raise AudioError(
            f'"{name.name}" is cut off or damaged.',
            "copy or record it again",
            why=f"of {wanted} frames from frame {start}, only {len(samples)} can be decoded.",
        )
    return samples, int(samplerate)


class _Opened:
    """A file opened by libsndfile; its errors become an `AudioError`.

    Parameters
    ----------
    path
        Of it.
    stream
        It, if it is open already.
    """

    def __init__(self, path: Path, stream: BinaryIO | None = None) -> None:
        self._path, self._stream = path, stream
        self._file: Any = None
        self._opened = ExitStack()

    def __enter__(self) -> Any:
        with ExitStack() as stack:
            # This gives the reason why it cannot be opened.
            stream = self._stream or stack.enter_context(open_sound(self._path))
            soundfile = _library(self._path)
            try:
                self._file = stack.enter_context(one_way(soundfile)(stream))
            except (RuntimeError, TypeError, ValueError) as error:
                raise self._not_sound(error) from error
            self._opened = stack.pop_all()
        return self._file

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._opened.close()
        if isinstance(error, (RuntimeError, ValueError, MemoryError)):
            raise self._not_sound(error) from error

    def _not_sound(self, error: BaseException) -> AudioError:
        return AudioError(
            f'cannot read "{self._path.name}": it is not a sound file.',
            "give the path of a WAV or FLAC file",
            why=" ".join(str(error).split()),
        )


def _frames(path: Path, file: Any) -> int:
    """Return how many frames there are; they are counted where the header does not know."""
    if file.frames < _UNKNOWN:
        return int(file.frames)
    stat = path.stat()
    return _counted(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _counted(path: Path, size: int, modified_ns: int) -> int:
    """Decode the file once, and count; the other arguments tell its versions apart."""
    del size, modified_ns
    soundfile = _library(path)
    count = 0
    with (
        open_sound(path) as source,
        suppress(soundfile.SoundFileError),
        one_way(soundfile)(source) as sound,
    ):
        while got := len(sound.read(_BLOCK, "int32")):
            count += got
    return count


@functools.cache
def one_way(soundfile: Any) -> Any:
    """Return a `soundfile.SoundFile` that never seeks after it has read.

    At the end of a file of unknown length that fails.
    """

    class OneWay(soundfile.SoundFile):  # type: ignore[misc]
        def seekable(self) -> bool:
            return False

    return OneWay


def _library(path: Path) -> Any:
    try:
        import soundfile  # noqa: PLC0415 - only for other formats than plain WAV
    except (ImportError, OSError) as error:
        raise AudioError(
            f'cannot read "{path.name}".',
            "pip install soundfile",
            why=f"it is not a plain WAV file, and the soundfile library is missing: {error}",
        ) from error
    return soundfile
