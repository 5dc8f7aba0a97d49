"""The base class of all recorders."""

import datetime
import shutil
import threading
import weakref
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from acoupi import data
from acoupi.audio.disk import disk_errors, holding, part_path, publish
from acoupi.audio.formats import FileFormat, SoundInfo, add_guano, read_info
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.audio.memory import MemorySpool
from acoupi.audio.pool import streams
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.sources import AudioSource
from acoupi.audio.stream import STALL_SECONDS, CaptureStream
from acoupi.audio.wav import expand_time
from acoupi.components.audio_recorder.clip_planning import ClipPlanner
from acoupi.components.audio_recorder.clips import capture_clip, capture_file, file_name
from acoupi.components.audio_recorder.keeper import DeviceListener, Keeper, Watch
from acoupi.components.audio_recorder.limits import require_format, require_possible, require_ring
from acoupi.components.types import AudioRecorder
from acoupi.devices import get_device_info
from acoupi.errors import (
    AcoupiError,
    DeviceError,
    DeviceUnavailableError,
    HealthCheckError,
    RecordingError,
)

__all__ = ["TMP_PATH", "BaseAudioRecorder", "RecorderOptions"]

TMP_PATH = Path("/run/shm/")
"""Folder in memory for waiting recordings, unless a program names another."""

_WARM_UP_SECONDS = 1.0
"""Seconds to discard after a microphone was closed and opened again."""
_LEAD_SECONDS = 3.0
"""How long opening a microphone may take, seconds."""
_CHECK_SECONDS = 0.1
_HEADER_BYTES = 65_536
"""Bytes; more than the metadata of a file take."""
_CHECK_TOLERANCE = 0.01


class RecorderOptions(TypedDict, total=False):
    """Keyword options of every recorder; see `BaseAudioRecorder`."""

    simulated: SimulatedAudio | None
    interval: float | None
    bits: int
    ring_seconds: float | None
    ring_bytes: int | None
    idle_close: float | None
    file_format: FileFormat


class _Owner:
    """The owner of the simulated sound."""


