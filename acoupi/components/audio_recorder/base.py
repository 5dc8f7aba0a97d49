"""What all recorders have in common."""

import shutil
import threading
import weakref
from abc import abstractmethod
from pathlib import Path
from tempfile import TemporaryDirectory

from acoupi import data
from acoupi.audio.disk import disk_errors, holding, part_path, publish
from acoupi.audio.guano import build_guano, guano_of_recording
from acoupi.audio.pool import streams
from acoupi.audio.simulated import SimulatedAudio
from acoupi.audio.sources import SAMPLE_BYTES, AudioSource
from acoupi.audio.wav import LARGEST_BYTES, WavInfo, add_guano, expand_time, read_info
from acoupi.components.audio_recorder.clips import capture_clip, capture_file, file_name
from acoupi.components.types import AudioRecorder
from acoupi.devices import get_device_info
from acoupi.errors import AcoupiError, ConfigurationError, HealthCheckError, RecordingError

__all__ = ["TMP_PATH", "BaseAudioRecorder"]

TMP_PATH = Path("/run/shm/")
"""Folder in memory where recordings wait if a program names no other."""

_CHECK_SECONDS = 0.1
_CHECK_TOLERANCE = 0.01


class BaseAudioRecorder(AudioRecorder):
    """Base of recorders, ours and those of published programs.

    A subclass overrides `generate_recording`; everything else is here: names
    that never collide, metadata, time expansion, the check, and the simulated
    microphone that may take the real one's place.

    Building one opens and makes nothing.

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
        Folder of the recordings; made when the first one is.
    time_expansion
        How many times slower the files play, greater than 0.
    simulated
        What to hear instead of the microphone. The environment variable
        ``ACOUPI_SIMULATED_AUDIO`` has precedence.

    Raises
    ------
    ConfigurationError
        If one of the values is not possible, or a recording would not fit in
        a WAV file (4 GiB).
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
    ) -> None:
        _require_possible(duration, samplerate, audio_channels, time_expansion)
        self.duration = duration
        self.samplerate = samplerate
        self.audio_channels = audio_channels
        self.device_name = device_name
        self.audio_dir = Path(audio_dir)
        self.time_expansion = time_expansion
        self.simulated = SimulatedAudio.from_environment() or simulated
        self._busy = threading.RLock()
        self._owner = object()
        self._closer: weakref.finalize[..., BaseAudioRecorder] | None = None

    @abstractmethod
    def generate_recording(self, path: Path, duration: float | None = None) -> None:
        """Record into a WAV file.

        Parameters
        ----------
        path
            The file to make; its folder exists and it does not.
        duration
            Seconds; None means that of the recorder.

        Raises
        ------
        DeviceError
            If the microphone is missing, refuses its settings or stops.
        """

    def record(self, deployment: data.Deployment) -> data.Recording:
        """Record once, for as long as the recorder was told to.

        Only one recording at a time; a second caller waits.

        Returns
        -------
        Recording
            Its file is complete, on the disk, and describes itself.
            `created_on` is when its first frame was captured; length, rate
            and channels are those of the file.

        Raises
        ------
        DeviceUnavailableError
            If the microphone is not there, is in use, or delivers nothing.
        DeviceConfigurationError
            If it does not offer the rate or the channels.
        RecordingError
            If it stops on the way, or the disk refuses. What there was of
            sound until then is kept under a proper name in `audio_dir`.
        """
        with self._busy:
            if self._streams():
                with streams.using(self._stream_source) as stream:
                    return capture_clip(
                        stream,
                        self.audio_dir,
                        self.duration,
                        deployment=deployment,
                        time_expansion=self.time_expansion,
                        serial=get_device_info().id,
                    )
            return self._record_file(deployment)

    def check(self) -> None:
        """Record a tenth of a second and compare it with what was asked for.

        Raises
        ------
        HealthCheckError
            If recording fails, or rate, channels or length (by more than
            0.01 s) are different; it says which.
        """
        try:
            info = self._sample()
        except AcoupiError as error:
            raise HealthCheckError(error.message, error.help, why=error.why) from error
        except Exception as error:
            raise HealthCheckError(
                f'cannot record from "{self.device_name}".',
                "plug the microphone in again; see what there is: acoupi devices",
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
                f'"{self.device_name}" does not record as it should.',
                "acoupi config get microphone",
                why=f"{'; '.join(wrong)}.",
            )

    def close(self) -> None:
        """Let go of the microphone; the next recording opens it again."""
        with self._busy:
            if self._closer is not None:
                self._closer()

    def device_source(self) -> AudioSource | None:
        """Return the microphone as a source of frames.

        None, as here, means that there is none and that `generate_recording`
        does it all by itself.
        """
        return None

    def _streams(self) -> bool:
        """Return whether recordings are cut from a stream, not made by `generate_recording`."""
        return self.simulated is not None

    def _stream_source(self) -> AudioSource:
        source: AudioSource | None
        if self.simulated is not None:
            source = self.simulated.source(self.samplerate, self.audio_channels, owner=self._owner)
        else:
            source = self.device_source()
        if source is None:
            raise TypeError(f"{type(self).__name__} has no device_source")
        if self._closer is None or not self._closer.alive:
            # Nobody need call close(): the stream goes with its last recorder.
            self._closer = weakref.finalize(self, streams.close, source.key)
        return source

    def _stream_into(self, path: Path, duration: float | None, *, keep: bool = True) -> None:
        with self._busy, streams.using(self._stream_source, keep=keep) as stream:
            capture_file(stream, path, self.duration if duration is None else duration)

    def _sample(self) -> WavInfo:
        """Record a moment into a folder that vanishes, and read what it became."""
        with disk_errors(self.audio_dir / "check.wav"):
            self.audio_dir.mkdir(parents=True, exist_ok=True)
            folder = TemporaryDirectory(dir=self.audio_dir, prefix=".check-")
        with self._busy, folder as name:
            path = Path(name) / "check.wav"
            if self._streams():
                self._stream_into(path, _CHECK_SECONDS, keep=False)
            else:
                self.generate_recording(path, _CHECK_SECONDS)
            return read_info(path)

    def _record_file(self, deployment: data.Deployment) -> data.Recording:
        """Have a subclass make the file, hidden from everybody until it is complete."""
        recording = data.Recording(
            duration=self.duration,
            samplerate=self.samplerate,
            audio_channels=self.audio_channels,
            time_expansion=self.time_expansion,
            deployment=deployment,
        )
        path = self.audio_dir / file_name(recording)
        # A folder: the file in it can end in .wav, which some libraries insist on.
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
                why=f"{type(self).__name__} returned without making the file.",
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


def _require_possible(
    duration: float, samplerate: int, channels: int, time_expansion: float
) -> None:
    for name, value in (
        ("duration", duration),
        ("samplerate", samplerate),
        ("audio_channels", channels),
        ("time_expansion", time_expansion),
    ):
        if not 0 < value < float("inf"):
            raise ConfigurationError(
                f'cannot record with a {name} of "{value}".', f"give a {name} greater than 0"
            )
    longest = LARGEST_BYTES / (samplerate * channels * SAMPLE_BYTES)
    if duration > longest:
        raise ConfigurationError(
            f'cannot record "{duration:g}" seconds at {samplerate} Hz into one file.',
            f"give a duration of at most {int(longest)} seconds",
            why="a WAV file holds at most 4 GiB.",
        )
