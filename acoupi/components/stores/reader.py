"""Reading what was heard from the SQLite stores of a sensor, running or not.

The statements are those of `heard_sql`, which the database of a hub answers too: what both
readers do is `StatementReader`.
"""

import datetime
import json
import sqlite3
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from acoupi import data
from acoupi.components.stores import heard_sql as heard
from acoupi.components.stores import sql
from acoupi.components.stores.clip_rows import clips_of
from acoupi.components.stores.clip_tables import given_up
from acoupi.components.stores.database import Database, stores_that_only_read
from acoupi.components.stores.effort_tables import capture_of_row, history_of
from acoupi.components.stores.heard_tables import provenances, verdict_of
from acoupi.components.stores.rows import analysis_of, deployment_of, tags_of
from acoupi.components.stores.space_tables import totals_given_up
from acoupi.components.stores.values import (
    Connection,
    as_blob_list,
    as_id,
    as_text_list,
    from_microseconds,
    from_path_text,
    from_real,
    to_microseconds,
)
from acoupi.effort import EffortHistory
from acoupi.heard import (
    By,
    DetectionRow,
    Filters,
    RecordingRow,
    SpeciesRow,
    Verdict,
    VerdictRow,
)
from acoupi.provenance import Provenance
from acoupi.space import FileClass, GivenUp

__all__ = ["SqliteReader", "StatementReader"]

Row = tuple[Any, ...]

_BATCH = 500
"""Detections with tags that are looked up together."""
_NO_LIMIT = 2**62
_MAY_HAVE_CLIPS = {data.RecordingState.CLIPPED.value, data.RecordingState.LOST.value}
_LONGEST_RECORDING = datetime.timedelta(days=1)


