"""The metadata store in a SQLite file."""

import datetime
import json
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.analysis_tables import AnalysisTables, row_of
from acoupi.components.stores.behind_door import metadata_door
from acoupi.components.stores.clip_tables import ClipTables
from acoupi.components.stores.database import Database
from acoupi.components.stores.deployment_tables import DeploymentTables
from acoupi.components.stores.effort_tables import EffortTables, put_capture
from acoupi.components.stores.health_tables import HealthTables
from acoupi.components.stores.heard_tables import put_provenance, put_verdict
from acoupi.components.stores.owed_tables import OwedTables
from acoupi.components.stores.rows import (
    deployment_values,
    insert_detections,
    load_detections,
    load_outputs,
    load_recordings,
    model_output_info,
    recording_values,
)
from acoupi.components.stores.rules import (
    check_end,
    check_limit,
    shared_path,
    unknown_recordings,
)
from acoupi.components.stores.space_tables import SpaceTables
from acoupi.components.stores.values import (
    as_blob_list,
    as_id,
    as_path_list,
    as_path_text,
    as_text_list,
    from_real,
    to_microseconds,
)
from acoupi.deployed import Deployed, deployed_here
from acoupi.heard import VerdictRow

__all__ = ["SqliteStore"]

WithOutputs = list[tuple[data.Recording, list[data.ModelOutput]]]


