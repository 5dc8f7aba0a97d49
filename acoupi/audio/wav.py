"""WAV files: written so that a crash loses nothing, and read back.

A recording is written under a hidden name (``.NAME.part``), with a GUANO
chunk that says whose it is, and gets its own name when it is complete and on
the disk. So a file with a proper name is complete and describes itself, and
what a crash leaves behind can be mended (`salvage`).
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from acoupi import data
from acoupi.audio import riff
from acoupi.audio.disk import (
    disk_errors,
    find_parts,
    holding,
    open_new,
    part_path,
    publish,
)
from acoupi.audio.guano import INCOMPLETE, build_guano, parse_guano, recording_of_guano
from acoupi.errors import AudioError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "WavInfo",
    "WavWriter",
    "add_guano",
    "decode",
    "expand_time",
    "find_parts",
    "narrow",
    "read_audio",
    "read_guano",
    "read_info",
    "read_recording",
    "salvage",
]

_ORDINARY_BYTES = 0xFFFF_FFFF - 1024 * 1024
"""Most bytes of samples whose file certainly has sizes of 32 bits."""
_INTERRUPTED = "recording was interrupted"


@dataclass(frozen=True, slots=True)
class WavInfo:
    """What the header of a WAV file says."""

    samplerate: int
    """Frames per second of the *file*, Hz; that of the sound divided by the time expansion."""
    channels: int
    bits: int
    """Of one sample."""
    frames: int

    @property
    def duration(self) -> float:
        """Length of the file when it is played, seconds."""
        return self.frames / self.samplerate


class WavWriter:
    """Writes samples into a new WAV file, block by block; past 4 GiB it becomes an RF64 file.

    The file has its name only after `finish`. Until then a lock that the
    kernel takes away with the process marks it as being written.

    Parameters
    ----------
    path
        Name it gets in the end; no file may have it.
    samplerate
        Of the original sound, Hz.
    channels
        At least 1.
    time_expansion
        How many times slower the file plays: its header says
        ``samplerate / time_expansion``.
    guano
        What the file says about itself until it is finished.
    bits
        Of a sample in the file, 16 or 24.
    sample_bytes
        Of a sample that is given to `write`, 2 or 4: the highest bits count.
    frames
        How many may come: past 4 GiB there must be room for larger sizes.

    Raises
    ------
    RecordingError
        If the disk refuses: here, in `write` and in `finish`.
    """

    def __init__(
        self,
        path: Path,
        samplerate: int,
        channels: int,
        *,
        time_expansion: float = 1,
        guano: str = "",
        bits: int = 16,
        sample_bytes: int = 2,
        frames: int = 0,
    ) -> None:
        self.path = path
        self.part = part_path(path)
        self.frames = 0
        self._bytes = (sample_bytes, bits // 8)
        self._frame_bytes = bits // 8 * channels
        header_rate = max(1, int(samplerate / time_expansion))
        is_large = frames * self._frame_bytes > _ORDINARY_BYTES
        header = riff.pack_header(header_rate, channels, guano, bits=bits, is_large=is_large)
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open_new(self.part)
        try:
            with disk_errors(path):
                riff.write_all(self._file.write, header)
                os.fsync(self._file.fileno())
        except BaseException:
            self.discard()
            raise
        self._header_bytes = len(header)

    def write(self, block: bytes | memoryview) -> None:
        """Append whole frames: integers of this machine, channel after channel."""
        rest = memoryview(narrow(block, *self._bytes)).cast("B")
        # After an error, from the end of the last whole frame.
        done = self.frames * self._frame_bytes
        with disk_errors(self.path):
            self._file.seek(self._header_bytes + done)
            while rest:
                count = self._file.write(rest) or 0
                done += count
                self.frames = done // self._frame_bytes
                rest = rest[count:]

    def finish(self, guano: str | None = None, path: Path | None = None) -> Path:
        """Complete the file, see it on the disk, and give it its name.

        Parameters
        ----------
        guano
            Replaces the text given first; None leaves it.
        path
            Replaces the name given first, in the same folder.

        Raises
        ------
        AudioError
            If a file of that name exists; ours stays under its hidden name.
        """
        self.path = path or self.path
        with disk_errors(self.path):
            layout = riff.read_layout(self._file, self.part)
            riff.set_sizes(self._file, layout, self.frames * self._frame_bytes)
            if guano is not None:
                riff.put_guano(self._file, riff.read_layout(self._file, self.part), guano)
            os.fsync(self._file.fileno())
            publish(self.part, self.path)
        self._file.close()
        return self.path

    def discard(self) -> None:
        """Remove what was written; never raises."""
        try:
            self.part.unlink(missing_ok=True)
        except OSError:
            pass
        finally:
            self._file.close()

    def leave(self) -> None:
        """Let go of the file as it is; `salvage` can mend it."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._file.closed:
            self.discard()


