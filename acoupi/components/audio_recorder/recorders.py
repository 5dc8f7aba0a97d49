"""The recorders of acoupi."""

from pathlib import Path
from typing import Unpack

from acoupi.audio.portaudio import InputDevice, PortAudioSource, choose_device
from acoupi.components.audio_recorder.base import TMP_PATH, BaseAudioRecorder, RecorderOptions
from acoupi.devices.microphones import MicrophoneChoice

__all__ = ["PARecorder", "PWRecorder", "PyAudioRecorder"]

_SERVERS = ("pipewire", "pulse")


class _StreamRecorder(BaseAudioRecorder):
    """Cuts recordings from a stream that stays open between them."""

    def generate_recording(self, path: Path, duration: float | None = None) -> None:
        """Record into a WAV file (see `BaseAudioRecorder.generate_recording`)."""
        self._stream_into(path, duration)

    def _streams(self) -> bool:
        # A subclass that defines generate_recording expects it to be used.
        overridden = type(self).generate_recording is not _StreamRecorder.generate_recording
        return super()._streams() or not overridden


class PARecorder(_StreamRecorder):
    """Records from a microphone through PortAudio.

    The device is opened at the first recording and stays open until `close`,
    so that recordings need not wait for it.

    Parameters
    ----------
    duration, samplerate, audio_channels, audio_dir, time_expansion, and all keywords
        As for `BaseAudioRecorder`.
    device_name
        Its name in PortAudio, or the part before the colon; or its identity,
        ``vendor:product:serial`` or ``vendor:product:serial@port``; "default"
        is the only microphone present. It must mean one microphone: if
        several are called that, recording fails and the message tells them
        apart.
    chunksize
        Kept for published programs: the driver chooses its blocks.
    """

    sample_width = 2
    """Bytes of a sample."""

    def __init__(  # noqa: PLR0917 - published
        self,
        duration: float,
        samplerate: int,
        audio_channels: int,
        device_name: str,
        chunksize: int = 2048,
        audio_dir: Path = TMP_PATH,
        time_expansion: float = 1,
        **options: Unpack[RecorderOptions],
    ) -> None:
        super().__init__(
            duration, samplerate, audio_channels, device_name, audio_dir, time_expansion, **options
        )
        self.chunksize = chunksize
        self._choice = MicrophoneChoice()

    def device_source(self) -> PortAudioSource:
        """Return the microphone; the device is looked up each time it is opened."""
        return PortAudioSource(
            self.device_name,
            self.samplerate,
            self.audio_channels,
            choose=lambda devices: self._choice.choose(devices, self.device_name),
            bits=self.bits,
        )


PyAudioRecorder = PARecorder


class PWRecorder(_StreamRecorder):
    """Records from a microphone of a sound server: PipeWire, or PulseAudio.

    It goes through PortAudio and ALSA's plugin for the server (Debian:
    pipewire-alsa or libasound2-plugins). The server resamples without saying
    so if the microphone has another rate: `PARecorder` does not.

    Parameters
    ----------
    duration, samplerate, audio_channels, audio_dir, time_expansion, and all keywords
        As for `BaseAudioRecorder`.
    device_name
        Name of the server's node or source (``wpctl status``, ``pactl list
        sources short``); "default" is the default of the server.
    """

    def device_source(self) -> PortAudioSource:
        """Return the microphone; the device is looked up each time it is opened."""
        name = self.device_name
        is_node = name not in ("default", *_SERVERS)
        return PortAudioSource(
            name,
            self.samplerate,
            self.audio_channels,
            choose=lambda devices: _choose_server(devices, name),
            environment={"PIPEWIRE_NODE": name, "PULSE_SOURCE": name} if is_node else None,
            bits=self.bits,
        )


def _choose_server(devices: list[InputDevice], name: str) -> InputDevice:
    """Return the device with that name, else the sound server, which has more names."""
    known = {part for device in devices for part in (device.full_name, device.name)}
    wanted = next((one for one in (name, *_SERVERS) if one in known - {"default"}), name)
    return choose_device(devices, wanted)
