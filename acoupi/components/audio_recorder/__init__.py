"""Recorders: sound from a microphone, real or simulated, into files.

PortAudio and the sound libraries are imported when a microphone is opened,
not here.
"""

from acoupi.components.audio_recorder.base import TMP_PATH, BaseAudioRecorder
from acoupi.components.audio_recorder.config import (
    MicrophoneConfig,
    PARecorderConfig,
    PWRecorderConfig,
)
from acoupi.components.audio_recorder.recorders import PARecorder, PWRecorder, PyAudioRecorder

__all__ = [
    "TMP_PATH",
    "BaseAudioRecorder",
    "MicrophoneConfig",
    "PARecorder",
    "PARecorderConfig",
    "PWRecorder",
    "PWRecorderConfig",
    "PyAudioRecorder",
]
