"""A program as it is published: it builds its own stores, and hears a wren in all it records."""

import datetime
from pathlib import Path

from pydantic import BaseModel

from acoupi import components, data, tasks
from acoupi.components import types
from acoupi.programs import AcoupiProgram, AcoupiWorker, WorkerConfig

__all__ = ["Program"]


class Config(BaseModel):
    """Where its stores are, and how often it records."""

    folder: Path
    interval: float = 0.25


class Ear(types.Model):
    """Hears a wren."""

    name = "ear"

    def run(self, recording: data.Recording) -> data.ModelOutput:
        """Return the wren."""
        wren = data.PredictedTag(data.Tag("species", "Troglodytes troglodytes"), 0.9)
        heard = data.Detection(detection_score=0.9, tags=[wren])
        return data.ModelOutput(name_model=self.name, recording=recording, detections=[heard])


class Program(AcoupiProgram[Config]):
    """Pretends to record, and analyses that."""

    config_schema = Config
    worker_config = WorkerConfig(
        workers=[
            AcoupiWorker(name="recording", queues=["recording"], concurrency=1),
            AcoupiWorker(name="detection", queues=["detection"], concurrency=1),
            AcoupiWorker(name="default", queues=["celery"]),
        ]
    )

    def setup(self, config: Config) -> None:
        """Register the tasks."""
        store = components.SqliteStore(config.folder / "metadata.db")
        messages = components.SqliteMessageStore(config.folder / "messages.db")

        def recording_task() -> data.Recording:
            recording = data.Recording(
                duration=0.2, samplerate=8000, deployment=store.get_current_deployment()
            )
            store.store_recording(recording)
            return recording

        self.add_task(
            recording_task,
            callbacks=[
                tasks.generate_detection_task(
                    store,
                    Ear(),
                    messages,
                    message_factories=[components.FullModelOutputMessageBuilder()],
                )
            ],
            schedule=datetime.timedelta(seconds=config.interval),
            queue="recording",
            callback_queue="detection",
        )
        super().setup(config)
