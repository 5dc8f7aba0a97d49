"""Programs made from each template, and what can be asked of them."""

import datetime
from pathlib import Path
from typing import Any

from celery import Celery

from acoupi import components, data
from acoupi.components import types
from acoupi.components.messengers import FileConfig
from acoupi.programs.templates import (
    BasicProgram,
    BasicProgramConfiguration,
    DetectionProgram,
    DetectionProgramConfiguration,
    MessagingConfig,
    MessagingProgram,
    MessagingProgramConfiguration,
)
from acoupi.testing import FakeModel, FakeRecorder

SUMMER = datetime.datetime(2024, 7, 1, tzinfo=datetime.UTC)
DEPLOYMENT = data.Deployment(name="wood")


class Basic(BasicProgram[BasicProgramConfiguration]):
    config_schema = BasicProgramConfiguration

    def configure_recorder(self, config: BasicProgramConfiguration) -> types.AudioRecorder:
        return FakeRecorder(config.paths.tmp_audio)


class Messaging(MessagingProgram[MessagingProgramConfiguration]):
    config_schema = MessagingProgramConfiguration

    def configure_recorder(self, config: MessagingProgramConfiguration) -> types.AudioRecorder:
        return FakeRecorder(config.paths.tmp_audio)


class Detecting(DetectionProgram[DetectionProgramConfiguration]):
    config_schema = DetectionProgramConfiguration

    def configure_recorder(self, config: DetectionProgramConfiguration) -> types.AudioRecorder:
        return FakeRecorder(config.paths.tmp_audio)

    def configure_model(self, config: DetectionProgramConfiguration) -> types.Model:
        return FakeModel()

    def get_message_factories(
        self, config: DetectionProgramConfiguration
    ) -> list[types.MessageBuilder[Any]]:
        return [components.FullModelOutputMessageBuilder()]


def to_file() -> MessagingConfig:
    # Not a constant: its paths are those of the home at the time.
    return MessagingConfig(file=FileConfig())


def kept(config: BasicProgramConfiguration) -> list[Path]:
    return sorted(config.paths.recordings.rglob("*.wav"))


def waiting(config: BasicProgramConfiguration) -> list[Path]:
    return sorted(config.paths.tmp_audio.glob("*.wav"))


def times(app: Celery) -> dict[str, float]:
    return {
        name: entry["schedule"].run_every.total_seconds()
        for name, entry in app.conf.beat_schedule.items()
    }


def queues(app: Celery) -> dict[str, str]:
    return {name: entry["options"]["queue"] for name, entry in app.conf.beat_schedule.items()}