class StatementReader(ABC):
    """What every database with the tables of a sensor answers; see `acoupi.exports.Reader`."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of the database."""

    @abstractmethod
    def reading(self) -> AbstractContextManager[Any]:
        """Provide a `Connection` that sees one consistent state."""

    @abstractmethod
    def stream(self, connection: Any, statement: str, values: Mapping[str, Any]) -> Iterator[Row]:
        """Yield the rows of a statement; memory does not grow with their number."""

    # Lists

    def get_deployments(self) -> list[data.Deployment]:
        """Return all deployments, in order of their start."""
        with self.reading() as connection:
            rows = connection.execute(sql.DEPLOYMENTS)
            return [deployment_of(tuple(columns)) for columns in rows]

    def get_models(self) -> list[str]:
        """Return the names of the models that have analysed anything, sorted."""
        with self.reading() as connection:
            return [name for (name,) in connection.execute(heard.MODELS)]

    def get_tags(self) -> list[data.Tag]:
        """Return every tag that a model ever gave, sorted."""
        with self.reading() as connection:
            return [data.Tag(key, value) for key, value in connection.execute(heard.TAGS)]

    # Rows

    def recordings(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[RecordingRow]:
        """Yield recordings, with the number of all their detections."""
        with self.reading() as connection:
            query = _query(connection, filters, newest_first=newest_first, limit=limit)
            if after is not None:
                place = connection.execute(heard.PLACE_OF_RECORDING, {"id": after.bytes}).fetchone()
                if place is None:
                    return
                query = query.with_values(after_us=place[0], after_row=place[1])
            known = _deployments(connection)
            for row in self.stream(connection, heard.recordings(query), query.values):
                yield _recording(connection, row, known)

    def detections(
        self,
        filters: Filters,
        *,
        newest_first: bool = False,
        after: UUID | None = None,
        limit: int | None = None,
    ) -> Iterator[DetectionRow]:
        """Yield detections, each with its recording; those of one recording share it."""
        with self.reading() as connection:
            query = _query(connection, filters, newest_first=newest_first, limit=limit)
            if after is not None:
                place = connection.execute(heard.PLACE_OF_DETECTION, {"id": after.bytes}).fetchone()
                if place is None:
                    return
                names = ("after_us", "after_recording", "after_start", "after_row")
                query = query.with_values(**dict(zip(names, place, strict=True)))
            rows = self.stream(connection, heard.detections(query), query.values)
            yield from _detections(connection, rows)

    def verdicts(self, filters: Filters) -> Iterator[VerdictRow]:
        """Yield every verdict on the detections that pass, withdrawn ones too, in their order."""
        with self.reading() as connection:
            query = _query(connection, filters)
            for row in self.stream(connection, heard.verdicts(query), query.values):
                yield verdict_of(row)

    def count_recordings(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of recordings by what they have in common."""
        return self._count("recordings", by, filters)

    def count_detections(self, by: By, filters: Filters) -> dict[str | int, int]:
        """Return the number of detections by what they have in common."""
        return self._count("detections", by, filters)

    def _count(self, what: str, by: By, filters: Filters) -> dict[str | int, int]:
        with self.reading() as connection:
            query = _query(connection, filters)
            found = self.count(connection, heard.count(what, by, query), query.values)
            if by == "deployment":
                ids = {row: str(one.id) for row, one in _deployments(connection).items()}
                return {ids[row]: number for row, number in found.items()}
            return found

    def count(self, connection: Any, statement: str, values: Mapping[str, Any]) -> dict[Any, int]:
        """Return how many different rows there are of each key, of rows and keys."""
        return Counter(key for _, key in _once_each(self.stream(connection, statement, values)))

    def species(self, filters: Filters) -> list[SpeciesRow]:
        """Return a summary of each species, the most frequent first, then by name."""
        found: dict[str, _Heard] = {}
        with self.reading() as connection:
            query = _query(connection, filters)
            for name, start, id_, score in self.stream(
                connection, heard.species(query), query.values
            ):
                if name not in found:
                    found[name] = _Heard(start, start)
                found[name].add(start, id_, score)
        rows = [one.row(name) for name, one in found.items()]
        return sorted(rows, key=lambda one: (-one.detections, one.name))

    # One of them

    def ids_of_recordings(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so, at most `limit`."""
        return self._ids("recording", beginning, limit)

    def ids_of_detections(self, beginning: str, limit: int = 10) -> list[UUID]:
        """Return the ids that begin so, at most `limit`."""
        return self._ids("detection", beginning, limit)

    def _ids(self, table: str, beginning: str, limit: int) -> list[UUID]:
        digits = beginning.replace("-", "").lower()
        try:
            low, high = (bytes.fromhex(digits.ljust(32, fill)) for fill in "0f")
        except ValueError:
            return []
        values = {"low": low, "high": high, "limit": limit}
        with self.reading() as connection:
            return [as_id(id_) for (id_,) in connection.execute(heard.IDS[table], values)]

    def recording(self, id_: UUID) -> RecordingRow | None:
        """Return a recording; None if there is none with that id."""
        with self.reading() as connection:
            row = connection.execute(heard.RECORDING, {"id": id_.bytes}).fetchone()
            return None if row is None else _recording(connection, row, _deployments(connection))

    def detection(self, id_: UUID) -> DetectionRow | None:
        """Return a detection; None if there is none with that id."""
        with self.reading() as connection:
            rows = connection.execute(heard.DETECTION, {"id": id_.bytes}).fetchall()
            return next(_detections(connection, iter(rows)), None)

    def detections_in(self, recording_id: UUID) -> list[DetectionRow]:
        """Return all detections in a recording, in order of their start."""
        with self.reading() as connection:
            rows = connection.execute(heard.DETECTIONS_IN, {"id": recording_id.bytes})
            return list(_detections(connection, iter(rows)))

    def capture(self, recording_id: UUID) -> data.CaptureReport | None:
        """Return how a recording was captured; None where that is not known."""
        with self.reading() as connection:
            values = {"id": recording_id.bytes}
            found = connection.execute(sql.ROW_OF_RECORDING, values).fetchone()
            return None if found is None else capture_of_row(connection, found[0])

    def analyses(self, recording_id: UUID) -> list[data.Analysis]:
        """Return what each model has done with a recording."""
        with self.reading() as connection:
            found = connection.execute(sql.ANALYSES, {"ids": as_blob_list([recording_id])})
            return [analysis_of(recording_id, tuple(columns)) for _, *columns in found]

    # Effort

    def get_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> EffortHistory | None:
        """Return the facts about a deployment, or a part of it; None if it is not stored."""
        with self.reading() as connection:
            return history_of(connection, deployment, since, until)

    def get_grouped_effort(
        self,
        deployment: data.Deployment,
        since: datetime.datetime,
        until: datetime.datetime,
        within: tuple[datetime.datetime, datetime.datetime],
    ) -> EffortHistory | None:
        """Return the same as `get_effort`, with runs of recordings as one."""
        with self.reading() as connection:
            return history_of(connection, deployment, since, until, within)

    def get_given_up(
        self, deployment: data.Deployment, since: datetime.datetime, until: datetime.datetime
    ) -> tuple[float, float]:
        """Return how much sound of deleted files there was, and how much of it clips hold, s."""
        with self.reading() as connection:
            return given_up(connection, deployment, since, until)

    def count_given_up(
        self,
        deployment: data.Deployment | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> dict[FileClass, GivenUp]:
        """Return the deletions of each class, of recordings that started in [since, until)."""
        with self.reading() as connection:
            return totals_given_up(connection, deployment, since, until)


class SqliteReader(StatementReader):
    """Reads the SQLite stores of a sensor; see `acoupi.exports.Reader` for what it returns.

    The file is opened for each look. Nothing is changed, nor left beside it. Where there is no
    file, nothing was heard.

    Parameters
    ----------
    path
        The metadata store.

    Raises
    ------
    MetadataStoreError
        From every method: the file is damaged, or of another program or a newer acoupi.
    """

    def __init__(self, path: Path) -> None:
        with stores_that_only_read():
            self._database = Database(path, sql.SCHEMA)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    def reading(self) -> AbstractContextManager[sqlite3.Connection]:
        """Provide a connection that sees one consistent state."""
        return self._database.reading()

    def stream(
        self, connection: sqlite3.Connection, statement: str, values: Mapping[str, Any]
    ) -> Iterator[Row]:
        """Yield the rows of a statement."""
        return connection.execute(statement, values)


# Within a reader


@dataclass
class _Heard:
    """What was heard of a species so far; times in microseconds."""

    first: int
    last: int
    number: int = 0
    best: bytes | None = None
    score: float = -1.0

    def add(self, start: int, id_: bytes, score: float | None) -> None:
        self.number += 1
        self.first, self.last = min(self.first, start), max(self.last, start)
        if score is not None and score > self.score:
            self.best, self.score = id_, score

    def row(self, name: str) -> SpeciesRow:
        return SpeciesRow(
            name=name,
            detections=self.number,
            first_on=from_microseconds(self.first),
            last_on=from_microseconds(self.last),
            best=None if self.best is None else as_id(self.best),
        )


def _query(
    connection: Connection,
    filters: Filters,
    *,
    newest_first: bool = False,
    limit: int | None = None,
) -> heard.Query:
    """Return what filters ask for, as values of statements."""
    tag_rows = _tag_rows(connection, filters)
    values: dict[str, Any] = {
        **_times(filters),
        **_deployments_chosen(connection, filters),
        "models": _texts(filters.models),
        "states": _texts(filters.states and {state.value for state in filters.states}),
        "min_score": filters.min_score,
        "tag_rows": tag_rows,
        "are_sampled": filters.are_sampled or None,
        **_verdicts(filters),
    }
    given = {name: value for name, value in values.items() if value is not None}
    return heard.Query(
        {**given, "limit": _NO_LIMIT if limit is None else limit},
        has_rare_tags=tag_rows is not None and _are_rare(connection, tag_rows),
        is_newest_first=newest_first,
    )


def _times(filters: Filters) -> dict[str, int]:
    times = {}
    if filters.since is not None:
        times["since"] = to_microseconds(filters.since)
        times["reach_back"] = to_microseconds(filters.since - _LONGEST_RECORDING)
    if filters.until is not None:
        times["before"] = to_microseconds(filters.until)
    return times


def _deployments_chosen(connection: Connection, filters: Filters) -> dict[str, Any]:
    if filters.deployments is None:
        return {}
    if len(filters.deployments) != 1:
        return {"deployments": as_blob_list(sorted(filters.deployments))}
    (only,) = filters.deployments
    found = connection.execute(sql.ROW_OF_DEPLOYMENT, {"id": only.bytes}).fetchone()
    return {"deployment_row": found[0] if found else -1}


def _verdicts(filters: Filters) -> dict[str, Any]:
    if filters.verdicts is None:
        return {}
    words = {"" if one in (None, Verdict.WITHDRAWN) else one.value for one in filters.verdicts}
    return {"verdicts": _texts(words), "are_reviewed": None if "" in words else True}


def _texts(texts: Any) -> str | None:
    return None if texts is None else as_text_list(sorted(texts))


def _tag_rows(connection: Connection, filters: Filters) -> str | None:
    if filters.species is None and filters.tags is None:
        return None
    species, tags = filters.species or (), filters.tags or ()
    return json.dumps(
        [
            row
            for row, key, value in connection.execute(heard.TAG_ROWS)
            if value in species or data.Tag(key, value) in tags
        ]
    )


def _are_rare(connection: Connection, tag_rows: str) -> bool:
    values = {"tag_rows": tag_rows, "limit": heard.MOST_RARE}
    (number,) = connection.execute(heard.NUMBER_OF_TAGGED, values).fetchone()
    return int(number) < heard.MOST_RARE


def _once_each(rows: Iterable[Row]) -> Iterator[Row]:
    """Yield each pair of a row and a key once; the same rows follow each other."""
    for _, same in groupby(rows, key=itemgetter(0)):
        yield from dict.fromkeys(same)


def _deployments(connection: Connection) -> Mapping[int, data.Deployment]:
    return {
        row: deployment_of(tuple(columns))
        for row, *columns in connection.execute(heard.DEPLOYMENTS_BY_ROW)
    }


def _recording(
    connection: Connection, row: Row, deployments: Mapping[int, data.Deployment]
) -> RecordingRow:
    number, id_, created_on, duration, samplerate, channels, expansion, *rest = row
    path, state, deployment, fraction, *counted = rest
    return RecordingRow(
        id=as_id(id_),
        deployment=deployments[deployment],
        started_on=from_microseconds(created_on),
        duration_s=duration,
        samplerate_hz=samplerate,
        audio_channels=channels,
        time_expansion=expansion,
        path=from_path_text(path),
        state=data.RecordingState(state),
        detections=counted[0] if counted else None,
        analysed_fraction=fraction,
        clips=clips_of(connection, number) if state in _MAY_HAVE_CLIPS else (),
    )


def _detections(connection: Connection, rows: Iterator[Row]) -> Iterator[DetectionRow]:
    """Yield detections of rows, with tags and verdicts looked up by the batch."""
    deployments, made_by = _deployments(connection), provenances(connection)
    recording, recording_row = None, None
    while batch := list(islice(rows, _BATCH)):
        found = [row[heard.RECORDING_COLUMNS :] for row in batch]
        numbers = {"rows": json.dumps([columns[0] for columns in found])}
        tags = tags_of(connection.execute(sql.TAGS_OF_DETECTIONS, numbers))
        verdicts = _last_verdicts(connection, [as_id(columns[1]) for columns in found])
        for row, columns in zip(batch, found, strict=True):
            if recording is None or row[0] != recording_row:
                columns_of_recording = row[: heard.RECORDING_COLUMNS]
                recording = _recording(connection, columns_of_recording, deployments)
                recording_row = row[0]
            yield _detection(columns, recording, made_by, tags, verdicts)


def _detection(
    columns: Row,
    recording: RecordingRow,
    made_by: Mapping[int | None, Provenance],
    tags: Mapping[int, list[data.PredictedTag]],
    verdicts: Mapping[UUID, VerdictRow],
) -> DetectionRow:
    row, id_, kind, location, start, low, end, high, score, *of_output = columns
    output_id, model, analysed_on, provenance_row = of_output
    id_ = as_id(id_)
    return DetectionRow(
        id=id_,
        recording=recording,
        output_id=as_id(output_id),
        model=model,
        analysed_on=from_microseconds(analysed_on),
        provenance=made_by.get(provenance_row),
        kind=data.PredictionType(kind),
        # Earlier versions also stored sides that are no numbers: such a box says nothing.
        box=None
        if location is None or None in (start, low, end, high)
        else (start, low, end, high),
        score=from_real(score),
        tags=tuple(tags.get(row, ())),
        verdict=verdicts.get(id_),
    )


def _last_verdicts(connection: Connection, ids: list[UUID]) -> dict[UUID, VerdictRow]:
    found = {}
    for row in connection.execute(heard.LAST_VERDICTS, {"ids": as_blob_list(ids)}):
        verdict = verdict_of(row)
        assert verdict.detection_id is not None
        found[verdict.detection_id] = verdict
    return {id_: one for id_, one in found.items() if one.verdict is not Verdict.WITHDRAWN}
