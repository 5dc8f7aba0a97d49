"""A program that does little, and writes down what it does; for tests of what runs it."""

import json
import os
import signal
import time
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel

from acoupi import data
from acoupi.errors import HealthCheckError
from acoupi.programs import AcoupiProgram, AcoupiWorker, WorkerConfig

__all__ = ["Program"]


class Config(BaseModel):
    """Where it writes, how often, and what goes wrong."""

    diary: Path
    interval: float = 0.5
    fail_on_start: bool = False
    fail_on_end: bool = False
    hangs: bool = False


class Program(AcoupiProgram[Config]):
    """Pretends to record, and has tasks that hang, crash and fail when asked to."""

    config_schema = Config
    worker_config: ClassVar[WorkerConfig | None] = WorkerConfig(
        workers=[
            AcoupiWorker(name="recording", queues=["recording"], concurrency=1),
            AcoupiWorker(name="detection", queues=["detection"], concurrency=1),
            AcoupiWorker(name="default", queues=["celery"], concurrency=2),
        ]
    )

    def setup(self, config: Config) -> None:
        """Register the tasks."""

        def note(what: str, **more: Any) -> None:
            line = json.dumps({"what": what, "pid": os.getpid(), "on": time.time(), **more})
            with config.diary.open("a") as diary:
                diary.write(line + "\n")

        def recording_task() -> data.Recording:
            note("recorded")
            return data.Recording(
                duration=1,
                samplerate=8000,
                created_on=data.utc_now(),
                deployment=data.Deployment(name="metronome"),
            )

        def detection_task(recording: data.Recording) -> None:
            note("detected", recording=str(recording.id))

        def hold() -> None:
            note("holds")
            while not config.diary.with_name("let-go").exists():
                time.sleep(0.02)
            note("let go")

        def poison() -> None:
            note("swallows poison")
            os.kill(os.getpid(), signal.SIGKILL)

        def failing_task() -> None:
            raise ValueError("the same as always")

        self.note = note
        self.add_task(
            recording_task,
            callbacks=[detection_task],
            schedule=config.interval,
            queue="recording",
            callback_queue="detection",
        )
        self.add_task(hold, schedule=config.interval if config.hangs else None)
        self.add_task(hold, queue="detection", name="hold_in_detection")
        if config.hangs:
            self.add_task(lambda: note("tidied"), schedule=config.interval, name="tidy")
        self.add_task(poison)
        self.add_task(failing_task)

    def on_start(self, deployment: data.Deployment) -> None:
        """Note it, or fail."""
        self.note("started", deployment=deployment.name)
        if self.config.fail_on_start:
            raise HealthCheckError("the microphone is under water.")

    def on_end(self, deployment: data.Deployment) -> None:
        """Note it, or fail."""
        self.note("ended", deployment=deployment.name)
        if self.config.fail_on_end:
            raise RuntimeError("no strength left")
