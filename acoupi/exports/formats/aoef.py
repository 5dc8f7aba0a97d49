"""AOEF: what soundevent and Whombat exchange, written by the soundevent library."""

import datetime
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from acoupi.data import PredictedTag, derived_id
from acoupi.errors import ConfigurationError
from acoupi.exports.flat import iso_time
from acoupi.exports.format import file_name, is_reviewed, one_line, written
from acoupi.exports.source import Source
from acoupi.heard import SPECIES_KEYS, DetectionRow, RecordingRow, Verdict

__all__ = ["Aoef"]

_Found = tuple[RecordingRow, list[DetectionRow]]
_NOTE = "Dates and times are UTC; paths are relative to the folder that holds the recordings."


@dataclass(frozen=True)
class Aoef:
    """A prediction set for each day of a deployment, and what persons said as annotations."""

    name: ClassVar[str] = "aoef"
    purpose: ClassVar[str] = "soundevent, Whombat"
    needs_coordinates: ClassVar[bool] = False

    def write(self, source: Source, folder: Path) -> None:
        """Write ``predictions-DEPLOYMENT-DAY.json`` and ``annotations-DEPLOYMENT-DAY.json``.

        Days are those of UTC. A file is made in memory, so it holds a day.

        Raises
        ------
        ConfigurationError
            If the library is not installed.
        """
        writer = _Writer(folder)
        for (deployment, day), group in groupby(source.recordings(), key=_day):
            writer.write(f"{deployment}-{day}", list(group), derived_id("aoef", deployment, day))


def _day(found: _Found) -> tuple[UUID, str]:
    return found[0].deployment.id, f"{found[0].started_on.astimezone(datetime.UTC):%Y-%m-%d}"


class _Writer:
    """Makes the objects of soundevent; it is imported here, because it takes a second."""

    def __init__(self, folder: Path) -> None:
        try:
            from soundevent import data, terms  # noqa: PLC0415
            from soundevent.io import aoef  # noqa: PLC0415
        except ImportError as error:
            raise ConfigurationError(
                "cannot export aoef: the library soundevent is not installed.",
                'pip install "acoupi[aoef]"',
                why="it writes this format, and is an extra of acoupi.",
            ) from error
        self._data: Any = data
        self._aoef: Any = aoef
        self._scientific_name: Any = terms.scientific_name
        self._folder = folder

    def write(self, name: str, found: list[_Found], id_: UUID) -> None:
        """Write the predictions of a day, and the annotations if there are any."""
        deployment = found[0][0].deployment
        created = max(row.started_on for row, _ in found)
        told = {"created_on": created, "name": one_line(deployment.name), "description": _NOTE}
        clips = [(self._clip(row), rows) for row, rows in found]
        predictions = [self._prediction(clip, rows) for clip, rows in clips]
        kind = self._data.PredictionSet
        self._save(kind(uuid=id_, clip_predictions=predictions, **told), f"predictions-{name}")
        annotations = [
            self._annotation(clip, reviewed)
            for clip, rows in clips
            if (reviewed := [row for row in rows if is_reviewed(row)])
        ]
        if annotations:
            kind, own = self._data.AnnotationSet, derived_id(id_, "annotations")
            self._save(kind(uuid=own, clip_annotations=annotations, **told), f"annotations-{name}")

    def _save(self, made: Any, name: str) -> None:
        """Write a file as the library's `save` does, but dated by what is in it."""
        found = self._aoef.to_aeof(made).model_copy(update={"created_on": made.created_on})
        with written(self._folder / f"{name}.json") as file:
            file.write(found.model_dump_json(exclude_none=True))

    def _clip(self, row: RecordingRow) -> Any:
        start = row.started_on.astimezone(datetime.UTC)
        recording = self._data.Recording(
            uuid=row.id,
            path=Path(one_line(file_name(row))),
            duration=row.duration_s,
            channels=row.audio_channels or 1,
            samplerate=row.samplerate_hz,
            time_expansion=row.time_expansion,
            date=start.date(),
            time=start.time(),
            latitude=row.deployment.latitude,
            longitude=row.deployment.longitude,
        )
        return self._data.Clip(
            uuid=derived_id(row.id, "clip"),
            recording=recording,
            start_time=0,
            end_time=row.duration_s,
        )

    def _sound(self, clip: Any, row: DetectionRow) -> Any:
        if row.box is None:
            place = self._data.TimeInterval(coordinates=[row.start_s, row.end_s])
        else:
            place = self._data.BoundingBox(coordinates=list(row.box))
        id_ = derived_id(row.id, "sound event")
        return self._data.SoundEvent(uuid=id_, recording=clip.recording, geometry=place)

    def _prediction(self, clip: Any, rows: Iterable[DetectionRow]) -> Any:
        found = [
            self._data.SoundEventPrediction(
                uuid=row.id,
                sound_event=self._sound(clip, row),
                score=row.score,
                tags=list(self._predicted(row.tags)),
            )
            for row in rows
        ]
        id_ = derived_id(clip.uuid, "prediction")
        return self._data.ClipPrediction(uuid=id_, clip=clip, sound_events=found)

    def _predicted(self, tags: Iterable[PredictedTag]) -> Iterator[Any]:
        for one in tags:
            score = min(max(one.confidence_score, 0.0), 1.0)
            yield self._data.PredictedTag(tag=self._tag(one.tag.key, one.tag.value), score=score)

    def _tag(self, key: str, value: str) -> Any:
        term = self._scientific_name
        if key not in SPECIES_KEYS:
            told = f"What the model calls {key}."
            term = self._data.Term(name=f"acoupi:{key}", label=key, definition=told)
        return self._data.Tag(term=term, value=value)

    def _annotation(self, clip: Any, rows: Iterable[DetectionRow]) -> Any:
        found = [self._reviewed(clip, row) for row in rows]
        id_ = derived_id(clip.uuid, "annotation")
        created = max(one.created_on for one in found)
        return self._data.ClipAnnotation(
            uuid=id_, clip=clip, sound_events=found, created_on=created
        )

    def _reviewed(self, clip: Any, row: DetectionRow) -> Any:
        said = row.verdict
        assert said is not None
        person = self._data.User(uuid=derived_id("reviewer", said.reviewer), name=said.reviewer)
        tags = []
        if said.verdict is Verdict.RIGHT and row.species is not None:
            tags = [self._tag(row.species.tag.key, row.species.tag.value)]
        elif said.verdict is Verdict.OTHER and said.species:
            tags = [self._tag(SPECIES_KEYS[0], said.species)]
        note = self._data.Note(
            uuid=derived_id(row.id, "note", iso_time(said.given_on)),
            message=f"{said.verdict.value}: {said.note}".removesuffix(": "),
            created_by=person,
            created_on=said.given_on,
        )
        return self._data.SoundEventAnnotation(
            uuid=derived_id(row.id, "annotation"),
            sound_event=self._sound(clip, row),
            tags=tags,
            notes=[note],
            created_by=person,
            created_on=said.given_on,
        )
