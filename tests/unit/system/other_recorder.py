"""A program whose recorder is called otherwise than most."""

from acoupi.programs.core.workers import AcoupiWorker, WorkerConfig
from acoupi.programs.default import Program as Default


class Program(Default):
    worker_config = WorkerConfig(
        workers=[
            AcoupiWorker(name="ears", queues=["recording"], concurrency=1),
            AcoupiWorker(name="default", queues=["celery"]),
        ]
    )
