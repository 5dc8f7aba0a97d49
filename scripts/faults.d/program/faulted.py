"""The program of the fault rig: a microphone that counts, and a model that misbehaves.

The microphone does what a file says (`Config.microphone_file`); the model what
the id of a recording says, so that each attempt at it ends alike. Recovery,
file management and sending come every few seconds, so that minutes show hours;
all else is as shipped.
"""

import os
import time
from collections.abc import Hashable, Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from acoupi import components, data, tasks
from acoupi.audio.counter import CounterSource
from acoupi.audio.simulated import SimulatedAudio
from acoupi.components import types
from acoupi.components.audio_recorder import MicrophoneConfig
from acoupi.data import ModelOutput, Recording
from acoupi.errors import DeviceUnavailableError, RecordingError
from acoupi.programs.core.workers import DEFAULT_QUEUE
from acoupi.programs.templates import DetectionProgram, DetectionProgramConfiguration

BLOCK_SECONDS = 0.02
MANAGE_EVERY, RECOVER_EVERY, SETTLED_AFTER = 3, 4, 8
HOG_BYTES = 400 * 2**20
"""Taken at most by a model that eats memory; in a container, less ends it."""
ONE_IN = 120
"""Of so many recordings, one is analysed in each bad way."""


class Microphone(CounterSource):
    """Counts, until a file says otherwise: unplugged, stalled or dead (silent)."""

    said: Path | None = None

    def start(self, sink: Any) -> None:
        """Start, unless it is unplugged."""
        if self._state() == "unplugged":
            raise DeviceUnavailableError("cannot find the microphone.", "plug it in", why="it is")
        super().start(sink)

    def _state(self) -> str:
        try:
            return self.said.read_text() if self.said else ""
        except OSError:
            return ""

    def _pieces(self) -> Iterator[tuple[memoryview, int, bool]]:
        began, frame = data.monotonic(), 0
        for block in self.blocks(max(1, round(BLOCK_SECONDS * self.samplerate))):
            frames = len(block) // (2 * self.channels)
            state = self._state()
            if state == "unplugged":
                raise RecordingError("the microphone stopped.", "plug it in", why="unplugged.")
            if state == "stalled":
                late = began + frame / self.samplerate - data.monotonic()
                if self._stopping.wait(max(0, late)):
                    return
                yield block[:0], frames, False
            else:
                yield (memoryview(bytes(len(block))) if state == "dead" else block), 0, True
            frame += frames


class FaultyAudio(SimulatedAudio):
    """A simulated microphone that does what a file says."""

    said: Path | None = None

    def _make(self, samplerate: int, channels: int, owner: Hashable) -> Microphone:
        source = Microphone(samplerate, channels, pace="realtime", owner=owner)
        source.said = self.said
        return source


class Model(types.Model):
    """Hears one thing in each recording, unless it crashes, hangs, raises or eats memory."""

    name = "faulted"

    def run(self, recording: Recording) -> ModelOutput:
        """Analyse, or fail as the recording's id has it."""
        assert recording.path is not None
        size = recording.path.stat().st_size
        is_check = recording.path.parent.name != "spool"
        luck = ONE_IN if is_check else recording.id.int % ONE_IN
        if luck == 0:
            os.kill(os.getpid(), 9)
        if luck == 1:
            time.sleep(3600)
        if luck == 2:
            raise ValueError("no sound in it")
        if luck == 3:
            hog = bytearray(HOG_BYTES)
            hog[::4096] = b"x" * len(hog[::4096])
            os.kill(os.getpid(), 9)  # as the kernel does where there is no limit
        time.sleep(luck / 1000)
        tag = data.Tag(key="bytes", value=str(size))
        heard = data.Detection(
            detection_score=0.9, tags=[data.PredictedTag(tag=tag, confidence_score=0.9)]
        )
        return ModelOutput(name_model=self.name, recording=recording, detections=[heard])


class TwoOfThree(types.RecordingSavingFilter):
    """Keeps two recordings of three."""

    def should_save_recording(
        self, recording: Recording, model_outputs: list[ModelOutput] | None = None
    ) -> bool:
        """Decide by its id."""
        return recording.id.int % 3 > 0


class Config(DetectionProgramConfiguration):
    """Configuration of the rig's program."""

    microphone: MicrophoneConfig = Field(default_factory=MicrophoneConfig)
    microphone_file: Path | None = None


class Program(DetectionProgram[Config]):
    """Records a counter, and is in a hurry."""

    config_schema = Config

    def configure_recorder(self, config: Config) -> types.AudioRecorder:
        """Record the microphone that a file decides on."""
        recording = config.recording
        return components.PARecorder(
            recording.duration,
            config.microphone.samplerate,
            1,
            "counter",
            audio_dir=config.paths.tmp_audio,
            simulated=FaultyAudio(said=config.microphone_file),
            interval=recording.interval,
            file_format=recording.file_format,
        )

    def configure_model(self, config: Config) -> types.Model:
        """Use the model that misbehaves."""
        return Model()

    def get_message_factories(self, config: Config) -> list[types.MessageBuilder[Any]]:
        """Report every output."""
        return [components.FullModelOutputMessageBuilder()]

    def get_recording_filters(self, config: Config) -> list[types.RecordingSavingFilter]:
        """Keep two of three."""
        return [TwoOfThree()]

    def create_recovery_task(self, config: Config) -> Any:
        """As shipped, with a shorter patience."""
        return tasks.generate_recovery_task(
            store=self.store,
            resend=self.resend,
            waiting=self.count_waiting_recordings,
            logger=self.logger.getChild("recovery"),
            required_models=self.get_required_models(config),
            tmp_path=config.paths.tmp_audio,
            settle_time=SETTLED_AFTER,
            time_limit=self.app.conf.task_time_limit,
        )

    def register_recovery_task(self, config: Config) -> None:
        """Recover every few seconds."""
        task = self.create_recovery_task(config)
        self.add_task(task, schedule=RECOVER_EVERY, queue=DEFAULT_QUEUE)

    def register_file_management_task(self, config: Config) -> None:
        """Manage files every few seconds."""
        task = self.create_file_management_task(config)
        self.add_task(task, schedule=MANAGE_EVERY, queue=DEFAULT_QUEUE)
