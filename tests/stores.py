"""Things to put in a metadata store."""

import datetime
from pathlib import Path

from acoupi import data
from tests.clocks import START

UTC = datetime.UTC


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