class BaseAudioRecorder(AudioRecorder):
    """Base of all recorders, those of acoupi and those of published programs.

    A subclass overrides `generate_recording`; everything else is here: file
    names that never collide, metadata, time expansion, the check, and the
    simulated microphone that can replace the real one.

    Creating a recorder opens no device and creates no file.

    Parameters
    ----------
    duration
        Length of a recording, seconds, greater than 0.
    samplerate
        Hz, greater than 0.
    audio_channels
        At least 1.
    device_name
        The microphone.
    audio_dir
        Folder of the recordings; created with the first one.
    time_expansion
        How many times slower the files play, greater than 0.
    simulated
        Simulated sound to use instead of the microphone. The environment
        variable ``ACOUPI_SIMULATED_AUDIO`` takes precedence.
    interval
        Seconds from the start of a recording to the start of the next. Up to
        `duration`: recordings follow each other without a gap. Longer: they
        begin on multiples of it since 1970, UTC. None: whenever `record` is
        called. (Only where recordings are cut from a stream.)
    bits
        Of a sample, 16 or 24.
    ring_seconds
        How late a recording may begin, or how long a disk may be busy, before
        sound is lost; at least 10. None: 30.
    ring_bytes
        The same in bytes of memory; give only one of the two.
    idle_close
        Close the microphone if the next recording is more than this many
        seconds away; it is reopened in time. None: it stays open.
    file_format
        "wav", or "flac": half the size, the same samples. (Only where
        recordings are cut from a stream; a subclass with its own
        `generate_recording` always writes WAV.)

    Raises
    ------
    ConfigurationError
        If a value is invalid, the ring does not fit in memory, or the format
        cannot hold the rate or the channels.
    """

    def __init__(  # noqa: PLR0917 - published
        self,
        duration: float,
        samplerate: int,
        audio_channels: int,
        device_name: str,
        audio_dir: Path = TMP_PATH,
        time_expansion: float = 1,
        *,
        simulated: SimulatedAudio | None = None,
        interval: float | None = None,
        bits: int = 16,
        ring_seconds: float | None = None,
        ring_bytes: int | None = None,
        idle_close: float | None = None,
        file_format: FileFormat = "wav",
    ) -> None:
        require_possible(duration, samplerate, audio_channels, time_expansion, interval, bits)
        require_format(file_format, samplerate, audio_channels, time_expansion)
        self.duration = duration
        self.samplerate = samplerate
        self.audio_channels = audio_channels
        self.device_name = device_name
        self.audio_dir = Path(audio_dir)
        self.time_expansion = time_expansion
        self.simulated = SimulatedAudio.from_environment() or simulated
        self.bits = bits
        self.file_format: FileFormat = file_format
        self.ring_seconds = require_ring(
            ring_seconds, ring_bytes, samplerate, audio_channels, bits=bits
        )
        """How much sound is kept in memory, seconds; None: the default."""
        self.idle_close = idle_close
        self._busy = threading.RLock()
        self._owner = _Owner()
        self._planner = ClipPlanner(duration, interval)
        self._was_open = False
        self.memory: MemorySpool | None = None
        """Where recordings go as long as it has room; None: all go to `audio_dir`."""
        self.device_listener: DeviceListener | None = None
        """Informed at once, even between recordings, when the microphone is lost or back."""
        self._keeper: Keeper | None = None
        self._watch: Watch | None = None
        self._missing_since: datetime.datetime | None = None
        self._closer: weakref.finalize[..., BaseAudioRecorder] | None = None

    @abstractmethod
    def generate_recording(self, path: Path, duration: float | None = None) -> None:
        """Record into a WAV file.

        Parameters
        ----------
        path
            The file to create; its folder exists, the file does not.
        duration
            Seconds; None: the recorder's own.

        Raises
        ------
        DeviceError
            If the microphone is missing, refuses its settings or stops.
        """

    def record(self, deployment: data.Deployment) -> data.Recording:
        """Record once, for the configured duration.

        Only one recording is made at a time; a second caller waits.

        Returns
        -------
        Recording
            Its file is complete and on the disk, with its metadata inside.
            `created_on` is when its first frame was captured; length, rate
            and channels are those of the file.

        Raises
        ------
        DeviceUnavailableError
            If the microphone is not there, is in use, or delivers nothing.
        DeviceConfigurationError
            If it does not offer the rate or the channels.
        RecordingError
            If it stops while recording, or the disk refuses. The sound up to
            then is kept under a proper name in `audio_dir`.
        """
        with self._busy:
            if not self._streams():
                return self._record_file(deployment)
            ended = self._planner.remains()
            if ended is not None:
                return self._cut(ended, deployment, is_rest=True)
            with self._using_stream() as stream:
                recording = self._cut(stream, deployment)
                self._rest(stream)
                self._watch_over(stream)
            return recording

    @property
    def interval(self) -> float | None:
        """Seconds from the start of a recording to the start of the next; None: on request."""
        return self._planner.interval

    def is_behind(self) -> bool:
        """Return whether the ring already holds the next recording: then `record` again at once."""
        with self._busy:
            return self._planner.is_behind(None)

    def skip(self) -> None:
        """Note that no recording is wanted now, nor the sound captured until now.

        The microphone is opened all the same, so that a recording that is
        wanted soon can begin in time.
        """
        if not self._streams() or (self.simulated and self.simulated.pace == "fast"):
            return
        with self._busy:
            stream = streams.open_stream(self._stream_source().key)
            self._planner.skip(stream)
            if self.interval is None:
                return
            if stream is not None:
                self._was_open = True
                self._rest(stream)
                self._watch_over(stream)
            elif self.idle_close is None:
                self._make_keeper().start()

    def check(self) -> None:
        """Record a tenth of a second and compare it with the settings.

        Raises
        ------
        HealthCheckError
            If recording fails, or rate, channels or length (by more than
            0.01 s) differ; the message says which.
        """
        try:
            info = self._sample()
        except AcoupiError as error:
            raise HealthCheckError(error.message, error.help, why=error.why) from error
        except Exception as error:
            raise HealthCheckError(
                f'cannot record from "{self.device_name}".',
                "plug the microphone in again; list the microphones: acoupi devices",
                why=f"{type(error).__name__}: {error}",
            ) from error
        wrong = [
            f"{what} is {got:g} instead of {wanted:g}{unit}"
            for what, got, wanted, unit, tolerance in (
                ("the sample rate", info.samplerate, self.samplerate, " Hz", 0),
                ("the number of channels", info.channels, self.audio_channels, "", 0),
                ("the length", info.duration, _CHECK_SECONDS, " s", _CHECK_TOLERANCE),
            )
            if abs(got - wanted) > tolerance
        ]
        if wrong:
            raise HealthCheckError(
                f'"{self.device_name}" does not record as configured.',
                "acoupi config get microphone",
                why=f"{'; '.join(wrong)}.",
            )

    def close(self) -> None:
        """Release the microphone; the next recording opens it again."""
        with self._busy:
            if self._keeper is not None:
                self._keeper.stop()
            if self._watch is not None:
                self._watch.stop()
            if self._closer is not None:
                self._closer()
            self._planner.forget()

    def device_source(self) -> AudioSource | None:
        """Return the microphone as a source of frames.

        None, as here, means that there is none, and `generate_recording` makes
        the recording by itself.
        """
        return None

    def _streams(self) -> bool:
        """Return whether recordings are cut from a stream, not made by `generate_recording`."""
        return self.simulated is not None

    def _stream_source(self) -> AudioSource:
        source: AudioSource | None
        if self.simulated is not None:
            source = self.simulated.source(
                self.samplerate, self.audio_channels, owner=self._owner, bits=self.bits
            )
        else:
            source = self.device_source()
        if source is None:
            raise TypeError(f"{type(self).__name__} has no device_source")
        if self._closer is None or not self._closer.alive:
            # close() is optional: the stream is closed with its last recorder.
            self._closer = weakref.finalize(self, streams.close, source.key)
        return source

    @contextmanager
    def _using_stream(self) -> Iterator[CaptureStream]:
        """Lend the stream; wait for a lost microphone for up to the length of a recording."""
        if self._was_open and streams.open_stream(self._stream_source().key) is None:
            self._wait_for_device()
        try:
            with streams.using(self._stream_source, ring_seconds=self.ring_seconds) as stream:
                stream.wait_for_sound(data.monotonic() + 2 * STALL_SECONDS)
                self._was_open = True
                yield stream
        except DeviceError as error:
            is_disk = isinstance(error.__cause__, OSError)
            if self._was_open and self.interval is not None and not is_disk:
                self._make_keeper().start()
            raise

    def _wait_for_device(self) -> None:
        try:
            self._open()
        except DeviceUnavailableError:
            if self.interval is None:
                raise
            keeper = self._make_keeper()
            keeper.start()
            keeper.wait(self.duration)

    def _open(self, warm_up: float = 0.0) -> None:
        with streams.using(
            self._stream_source, ring_seconds=self.ring_seconds, warm_up=warm_up
        ) as stream:
            pass
        if self._missing_since is not None:
            self._missing_since = None
            if self.device_listener is not None:
                self.device_listener.device_back()
        self._watch_over(stream)

    def _watch_over(self, stream: CaptureStream) -> None:
        """Watch from now on whether the microphone is lost."""
        if self.interval is None or stream.source.waits_for_reader:
            return
        if self._watch is None:
            weak = weakref.ref(self)

            def on_loss(lost: CaptureStream, error: AcoupiError) -> None:
                recorder = weak()
                if recorder is not None:
                    recorder._lost(lost, error)  # noqa: SLF001 - ours

            self._watch = Watch(on_loss)
            weakref.finalize(self, self._watch.stop)
        self._watch.look_at(stream)

    def _lost(self, stream: CaptureStream, error: AcoupiError) -> None:
        self._missing_since = stream.utc_of(stream.written)
        self._still_missing(error)
        self._make_keeper().start()

    def _still_missing(self, error: AcoupiError) -> None:
        if self.device_listener is not None and self._missing_since is not None:
            self.device_listener.device_missing(self._missing_since, error)

    def _make_keeper(self) -> Keeper:
        if self._keeper is None:
            # Only the recorder refers to the keeper, so its thread ends with the recorder.
            weak = weakref.ref(self)

            def open_device(warm_up: float) -> None:
                recorder = weak()
                if recorder is not None:
                    recorder._open(warm_up)  # noqa: SLF001 - ours

            def on_failure(error: AcoupiError) -> None:
                recorder = weak()
                if recorder is not None:
                    recorder._still_missing(error)  # noqa: SLF001 - ours

            self._keeper = Keeper(open_device, on_failure)
            weakref.finalize(self, self._keeper.stop)
        return self._keeper

    def _cut(
        self, stream: CaptureStream, deployment: data.Deployment, *, is_rest: bool = False
    ) -> data.Recording:
        planner = self._planner
        plan = planner.plan_rest(stream) if is_rest else planner.plan(stream)
        return capture_clip(
            stream,
            self._folder_for(plan.frames / stream.samplerate),
            plan,
            deployment=deployment,
            time_expansion=self.time_expansion,
            serial=get_device_info().id,
            bits=self.bits,
            file_format=self.file_format,
            on_frames=lambda frames: planner.done(stream, plan, frames),
        )

    def _folder_for(self, seconds: float) -> Path:
        """Return the folder of the next recording; FLAC files are assumed to be as large as WAV."""
        if self.memory is None:
            return self.audio_dir
        sample_bytes = 2 if self.bits == 16 else 4
        sound = round(seconds * self.samplerate) * self.audio_channels * sample_bytes
        return self.memory.folder_for(sound + _HEADER_BYTES)

    def _rest(self, stream: CaptureStream) -> None:
        """Close the microphone if it is not needed for long, and arrange to reopen it in time."""
        seconds = self._planner.seconds_to_next(stream)
        if self.idle_close is None or seconds is None or stream.source.waits_for_reader:
            return
        pause = seconds - _LEAD_SECONDS - _WARM_UP_SECONDS
        if pause > self.idle_close and not self._planner.is_behind(stream):
            self._make_keeper().start(pause, _WARM_UP_SECONDS)
            self._planner.forget()
            streams.close_after_use(stream)

    def _stream_into(self, path: Path, duration: float | None, *, keep: bool = True) -> None:
        with (
            self._busy,
            streams.using(self._stream_source, keep=keep, ring_seconds=self.ring_seconds) as stream,
        ):
            seconds = self.duration if duration is None else duration
            capture_file(stream, path, seconds, bits=self.bits)

    def _sample(self) -> SoundInfo:
        """Record briefly into a temporary folder, and read the header of the file."""
        with disk_errors(self.audio_dir / "check.wav"):
            self.audio_dir.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(dir=self.audio_dir, prefix=".check-")
        with self._busy, folder as name:
            path = Path(name) / "check.wav"
            if self._streams():
                path = path.with_suffix(f".{self.file_format}")
                self._stream_into(path, _CHECK_SECONDS, keep=False)
            else:
                self.generate_recording(path, _CHECK_SECONDS)
            return read_info(path)

    def _record_file(self, deployment: data.Deployment) -> data.Recording:
        """Let a subclass write the file, hidden until it is complete."""
        recording = data.Recording(
            duration=self.duration,
            samplerate=self.samplerate,
            audio_channels=self.audio_channels,
            time_expansion=self.time_expansion,
            deployment=deployment,
        )
        path = self._folder_for(self.duration) / file_name(recording)
        # A hidden folder: the file in it can end in .wav, as some libraries require.
        part = part_path(path)
        with disk_errors(path):
            part.mkdir(parents=True)
            (part / "guano.txt").write_text(_describe(recording), encoding="utf-8")
            with holding(part):
                try:
                    recording = self._make(recording, part / path.name)
                except BaseException:
                    if not _has_sound(part / path.name):
                        shutil.rmtree(part, ignore_errors=True)
                    raise
                publish(part / path.name, path)
                shutil.rmtree(part, ignore_errors=True)
        return recording.model_copy(update={"path": path})

    def _make(self, recording: data.Recording, path: Path) -> data.Recording:
        self.generate_recording(path)
        if not path.exists():
            raise RecordingError(
                f'"{self.device_name}" made no recording.',
                "acoupi check",
                why=f"{type(self).__name__} returned without writing the file.",
            )
        info = read_info(path)
        if not info.frames:
            raise RecordingError(f'"{self.device_name}" made an empty recording.', "acoupi check")
        recording = recording.model_copy(
            update={
                "duration": info.duration,
                "samplerate": info.samplerate,
                "audio_channels": info.channels,
            }
        )
        if self.time_expansion != 1:
            expand_time(path, info.samplerate, self.time_expansion)
        add_guano(path, _describe(recording))
        return recording


def _describe(recording: data.Recording) -> str:
    return build_guano(guano_of_recording(recording, serial=get_device_info().id))


def _has_sound(path: Path) -> bool:
    try:
        return path.stat().st_size > 1024
    except OSError:
        return False
