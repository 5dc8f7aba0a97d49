"""From the stream into a file."""

from contextlib import suppress
from pathlib import Path

from acoupi import data
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.audio.stream import STALL_SECONDS, CaptureStream
from acoupi.audio.wav import WavWriter
from acoupi.errors import AcoupiError

__all__ = ["KEEP_SECONDS", "capture_clip", "capture_file", "file_name"]

KEEP_SECONDS = 0.1
"""What is left of an interrupted recording is kept if it is longer than this."""


def file_name(recording: data.Recording) -> str:
    """Return the name of a recording's file; its id makes it unique, whatever the clock says."""
    return f"{recording.created_on:%Y%m%d_%H%M%S}_{recording.id}.wav"


def capture_clip(
    stream: CaptureStream,
    folder: Path,
    duration: float,
    *,
    deployment: data.Deployment,
    time_expansion: float = 1,
    serial: str = "",
) -> data.Recording:
    """Cut a recording out of a stream, from now on, and write it.

    Parameters
    ----------
    stream
        Open.
    folder
        Made if need be.
    duration
        Seconds.
    deployment, time_expansion
        Of the recording.
    serial
        Id of the device, for the metadata.

    Raises
    ------
    DeviceError
        As `CaptureStream.read` and `WavWriter`. What there was of sound is
        kept, complete and marked as incomplete, if it is worth it.
    """
    frames = _frames(stream, duration)
    start = stream.next_frame()
    # The file begins once there is something to put in it.
    first = _read(stream, start, min(frames, _step(stream)))
    recording = data.Recording(
        duration=frames / stream.samplerate,
        samplerate=stream.samplerate,
        audio_channels=stream.channels,
        time_expansion=time_expansion,
        deployment=deployment,
        created_on=stream.utc_of(start),
    )
    clip = _Clip(stream, start, recording, folder, serial)
    writer = clip.open()
    try:
        writer.write(first)
        _copy(stream, start, frames, writer)
    except BaseException as error:
        clip.keep_the_rest(writer, error)
        raise
    try:
        return clip.finish(writer)
    except BaseException:
        writer.leave()
        raise


def capture_file(stream: CaptureStream, path: Path, duration: float) -> None:
    """Write a stretch of a stream, from now on, into a plain WAV file.

    Parameters
    ----------
    stream
        Open.
    path
        Must not exist.
    duration
        Seconds.

    Raises
    ------
    DeviceError
        As `capture_clip`; nothing is left then.
    """
    start = stream.next_frame()
    with WavWriter(path, stream.samplerate, stream.channels) as writer:
        _copy(stream, start, _frames(stream, duration), writer)
        writer.finish()


class _Clip:
    """A recording on its way from the stream into its file."""

    def __init__(
        self,
        stream: CaptureStream,
        start: int,
        recording: data.Recording,
        folder: Path,
        serial: str,
    ) -> None:
        self._stream = stream
        self._start = start
        self._recording = recording
        self._folder = folder
        self._serial = serial

    def open(self) -> WavWriter:
        fields = guano_of_recording(self._recording, serial=self._serial)
        del fields["Length"]  # Known when it is over.
        return WavWriter(
            self._folder / file_name(self._recording),
            self._recording.samplerate,
            self._stream.channels,
            time_expansion=self._recording.time_expansion,
            guano=build_guano(fields),
        )

    def finish(self, writer: WavWriter, *, incomplete: str | None = None) -> data.Recording:
        """Complete the file with what is known only now."""
        stream = self._stream
        recording = self._recording.model_copy(
            update={
                "duration": writer.frames / stream.samplerate,
                # More blocks were seen since: the time of the first frame is surer now.
                "created_on": stream.utc_of(self._start),
            }
        )
        overruns = [o.frame - self._start for o in stream.overruns(self._start, writer.frames)]
        fields = guano_of_recording(
            recording, serial=self._serial, overruns=overruns, incomplete=incomplete
        )
        path = writer.finish(build_guano(fields), self._folder / file_name(recording))
        return recording.model_copy(update={"path": path})

    def keep_the_rest(self, writer: WavWriter, error: BaseException) -> None:
        """Keep what there is of an interrupted recording if it is worth it; never raises."""
        with suppress(AcoupiError):
            self._write_what_came(writer)
        seconds = writer.frames / self._stream.samplerate
        if seconds < KEEP_SECONDS:
            writer.discard()
            return
        reason = error.message if isinstance(error, AcoupiError) else type(error).__name__
        try:
            recording = self.finish(writer, incomplete=reason)
        except (AcoupiError, OSError):
            writer.leave()  # Whoever recovers later finds it.
            return
        if isinstance(error, AcoupiError) and recording.path is not None:
            kept = f'the first {seconds:.1f} s are kept in "{recording.path.name}".'
            error.why = f"{error.why} {kept[:1].upper()}{kept[1:]}" if error.why else kept

    def _write_what_came(self, writer: WavWriter) -> None:
        """Write what was delivered before the end and not read yet: less than a step."""
        next_frame = self._start + writer.frames
        wanted = round(self._recording.duration * self._stream.samplerate) - writer.frames
        frames = min(self._stream.written - next_frame, wanted, _step(self._stream))
        if frames > 0:
            writer.write(_read(self._stream, next_frame, frames))


def _copy(stream: CaptureStream, start: int, frames: int, writer: WavWriter) -> None:
    """Copy frames into the file until it has so many."""
    while (done := writer.frames) < frames:
        writer.write(_read(stream, start + done, min(frames - done, _step(stream))))


def _read(stream: CaptureStream, start: int, frames: int) -> bytes:
    ahead = max(0, start + frames - stream.written) / stream.samplerate
    return stream.read(start, frames, data.monotonic() + 2 * ahead + STALL_SECONDS)


def _frames(stream: CaptureStream, duration: float) -> int:
    return max(1, round(duration * stream.samplerate))


def _step(stream: CaptureStream) -> int:
    """Return how many frames to take at once: a quarter of a second, if the ring allows."""
    return max(1, min(stream.samplerate // 4, stream.capacity // 2))