def narrow(block: bytes | memoryview, given: int, wanted: int) -> bytes | memoryview:
    """Return samples of fewer bytes, their highest ones, as WAV files have them.

    Examples
    --------
    >>> list(narrow(bytes([1, 2, 3, 4]), 4, 3))
    [2, 3, 4]
    """
    if given == wanted:
        return block
    import numpy as np  # noqa: PLC0415 - 16 bits do without it

    wide = np.frombuffer(block, dtype="=i4").astype("<i4", copy=False)
    return wide.view(np.uint8).reshape(-1, 4)[:, 4 - wanted :].tobytes()


def read_info(path: Path) -> WavInfo:
    """Read the header of a WAV file.

    Raises
    ------
    AudioError
        If it is missing, not a WAV file, or shorter than its header says.
    """
    with _open(path) as file:
        return _info(riff.read_layout(file, path), path)


def read_guano(path: Path) -> dict[str, str]:
    """Read the GUANO fields of a WAV file; empty if it has none.

    Raises
    ------
    AudioError
        If it is missing or not a WAV file.
    """
    with _open(path) as file:
        return _read_guano(file, riff.read_layout(file, path))


def read_recording(path: Path) -> data.Recording:
    """Make the recording that a file of ours describes, its true length included.

    Raises
    ------
    AudioError
        If it is not a complete WAV file, or does not say which recording it is.
    """
    info, fields = read_info(path), read_guano(path)
    samplerate = _true_samplerate(fields, info.samplerate)
    if not info.frames:
        raise AudioError(
            f'"{path.name}" holds no sound.', "delete the file", why="it has not a single frame."
        )
    return recording_of_guano(
        fields,
        path=path,
        duration=info.frames / samplerate,
        samplerate=samplerate,
        audio_channels=info.channels,
    )


def add_guano(path: Path, guano: str) -> None:
    """Put a GUANO text in a WAV file, or in place of the one it has.

    In place: the samples are not touched and no copy is made. The same text
    again changes nothing.

    Raises
    ------
    AudioError
        If it is not a WAV file, or cut off.
    RecordingError
        If the disk refuses.
    """
    with _open(path, "r+b") as file, disk_errors(path):
        layout = riff.read_layout(file, path)
        _info(layout, path)
        if layout.guano is not None:
            file.seek(layout.guano.offset)
            if file.read(layout.guano.size).rstrip(b" \0\n") == guano.encode().rstrip():
                return
        riff.put_guano(file, layout, guano)
        os.fsync(file.fileno())


def expand_time(path: Path, samplerate: int, time_expansion: float) -> None:
    """Write ``samplerate / time_expansion`` as the rate of a WAV file; its samples stay.

    Raises
    ------
    AudioError
        If it is not a WAV file.
    RecordingError
        If the disk refuses.
    """
    with _open(path, "r+b") as file, disk_errors(path):
        layout = riff.read_layout(file, path)
        riff.set_samplerate(file, layout, max(1, int(samplerate / time_expansion)))
        os.fsync(file.fileno())


