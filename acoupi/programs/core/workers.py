"""The worker processes of a program, and the queues of each."""

from typing import Literal

from pydantic import Field, field_validator

from acoupi.deferred import DeferredModel

__all__ = [
    "DEFAULT_QUEUE",
    "DEFAULT_WORKER_CONFIG",
    "DETECTION_QUEUE",
    "RECORDING_QUEUE",
    "RECORDING_TASK",
    "SINGLE_WORKER_CONFIG",
    "AcoupiWorker",
    "WorkerConfig",
]

RECORDING_QUEUE = "recording"
DETECTION_QUEUE = "detection"
DEFAULT_QUEUE = "celery"
RECORDING_TASK = "recording_task"
"""Name of the recording task; every task sent to the recording queue records, too."""

Pool = Literal["threads", "prefork", "solo"]


class AcoupiWorker(DeferredModel):
    """One worker: one process (or container) that runs the tasks of its queues.

    Only the worker of the recording task may touch the microphone.
    """

    name: str
    queues: list[str] = Field(default_factory=list)
    """Its queues; empty means every queue of the program."""
    concurrency: int | None = Field(default=None, ge=1)
    """Number of tasks it runs at once; None means one per core."""
    pool: Pool | None = None
    """How it runs them. Only "prefork" can end a task that hangs, at the cost of an
    extra process. None: threads for the recorder and for sending messages,
    prefork where a model runs."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """Memory limit of its container; beyond that it is killed. None: set by its role."""
    network: bool | None = None
    """Whether its container can reach other machines. None: only if it sends messages."""
    secrets: bool | None = None
    """Whether its container gets the passwords and tokens of the configuration. None: only
    if it has a network or runs the default queue. Others get "withheld" instead."""


class WorkerConfig(DeferredModel):
    """The workers of a program."""

    workers: list[AcoupiWorker] = Field(default_factory=list)

    @field_validator("workers")
    @classmethod
    def unique_worker_names(cls, workers: list[AcoupiWorker]) -> list[AcoupiWorker]:
        """Refuse two workers of one name."""
        names = [worker.name for worker in workers]
        if len(set(names)) != len(names):
            raise ValueError(f"worker names must be unique, not {names}")
        return workers


DEFAULT_WORKER_CONFIG = WorkerConfig(
    workers=[
        AcoupiWorker(name="recording", queues=[RECORDING_QUEUE], concurrency=1),
        AcoupiWorker(name="default", queues=[DEFAULT_QUEUE]),
    ]
)

SINGLE_WORKER_CONFIG = WorkerConfig(workers=[AcoupiWorker(name="acoupi", concurrency=1)])
"""Default workers of a program: one worker for every queue, one task at a time."""
