"""Every metadata store, and things to put in it."""

import datetime
from collections.abc import Callable
from pathlib import Path

from acoupi import data
from acoupi.components.stores import SqliteStore
from acoupi.testing.stores import InMemoryStore

Store = SqliteStore | InMemoryStore
UTC = datetime.UTC
START = datetime.datetime(2024, 6, 1, 20, tzinfo=UTC)
STORES: dict[str, Callable[[Path], Store]] = {
    "sqlite": lambda folder: SqliteStore(folder / "metadata.db"),
    "memory": lambda _: InMemoryStore(),
}


class Clock:
    now = START

    def advance(self, seconds: float) -> None:
        self.now += datetime.timedelta(seconds=seconds)


def at(seconds: float) -> datetime.datetime:
    return START + datetime.timedelta(seconds=seconds)


def deployment(**fields: object) -> data.Deployment:
    return data.Deployment.model_validate({"name": "Pond", "started_on": START, **fields})


SITE = deployment()


def recording(name: str | None = None, seconds: float = 0, **fields: object) -> data.Recording:
    values = {
        "path": None if name is None else Path("/spool") / name,
        "duration": 3,
        "samplerate": 256_000,
        "deployment": SITE,
        "created_on": at(seconds),
        **fields,
    }
    return data.Recording.model_validate(values)


def detection(
    score: float = 0.8, *tags: tuple[str, str, float], **fields: object
) -> data.Detection:
    predicted = [data.PredictedTag(data.Tag(key, value), sure) for key, value, sure in tags]
    return data.Detection.model_validate({"detection_score": score, "tags": predicted, **fields})


def output(of: data.Recording, *detections: data.Detection, **fields: object) -> data.ModelOutput:
    values = {"name_model": "bats", "recording": of, "created_on": at(100), **fields}
    return data.ModelOutput.model_validate({**values, "detections": list(detections)})