def read_audio(
    path: Path, *, start: int = 0, frames: int | None = None
) -> "tuple[NDArray[np.float32], int]":
    """Read the samples of a file.

    Parameters
    ----------
    path
        WAV; or FLAC and whatever else the soundfile library reads.
    start
        First frame.
    frames
        How many at most; None means all that follow.

    Returns
    -------
    samples
        Shape ``(frames, channels)``, in [-1, 1).
    samplerate
        Of the *file*, Hz. A time-expanded recording plays slower than its
        sound was: use `Recording.samplerate` for that.

    Raises
    ------
    AudioError
        If it is missing, is not sound, or is shorter than its header says.
    """
    with _open(path) as file:
        magic = file.read(4)
        if magic in (b"RIFF", b"RF64"):
            layout = riff.read_layout(file, path)
            info = _info(layout, path)
            if _is_known(layout.format):
                start = min(start, info.frames)
                count = info.frames - start if frames is None else min(frames, info.frames - start)
                file.seek(layout.samples.offset + start * layout.format.frame_bytes)
                return decode(
                    file.read(count * layout.format.frame_bytes), layout.format
                ), info.samplerate
    return _read_with_soundfile(path, start, frames)


def decode(content: bytes, form: riff.Format) -> "NDArray[np.float32]":
    """Turn the bytes of whole frames into samples in [-1, 1), shape ``(frames, channels)``."""
    import numpy as np  # noqa: PLC0415 - the recorder does without it

    samples: NDArray[np.float32]
    if form.encoding == riff.FLOAT:
        samples = np.frombuffer(content, dtype=f"<f{form.bits // 8}").astype(np.float32)
    elif form.bits == 8:
        samples = (
            np.frombuffer(content, dtype=np.uint8).astype(np.float32) - np.float32(128)
        ) / np.float32(128)
    elif form.bits == 24:
        wide = np.zeros((len(content) // 3, 4), dtype=np.uint8)
        wide[:, 1:] = np.frombuffer(content, dtype=np.uint8).reshape(-1, 3)
        samples = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(2**31)
    else:
        whole = np.frombuffer(content, dtype=f"<i{form.bits // 8}")
        samples = whole.astype(np.float32) / np.float32(2 ** (form.bits - 1))
    return samples.reshape(-1, form.channels)


def salvage(part: Path) -> Path | None:
    """Mend what a crash left of a recording, and give it its name.

    Parameters
    ----------
    part
        One of `find_parts`.

    Returns
    -------
    Path or None
        The complete file; its GUANO text says that it is incomplete sound.
        None if somebody still writes it (nothing is touched), or if there was
        no sound in it (it is removed).

    Raises
    ------
    AudioError
        If it is not a file of ours, or another file has its name.
    RecordingError
        If the disk refuses.
    """
    path = part.with_name(part.name.removeprefix(".").removesuffix(".part"))
    with disk_errors(path), holding(part) as is_ours:
        if not is_ours:
            return None
        return _salvage_folder(part, path) if part.is_dir() else _salvage_file(part, path)


def _salvage_file(part: Path, path: Path) -> Path | None:
    if part.stat().st_size == 0:
        part.unlink()
        return None
    if path.exists() and path.samefile(part):
        publish(part, path)  # It had its name already; only the hidden one was left.
        return path
    if not _mend(part):
        part.unlink()
        return None
    publish(part, path)
    return path


def _salvage_folder(part: Path, path: Path) -> Path | None:
    """Mend what another's recorder left in a folder made for it (see `components`)."""
    files = sorted(part.glob("*.wav"))
    text = part / "guano.txt"
    if files and files[0].stat().st_size and _mend(files[0]):
        if text.exists():
            add_guano(files[0], text.read_text(encoding="utf-8"))
        publish(files[0], path)
    shutil.rmtree(part)
    return path if files and path.exists() else None


def _mend(part: Path) -> bool:
    """Make the headers say what is there; return whether there is any sound."""
    with part.open("r+b", buffering=0) as file:
        try:
            layout = riff.read_layout(file, part)
        except AudioError:
            file.seek(0)
            content = file.read(64 * 1024)
            # Space was set aside and nothing arrived, or not even all of our header.
            if not content.strip(b"\0") or (content[:4] in b"RIFF" and b"data" not in content):
                return False
            raise
        end = layout.samples.offset + layout.samples.size
        if layout.samples.size and end <= layout.file_bytes:
            return True
        there = layout.file_bytes - layout.samples.offset
        there -= there % layout.format.frame_bytes
        if there <= 0:
            return False
        fields = _read_guano(file, layout)
        riff.set_sizes(file, layout, there)
        if fields:
            rate = _true_samplerate(fields, layout.format.samplerate)
            fields["Length"] = repr(round(there / layout.format.frame_bytes / rate, 9))
            fields.setdefault(INCOMPLETE, _INTERRUPTED)
            riff.put_guano(file, riff.read_layout(file, part), build_guano(fields))
        os.fsync(file.fileno())
    return True


def _info(layout: riff.Layout, path: Path) -> WavInfo:
    form = layout.format
    if layout.samples.offset + layout.samples.size > layout.file_bytes:
        seconds = form.samplerate * form.frame_bytes
        raise AudioError(
            f'"{path.name}" is cut off.',
            "copy or record it again",
            why=f"its header promises {layout.samples.size / seconds:.3f} s of sound"
            f" and it holds {layout.available_bytes / seconds:.3f} s.",
        )
    frames = layout.samples.size // form.frame_bytes if form.frame_bytes else 0
    return WavInfo(form.samplerate, form.channels, form.bits, frames)


def _is_known(form: riff.Format) -> bool:
    return (form.encoding, form.bits) in {
        *((riff.PCM, bits) for bits in (8, 16, 24, 32)),
        (riff.FLOAT, 32),
        (riff.FLOAT, 64),
    }


def _read_guano(file: BinaryIO, layout: riff.Layout) -> dict[str, str]:
    if layout.guano is None:
        return {}
    file.seek(layout.guano.offset)
    return parse_guano(file.read(layout.guano.size))


def _true_samplerate(fields: dict[str, str], header: int) -> int:
    """Return the rate of the original sound: what the fields say, else what the header does."""
    try:
        if "Samplerate" in fields:
            return int(float(fields["Samplerate"])) or header
        return round(header * float(fields.get("TE", 1)))
    except ValueError:
        return header


def _read_with_soundfile(
    path: Path, start: int, frames: int | None
) -> "tuple[NDArray[np.float32], int]":
    try:
        import soundfile  # noqa: PLC0415 - only for what is not WAV
    except (ImportError, OSError) as error:
        raise AudioError(
            f'cannot read "{path.name}".',
            "pip install soundfile",
            why=f"it is not a plain WAV file, and the soundfile library is not there: {error}",
        ) from error
    try:
        samples, samplerate = soundfile.read(
            str(path), start=start, frames=-1 if frames is None else frames,
            dtype="float32", always_2d=True,
        )  # fmt: skip
    except (soundfile.SoundFileError, ValueError) as error:
        raise AudioError(
            f'cannot read "{path.name}": it is not a sound file.',
            "give the path of a WAV file",
            why=" ".join(str(error).split()),
        ) from error
    return samples, int(samplerate)


@contextmanager
def _open(path: Path, mode: str = "rb") -> Iterator[BinaryIO]:
    try:
        file = cast("BinaryIO", path.open(mode, buffering=0 if "+" in mode else -1))
    except OSError as error:
        raise AudioError(
            f'cannot open "{path}".',
            "check the path, and that you may read it",
            why=f"{os.strerror(error.errno or 0)}.",
        ) from error
    with file:
        yield file
