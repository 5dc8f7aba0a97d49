"""Fakes of recorder, model and messenger, and factories of what they handle."""

import datetime
import math
import struct
import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from acoupi import data
from acoupi.components.types import AudioRecorder, Messenger
from acoupi.errors import MessageSendError

__all__ = [
    "FakeModel",
    "FakeRecorder",
    "ListMessenger",
    "make_deployment",
    "make_recording",
    "make_wav",
]


def make_deployment(**changes: Any) -> data.Deployment:
    """Return a deployment without coordinates, changed as asked."""
    fields: dict[str, Any] = {
        "name": "test site",
        "started_on": datetime.datetime(2024, 8, 1, tzinfo=datetime.UTC),
    }
    return data.Deployment(**(fields | changes))


def make_recording(**changes: Any) -> data.Recording:
    """Return a recording of 0.1 s at 8 kHz, without a file, changed as asked.

    Examples
    --------
    >>> make_recording(samplerate=96_000).samplerate
    96000
    """
    fields: dict[str, Any] = {
        "duration": 0.1,
        "samplerate": 8000,
        "created_on": datetime.datetime(2024, 8, 1, 20, 30, tzinfo=datetime.UTC),
    }
    if "deployment" not in changes:
        fields["deployment"] = make_deployment()
    return data.Recording(**(fields | changes))


def make_wav(
    path: Path,
    *,
    duration: float = 0.1,
    samplerate: int = 8000,
    channels: int = 1,
    frequency: float = 1000,
) -> Path:
    """Write a 16-bit WAV file with a tone, and return its path; folders are made.

    Parameters
    ----------
    path
        Where; a file there is replaced.
    duration
        Seconds.
    samplerate
        Hz.
    channels
        All the same.
    frequency
        Of the tone, Hz. Tones of two frequencies are two different files.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    step = 2 * math.pi * frequency / samplerate
    samples = [round(8000 * math.sin(step * n)) for n in range(round(duration * samplerate))]
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(samplerate)
        file.writeframes(b"".join(struct.pack("<h", sample) * channels for sample in samples))
    return path


class FakeRecorder(AudioRecorder):
    """Records tones into real WAV files, each of another pitch; without GUANO.

    Parameters
    ----------
    audio_dir
        Folder of the files.
    duration
        Seconds.
    samplerate
        Hz.
    error
        Raised instead of recording; set it to None and it works again.
    """

    def __init__(
        self,
        audio_dir: Path,
        *,
        duration: float = 0.1,
        samplerate: int = 8000,
        error: Exception | None = None,
    ) -> None:
        self.audio_dir = audio_dir
        self.duration = duration
        self.samplerate = samplerate
        self.error = error
        self.recordings: list[data.Recording] = []

    def record(self, deployment: data.Deployment) -> data.Recording:
        """Write a file, and return its recording."""
        if self.error is not None:
            raise self.error
        recording = make_recording(
            duration=self.duration,
            samplerate=self.samplerate,
            deployment=deployment,
            created_on=data.utc_now(),
        )
        name = f"{recording.created_on:%Y%m%d_%H%M%S}_{recording.id}.wav"
        recording.path = make_wav(
            self.audio_dir / name,
            duration=self.duration,
            samplerate=self.samplerate,
            frequency=500 + 10 * len(self.recordings),
        )
        self.recordings.append(recording)
        return recording


class FakeModel:
    """Finds one thing in every recording.

    Parameters
    ----------
    name
        Name of the model.
    score
        Of the detection and its tag, 0 to 1. None: it finds nothing.
    emits
        The name that its outputs say, if another.
    errors
        Raised instead, one for each run, before it works.
    """

    def __init__(
        self,
        name: str = "fake",
        *,
        score: float | None = 0.9,
        emits: str | None = None,
        errors: Sequence[Exception] = (),
    ) -> None:
        self.name = name
        self.score = score
        self.emits = emits or name
        self.errors = list(errors)
        self.runs: list[data.Recording] = []

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Return one detection of the species "test", or none."""
        self.runs.append(recording)
        if self.errors:
            raise self.errors.pop(0)
        detections = []
        if self.score is not None:
            tag = data.PredictedTag(data.Tag("species", "test"), self.score)
            detections.append(data.Detection(detection_score=self.score, tags=[tag]))
        return data.ModelOutput(name_model=self.emits, recording=recording, detections=detections)


class ListMessenger(Messenger):
    """Keeps the messages that it sends in a list.

    Parameters
    ----------
    name
        Name of the messenger.
    error
        Raised instead of sending: `MessageSendError` for a dead link.
    status
        What the server answers; only SUCCESS puts a message in `sent`.
    """

    def __init__(
        self,
        name: str = "list",
        *,
        error: Exception | None = None,
        status: data.ResponseStatus = data.ResponseStatus.SUCCESS,
    ) -> None:
        self._name = name
        self.error = error
        self.status = status
        self.tried: list[data.Message] = []
        self.sent: list[data.Message] = []

    @property
    def name(self) -> str:
        """The given name."""
        return self._name

    def cut_link(self) -> None:
        """Let every message fail from now on, before it reaches the server."""
        self.error = MessageSendError("cannot send the message.", why="the link was cut")

    def send_message(self, message: data.Message) -> data.Response:
        """Keep the message, or refuse it as told."""
        self.tried.append(message)
        if self.error is not None:
            raise self.error
        if self.status is data.ResponseStatus.SUCCESS:
            self.sent.append(message)
        return data.Response(status=self.status, message=message)