@metadata_door
class SqliteStore(
    AnalysisTables,
    ClipTables,
    SpaceTables,
    OwedTables,
    DeploymentTables,
    EffortTables,
    HealthTables,
):
    """Stores deployments, recordings and detections in one SQLite file.

    Threads, processes and containers may share the file (on a local disk); each method is one
    transaction, on disk when it returns. Folder and file are created at the first use.

    In a worker that may not write the file, each method is called through the door
    (`acoupi.door`) in the worker that may.

    For every list given as a filter, None means all, and an empty list none.
    A time without a zone counts as UTC.

    Parameters
    ----------
    db_path
        The database file.
    deployed
        Says which deployment is running; by default the files of ACOUPI_HOME.

    Raises
    ------
    MetadataStoreError
        From every method: if the disk is full, read-only or failing, if the
        file belongs to another program or a newer acoupi, or if the new data
        contradict what is stored.
    """

    def __init__(self, db_path: Path, *, deployed: Callable[[], Deployed] = deployed_here) -> None:
        self.db_path = Path(db_path)
        self._deployed = deployed
        self._database = Database(self.db_path, sql.SCHEMA)

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    # Recordings

    def store_recording(
        self, recording: data.Recording, deployment: data.Deployment | None = None
    ) -> None:
        """Store a recording as captured, and its deployment if it is new.

        One with the same id is replaced. But if its file has been kept or
        deleted since, path and state stay: a repeated message does not bring a
        file back. A lost recording that has a path again counts as captured.

        Parameters
        ----------
        deployment
            Deployment to file it under; None for the recording's own.

        Raises
        ------
        MetadataStoreError
            If another recording has this file.
        """
        deployment = deployment or recording.deployment
        with self._database.writing() as connection:
            connection.execute(sql.ADD_DEPLOYMENT, deployment_values(deployment))
            values = recording_values(recording, deployment)
            try:
                connection.execute(sql.PUT_RECORDING, values)
            except sqlite3.IntegrityError as error:
                self._refuse_shared_path(connection, recording.id, values["path"], error)
                raise
            put_capture(connection, recording)

    def update_recording_path(self, recording: data.Recording, path: Path) -> data.Recording:
        """Note that the file is now kept at `path`; return the recording with this path.

        Raises
        ------
        MetadataStoreError
            If the recording is not stored, or another one has this file.
        """
        values = {"id": recording.id.bytes, "path": as_path_text(path)}
        with self._database.writing() as connection:
            try:
                changed = connection.execute(sql.UPDATE_PATH, values)
            except sqlite3.IntegrityError as error:
                self._refuse_shared_path(connection, recording.id, values["path"], error)
                raise
            if changed.rowcount == 0:
                raise unknown_recordings(
                    "change a recording's path", [(recording.id, recording.path)]
                )
        return recording.model_copy(update={"path": Path(path)})

    def end_recording(self, recording: data.Recording, state: data.RecordingState) -> None:
        """Note that the file no longer exists: the path becomes None.

        Nothing changes if the file has been moved since `recording` was read:
        a caller that finds it missing there may just be late.

        Parameters
        ----------
        state
            DELETED or LOST.

        Raises
        ------
        MetadataStoreError
            If the recording is not stored.
        """
        check_end(state)
        values = {
            "id": recording.id.bytes,
            "path": None if recording.path is None else as_path_text(recording.path),
            "state": state.value,
        }
        with self._database.writing() as connection:
            row_of(connection, recording.id, "end a recording", recording.path)
            connection.execute(sql.END_RECORDING, values)

    def get_recordings(self, ids: list[UUID]) -> WithOutputs:
        """Return recordings with their outputs, newest first; unknown ids are left out.

        Each comes with the report of its capture, so that a model learns what was lost.
        """
        return self._with_outputs(sql.RECORDINGS_BY_ID, {"ids": as_blob_list(ids)}, captures=True)

    def get_recordings_by_path(self, paths: Sequence[Path | None]) -> WithOutputs:
        """Return the recordings of these files with their outputs, newest first.

        A path of None is ignored.
        """
        return self._with_outputs(sql.RECORDINGS_BY_PATH, {"paths": _path_list(paths)})

    def get_recordings_info_by_path(
        self, paths: Sequence[Path | None]
    ) -> list[tuple[data.Recording, list[data.ModelOutputInfo]]]:
        """Like `get_recordings_by_path`, without the detections: cheap."""
        with self._database.reading() as connection:
            recordings = load_recordings(
                connection, sql.RECORDINGS_BY_PATH, {"paths": _path_list(paths)}
            )
            infos: dict[int, list[data.ModelOutputInfo]] = {row: [] for row in recordings}
            for columns in _outputs_of(connection, recordings):
                infos[columns[2]].append(model_output_info(columns))
        return [(recording, infos[row]) for row, recording in recordings.items()]

    def get_captured_recordings(self, limit: int | None = None) -> list[data.Recording]:
        """Return the recordings whose files wait in the spool, oldest first, at most `limit`."""
        with self._database.reading() as connection:
            recordings = load_recordings(
                connection, sql.CAPTURED_RECORDINGS, {"limit": _limit(limit)}
            )
        return list(recordings.values())

    def get_unanalysed_recordings(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> list[data.Recording]:
        """Return the recordings that began in [start, end) and that a model failed on for good."""
        values = {"start": to_microseconds(start), "end": to_microseconds(end)}
        with self._database.reading() as connection:
            return list(load_recordings(connection, sql.UNANALYSED_RECORDINGS, values).values())

    def count_recordings(self) -> dict[data.RecordingState, int]:
        """Return the number of recordings in each state, 0 included."""
        with self._database.reading() as connection:
            counts = dict(connection.execute(sql.COUNT_RECORDINGS).fetchall())
        return {state: counts.get(state.value, 0) for state in data.RecordingState}

    # Model outputs

    def count_detections_by_model(self) -> dict[str, int]:
        """Return how many detections each model has reported."""
        with self._database.reading() as connection:
            return dict(connection.execute(sql.COUNT_DETECTIONS).fetchall())

    def store_model_output(self, model_output: data.ModelOutput) -> None:
        """Store a model's output with all its detections.

        One with the same id is replaced with all its detections.

        Raises
        ------
        MetadataStoreError
            If its recording is not stored.
        """
        self.store_model_outputs([model_output])

    def store_model_outputs(self, model_outputs: list[data.ModelOutput]) -> None:
        """Store several outputs, or, on an error, none of them.

        Raises
        ------
        MetadataStoreError
            If a recording is not stored; the message names all that are not.
        """
        recordings = {output.recording.id: output.recording.path for output in model_outputs}
        with self._database.writing() as connection:
            rows = {
                as_id(id_): row
                for id_, row in connection.execute(
                    sql.ROWS_OF_RECORDINGS, {"ids": as_blob_list(recordings)}
                )
            }
            missing = [item for item in recordings.items() if item[0] not in rows]
            if missing:
                raise unknown_recordings("store a model's output", missing)
            for output in model_outputs:
                _put_output(connection, output, rows[output.recording.id])

    def add_verdict(self, verdict: VerdictRow) -> None:
        """Add a person's verdict on a detection; earlier verdicts stay, the last one counts.

        Raises
        ------
        MetadataStoreError
            If its recording is not stored.
        """
        with self._database.writing() as connection:
            row_of(connection, verdict.recording_id, "add a verdict")
            put_verdict(connection, verdict)

    def get_recording_model_outputs(self, recording: data.Recording) -> list[data.ModelOutput]:
        """Return the outputs of one recording, newest first."""
        return self.get_recordings_model_outputs([recording])[recording.id]

    def get_recordings_model_outputs(
        self, recordings: Sequence[data.Recording]
    ) -> dict[UUID, list[data.ModelOutput]]:
        """Return the outputs of each recording by its id, newest first; [] where there are none."""
        ids = as_blob_list(recording.id for recording in recordings)
        found = self._with_outputs(sql.RECORDINGS_BY_ID, {"ids": ids})
        outputs = {recording.id: outputs for recording, outputs in found}
        return {recording.id: outputs.get(recording.id, []) for recording in recordings}

    def get_model_outputs_by_recording_time(
        self, start: datetime.datetime, end: datetime.datetime
    ) -> list[data.ModelOutput]:
        """Return the outputs of the recordings that began in [start, end), oldest first.

        A recording at `end` belongs to the next window, so consecutive windows
        count each recording once.
        """
        values = {"start": to_microseconds(start), "end": to_microseconds(end)}
        return self._outputs(sql.OUTPUTS_BY_RECORDING_TIME, values)

    def get_model_outputs(  # noqa: PLR0917 - a published signature
        self,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
        ids: list[UUID] | None = None,
        recording_ids: list[UUID] | None = None,
        model_names: list[str] | None = None,
        detection_ids: list[UUID] | None = None,
        limit: int | None = None,
    ) -> list[data.ModelOutput]:
        """Return the outputs for which every filter holds, newest first.

        Parameters
        ----------
        after, before
            Bounds of the time when the model ran, both included.
        ids, recording_ids, model_names
            Values to accept.
        detection_ids
            Outputs must have one of these detections.
        limit
            At most this many; None means all.
        """
        values = _present(
            after=_time(after),
            before=_time(before),
            ids=_ids(ids),
            recording_ids=_ids(recording_ids),
            model_names=_texts(model_names),
            detection_ids=_ids(detection_ids),
        )
        statement = sql.outputs_where(values.keys())
        return self._outputs(statement, {**values, "limit": _limit(limit)})

    def get_detections(  # noqa: PLR0917 - a published signature
        self,
        ids: list[UUID] | None = None,
        model_output_ids: list[UUID] | None = None,
        score_gt: float | None = None,
        score_lt: float | None = None,
        model_names: list[str] | None = None,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
    ) -> list[data.Detection]:
        """Return the detections for which every filter holds, those of the newest output first.

        Parameters
        ----------
        score_gt, score_lt
            Bounds of the detection's score, neither included.
        after, before
            Bounds of the time when the model ran, both included.
        """
        values = _present(
            ids=_ids(ids),
            model_output_ids=_ids(model_output_ids),
            score_gt=_real(score_gt),
            score_lt=_real(score_lt),
            model_names=_texts(model_names),
            after=_time(after),
            before=_time(before),
        )
        statement = sql.detections_where(values.keys())
        with self._database.reading() as connection:
            return load_detections(connection, connection.execute(statement, values))

    def get_predicted_tags(  # noqa: PLR0917 - a published signature
        self,
        detection_ids: list[UUID] | None = None,
        after: datetime.datetime | None = None,
        before: datetime.datetime | None = None,
        score_gt: float | None = None,
        score_lt: float | None = None,
        keys: list[str] | None = None,
        values: list[str] | None = None,
    ) -> list[data.PredictedTag]:
        """Return the tags for which every filter holds, those of the newest output first.

        Parameters
        ----------
        after, before
            Bounds of the time when the model ran, both included.
        score_gt, score_lt
            Bounds of the tag's confidence, neither included.
        """
        chosen = _present(
            detection_ids=_ids(detection_ids),
            after=_time(after),
            before=_time(before),
            score_gt=_real(score_gt),
            score_lt=_real(score_lt),
            keys=_texts(keys),
            values=_texts(values),
        )
        statement = sql.tags_where(chosen.keys())
        with self._database.reading() as connection:
            return [
                data.PredictedTag(data.Tag(key, value), from_real(confidence))
                for key, value, confidence in connection.execute(statement, chosen)
            ]

    # Within a transaction

    def _with_outputs(
        self, statement: str, values: Mapping[str, Any], *, captures: bool = False
    ) -> WithOutputs:
        with self._database.reading() as connection:
            recordings = load_recordings(connection, statement, values)
            for row, recording in recordings.items() if captures else ():
                recording.capture = self._report(connection, row)
            found = _outputs_of(connection, recordings)
            outputs: dict[int, list[data.ModelOutput]] = {row: [] for row in recordings}
            for row, output in load_outputs(connection, found, recordings):
                outputs[row].append(output)
        return [(recording, outputs[row]) for row, recording in recordings.items()]

    def _outputs(self, statement: str, values: Mapping[str, Any]) -> list[data.ModelOutput]:
        with self._database.reading() as connection:
            found = load_outputs(connection, connection.execute(statement, values))
        return [output for _, output in found]

    @staticmethod
    def _refuse_shared_path(
        connection: sqlite3.Connection, id_: UUID, path: str | bytes | None, error: Exception
    ) -> None:
        owner = connection.execute(sql.OWNER_OF_PATH, {"path": path}).fetchone()
        if owner is not None and owner[0] != id_.bytes:
            raise shared_path(id_, as_id(owner[0]), path) from error


def _limit(limit: int | None) -> int:
    """Return a limit for SQLite; None is no limit."""
    check_limit(limit)
    return -1 if limit is None else limit


def _put_output(
    connection: sqlite3.Connection, output: data.ModelOutput, recording_row: int
) -> None:
    values = {
        "id": output.id.bytes,
        "recording_row": recording_row,
        "name_model": output.name_model,
        "created_on": to_microseconds(output.created_on),
        "provenance_row": put_provenance(connection, output.provenance),
    }
    connection.execute(sql.PUT_OUTPUT, values)
    output_row: int = connection.execute(sql.ROW_OF_OUTPUT, values).fetchone()[0]
    connection.execute(sql.DELETE_DETECTIONS, {"output_row": output_row})
    insert_detections(connection, output_row, output.detections)


def _outputs_of(
    connection: sqlite3.Connection, recordings: Mapping[int, data.Recording]
) -> list[tuple[Any, ...]]:
    values = {"rows": json.dumps(list(recordings))}
    return connection.execute(sql.OUTPUTS_OF_RECORDINGS, values).fetchall()


def _path_list(paths: Sequence[Path | None]) -> str:
    return as_path_list(path for path in paths if path is not None)


def _present(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _time(time: datetime.datetime | None) -> int | None:
    return None if time is None else to_microseconds(time)


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)  # not float32, which SQLite refuses


def _ids(ids: Sequence[UUID] | None) -> str | None:
    return None if ids is None else as_blob_list(ids)


def _texts(texts: Sequence[str] | None) -> str | None:
    return None if texts is None else as_text_list(texts)
