"""Writes recordings from the stream into files."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from acoupi import data
from acoupi.audio.formats import FileFormat, SoundWriter, open_writer
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.audio.health import HealthMeter
from acoupi.audio.stream import STALL_SECONDS, CaptureStream
from acoupi.clock import nearest_second
from acoupi.components.audio_recorder.clip_planning import KEEP_SECONDS, ClipPlan, Incomplete
from acoupi.errors import AcoupiError, DeviceError

__all__ = ["capture_clip", "capture_file", "file_name"]


def file_name(recording: data.Recording, file_format: FileFormat = "wav") -> str:
    """Return the name of a recording's file; its id makes it unique, whatever the clock says."""
    time = nearest_second(recording.created_on)
    return f"{time:%Y%m%d_%H%M%S}_{recording.id}.{file_format}"


def capture_clip(
    stream: CaptureStream,
    folder: Path,
    plan: ClipPlan,
    *,
    deployment: data.Deployment,
    time_expansion: float = 1,
    serial: str = "",
    bits: int = 16,
    file_format: FileFormat = "wav",
    on_frames: Callable[[int], None] = lambda _: None,
) -> data.Recording:
    """Cut a recording out of a stream and write it.

    Parameters
    ----------
    stream
        Open, or ended with the planned frames still in its ring.
    folder
        Created if necessary.
    plan
        What to record.
    deployment, time_expansion
        Of the recording.
    serial
        Id of the device, for the metadata.
    bits
        Of a sample in the file, 16 or 24.
    file_format
        Of the file.
    on_frames
        Called with the number of frames taken, whatever the outcome.

    Raises
    ------
    DeviceError
        As `CaptureStream.read` and `SoundWriter`. If enough sound was captured
        until then, it is kept in a complete file, marked as an incomplete
        recording; it is the ``kept`` of the error.
    """
    # The file is created once there is sound to put in it.
    try:
        first, failure = _read(stream, plan.start, min(plan.frames, _step(stream))), None
    except AcoupiError as error:
        if (stream.written - plan.start) / stream.samplerate < KEEP_SECONDS:
            raise
        first, failure = b"", error
    recording = data.Recording(
        duration=plan.frames / stream.samplerate,
        samplerate=stream.samplerate,
        audio_channels=stream.channels,
        time_expansion=time_expansion,
        deployment=deployment,
        created_on=stream.utc_of(plan.start),
    )
    clip = _Clip(stream, plan, recording, folder, serial, bits=bits, file_format=file_format)
    writer = clip.open()
    try:
        try:
            if failure is not None:
                raise failure  # noqa: TRY301 - what came before it is kept below
            clip.write(writer, first)
            while (done := writer.frames) < plan.frames:
                step = min(plan.frames - done, _step(stream))
                clip.write(writer, _read(stream, plan.start + done, step))
        except BaseException as error:
            clip.keep_the_rest(writer, error)
            raise
        try:
            return clip.finish(writer, incomplete=plan.incomplete)
        except BaseException:
            writer.leave()
            raise
    finally:
        on_frames(writer.frames)


def capture_file(stream: CaptureStream, path: Path, duration: float, *, bits: int = 16) -> None:
    """Write a stretch of a stream, from now on, into a plain file.

    Parameters
    ----------
    stream
        Open.
    path
        Must not exist. FLAC if it ends in .flac, else WAV.
    duration
        Seconds.
    bits
        Of a sample in the file, 16 or 24.

    Raises
    ------
    DeviceError
        As `capture_clip`; no file is left then.
    """
    start = stream.next_frame()
    with open_writer(
        path, stream.samplerate, stream.channels, bits=bits, sample_bytes=stream.sample_bytes
    ) as writer:
        _copy(stream, start, _frames(stream, duration), writer)
        writer.finish()


class _Clip:
    """A recording on its way from the stream into its file."""

    def __init__(
        self,
        stream: CaptureStream,
        plan: ClipPlan,
        recording: data.Recording,
        folder: Path,
        serial: str,
        *,
        bits: int,
        file_format: FileFormat,
    ) -> None:
        self._stream = stream
        self._plan = plan
        self._recording = recording
        self._folder = folder
        self._serial = serial
        self._bits = bits
        self._format: FileFormat = file_format
        self._meter = HealthMeter(stream.samplerate, stream.channels, stream.sample_bytes)

    def open(self) -> SoundWriter:
        return open_writer(
            self._folder / file_name(self._recording, self._format),
            self._recording.samplerate,
            self._stream.channels,
            time_expansion=self._recording.time_expansion,
            guano=self._describe(self._recording, is_finished=False),
            bits=self._bits,
            sample_bytes=self._stream.sample_bytes,
            frames=self._plan.frames,
        )

    def write(self, writer: SoundWriter, block: bytes) -> None:
        """Write a block, and measure it."""
        first = self._plan.start + writer.frames
        frames = len(block) // (self._stream.sample_bytes * self._stream.channels)
        writer.write(block)
        # The silence in place of lost sound says nothing about the microphone.
        if not any(overrun.frames for overrun in self._stream.overruns(first, frames)):
            self._meter.add(block)

    def finish(
        self, writer: SoundWriter, *, incomplete: Incomplete | None = None
    ) -> data.Recording:
        """Complete the file with the metadata known only at the end."""
        stream, start = self._stream, self._plan.start
        stream.timeline.look()
        clock = stream.timeline.state
        recording = self._recording.model_copy(
            update={
                "duration": writer.frames / stream.samplerate,
                # More blocks have arrived: the time of the first frame is more precise now.
                "created_on": stream.utc_of(start),
                "capture": data.CaptureReport(
                    stream_id=stream.id,
                    first_frame=start,
                    frames=writer.frames,
                    samplerate_measured=stream.clock.measured_rate,
                    clock_synchronised=clock.is_synchronised,
                    clock_error_s=clock.error,
                    boot_clock=stream.timeline.boot_clock,
                    overruns=stream.overruns(start, writer.frames),
                    gap_before_frames=self._plan.gap,
                    incomplete=None if incomplete is None else incomplete[0],
                    incomplete_detail="" if incomplete is None else incomplete[1],
                    health=self._meter.result(),
                ),
            }
        )
        path = self._folder / file_name(recording, self._format)
        path = writer.finish(self._describe(recording), path)
        return recording.model_copy(update={"path": path})

    def _describe(self, recording: data.Recording, *, is_finished: bool = True) -> str:
        if not is_finished:
            recording = recording.model_copy(update={"capture": self._first_report()})
        fields = guano_of_recording(recording, serial=self._serial)
        if not is_finished:
            # Known only at the end; after a crash, the repair fills it in.
            del fields["Length"]
        return build_guano(fields)

    def _first_report(self) -> data.CaptureReport:
        """Return the metadata known before the first block is written."""
        clock = self._stream.timeline.state
        return data.CaptureReport(
            stream_id=self._stream.id,
            first_frame=self._plan.start,
            frames=self._plan.frames,
            samplerate_measured=self._stream.clock.measured_rate,
            clock_synchronised=clock.is_synchronised,
            clock_error_s=clock.error,
            boot_clock=self._stream.timeline.boot_clock,
            gap_before_frames=self._plan.gap,
        )

    def keep_the_rest(self, writer: SoundWriter, error: BaseException) -> None:
        """Keep an interrupted recording if it is long enough; never raises."""
        with suppress(AcoupiError):
            self._write_what_came(writer)
        seconds = writer.frames / self._stream.samplerate
        if seconds < KEEP_SECONDS:
            writer.discard()
            return
        try:
            recording = self.finish(writer, incomplete=_reason_of(error))
        except (AcoupiError, OSError):
            writer.leave()  # Recovery will find it.
            return
        if isinstance(error, DeviceError):
            error.kept = recording
        if isinstance(error, AcoupiError) and recording.path is not None:
            kept = f'the first {seconds:.1f} s are kept in "{recording.path.name}".'
            error.why = f"{error.why} {kept[:1].upper()}{kept[1:]}" if error.why else kept

    def _write_what_came(self, writer: SoundWriter) -> None:
        """Write what was delivered before the end but not yet read: less than a step."""
        next_frame = self._plan.start + writer.frames
        wanted = self._plan.frames - writer.frames
        frames = min(self._stream.written - next_frame, wanted, _step(self._stream))
        if frames > 0:
            self.write(writer, _read(self._stream, next_frame, frames))


def _reason_of(error: BaseException) -> Incomplete:
    """Return why a recording broke off."""
    if not isinstance(error, AcoupiError):
        return data.IncompleteReason.STOPPED, f"interrupted by {type(error).__name__}"
    is_disk = isinstance(error.__cause__, OSError)
    reason = data.IncompleteReason.DISK_FULL if is_disk else data.IncompleteReason.DEVICE_LOST
    return reason, error.message


def _copy(stream: CaptureStream, start: int, frames: int, writer: SoundWriter) -> None:
    """Copy frames into the file until it holds this many."""
    while (done := writer.frames) < frames:
        writer.write(_read(stream, start + done, min(frames - done, _step(stream))))


def _read(stream: CaptureStream, start: int, frames: int) -> bytes:
    ahead = max(0, start + frames - stream.written) / stream.samplerate
    return stream.read(start, frames, data.monotonic() + 2 * ahead + STALL_SECONDS)


def _frames(stream: CaptureStream, duration: float) -> int:
    return max(1, round(duration * stream.samplerate))


def _step(stream: CaptureStream) -> int:
    """Return how many frames to read at once: a quarter of a second, if the ring allows."""
    return max(1, min(stream.samplerate // 4, stream.capacity // 2))
