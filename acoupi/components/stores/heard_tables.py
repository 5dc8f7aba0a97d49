"""Tables of provenance, people's verdicts, and the sample for review."""

import sqlite3
from collections.abc import Mapping

from acoupi.components.stores.values import Connection, as_id, from_microseconds, to_microseconds
from acoupi.components.stores.views import METADATA_VIEWS, statements
from acoupi.heard import Verdict, VerdictRow
from acoupi.provenance import Provenance

__all__ = [
    "BACKLOG",
    "CLIPS",
    "HEARD",
    "SAMPLE",
    "VERDICT",
    "provenances",
    "put_provenance",
    "put_verdict",
    "verdict_of",
]

HEARD = (
    # How outputs were made, once for each way.
    """
    CREATE TABLE provenance (
        row INTEGER PRIMARY KEY,
        model TEXT NOT NULL,
        model_version TEXT,
        weights TEXT,
        configuration TEXT NOT NULL,
        acoupi TEXT NOT NULL,
        image TEXT
    )
    """,
    "ALTER TABLE model_output ADD COLUMN provenance_row INTEGER REFERENCES provenance (row)",
    # What people say of detections; never changed. Ids: an output stored again has new rows.
    """
    CREATE TABLE verdict (
        row INTEGER PRIMARY KEY,
        recording_id BLOB NOT NULL,
        detection_id BLOB,
        verdict TEXT NOT NULL
            CHECK (verdict IN ('right', 'wrong', 'other', 'unsure', 'withdrawn')),
        species TEXT,
        reviewer TEXT NOT NULL,
        note TEXT NOT NULL,
        given_on_us INTEGER NOT NULL
    )
    """,
    "CREATE INDEX verdict_detection ON verdict (detection_id)",
    *statements(METADATA_VIEWS),
)
"""The migration to version 6 of the metadata store."""

SAMPLE = (
    # The sample that is kept for review (`sample_tables`): what is in each group; the smallest
    # hash that a group ever refused; and files that only the sample keeps.
    """
    CREATE TABLE sample (
        sample_group TEXT NOT NULL,
        rank INTEGER NOT NULL,
        recording_row INTEGER NOT NULL REFERENCES recording (row) ON DELETE CASCADE,
        PRIMARY KEY (sample_group, rank, recording_row)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX sample_recording ON sample (recording_row)",
    """
    CREATE TABLE sample_limit (
        sample_group TEXT PRIMARY KEY,
        rank INTEGER NOT NULL
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE sample_file (
        recording_row INTEGER PRIMARY KEY REFERENCES recording (row) ON DELETE CASCADE,
        path NOT NULL
    )
    """,
)
"""The migration to version 7."""

CLIPS = (
    # Files with sound around detections, and the recordings that the sound is of: `start_s` is
    # that of the clip, from the first frame of the recording (negative: before it).
    """
    CREATE TABLE clip (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        path NOT NULL,
        stream_id BLOB NOT NULL,
        first_frame INTEGER NOT NULL,
        frames INTEGER NOT NULL,
        duration_s REAL NOT NULL,
        missing_before_s REAL NOT NULL,
        missing_after_s REAL NOT NULL
    )
    """,
    "CREATE INDEX clip_stream ON clip (stream_id, first_frame)",
    "CREATE INDEX clip_path ON clip (path)",
    """
    CREATE TABLE clip_part (
        recording_row INTEGER NOT NULL REFERENCES recording (row) ON DELETE CASCADE,
        clip_row INTEGER NOT NULL REFERENCES clip (row) ON DELETE CASCADE,
        start_s REAL NOT NULL,
        PRIMARY KEY (recording_row, clip_row)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX clip_part_clip ON clip_part (clip_row)",
    "CREATE INDEX capture_stream ON capture (stream_id, first_frame)",
    *statements(METADATA_VIEWS),
)
"""The migration to version 8."""

BACKLOG = (
    *(f"DROP VIEW IF EXISTS {view.name}" for view in METADATA_VIEWS),
    # Analyses may be left out: SQLite can change no CHECK.
    "CREATE TABLE analysis_before AS SELECT * FROM analysis",
    "DROP TABLE analysis",
    """
    CREATE TABLE analysis (
        recording_row INTEGER NOT NULL REFERENCES recording (row),
        name_model TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'retry', 'done', 'skipped', 'failed', 'left_out')),
        attempts INTEGER NOT NULL,
        error TEXT,
        updated_on_us INTEGER NOT NULL,
        begun_by TEXT,
        interruptions INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (recording_row, name_model)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO analysis
    SELECT recording_row, name_model, state, attempts, error, updated_on_us, begun_by, interruptions
    FROM analysis_before
    """,
    "DROP TABLE analysis_before",
    "CREATE INDEX analysis_state ON analysis (state)",
    "CREATE INDEX analysis_updated_on ON analysis (updated_on_us, state)",
    # Spans of time in which not every recording is analysed; see `analysis_tables`.
    """
    CREATE TABLE sampling (
        row INTEGER PRIMARY KEY,
        began_us INTEGER NOT NULL,
        ended_us INTEGER,
        every INTEGER NOT NULL,
        models TEXT NOT NULL,
        made INTEGER NOT NULL,
        analysed INTEGER NOT NULL,
        reason TEXT NOT NULL,
        decided_on_us INTEGER NOT NULL
    )
    """,
    "CREATE INDEX sampling_ended ON sampling (ended_us)",
    "ALTER TABLE recording ADD COLUMN sampling_row INTEGER REFERENCES sampling (row)",
    """
    CREATE INDEX recording_sampling ON recording (sampling_row) WHERE sampling_row IS NOT NULL
    """,
    *statements(METADATA_VIEWS),
)
"""The migration to version 9."""

FIELDS = tuple(Provenance.model_fields)

PROVENANCE = f"""
    SELECT row FROM provenance
    WHERE {" AND ".join(f"{field} IS :{field}" for field in FIELDS)}
"""  # noqa: S608 - names of fields of ours

ADD_PROVENANCE = f"""
    INSERT INTO provenance ({", ".join(FIELDS)})
    VALUES ({", ".join(f":{field}" for field in FIELDS)})
"""  # noqa: S608 - as above

PROVENANCES = f"SELECT row, {', '.join(FIELDS)} FROM provenance"  # noqa: S608 - as above

PUT_VERDICT = """
    INSERT INTO verdict
        (recording_id, detection_id, verdict, species, reviewer, note, given_on_us)
    VALUES (:recording, :detection, :verdict, :species, :reviewer, :note, :given_on)
"""

VERDICT = """
    SELECT v.recording_id, v.detection_id, v.verdict, v.species, v.reviewer, v.note, v.given_on_us
    FROM verdict v
"""


def put_provenance(connection: sqlite3.Connection, provenance: Provenance | None) -> int | None:
    """Return the row of a provenance, which is stored if it is new."""
    if provenance is None:
        return None
    values = provenance.model_dump()
    found = connection.execute(PROVENANCE, values).fetchone()
    return int(found[0]) if found else connection.execute(ADD_PROVENANCE, values).lastrowid


def provenances(connection: Connection) -> Mapping[int | None, Provenance]:
    """Return every provenance by its row; there are few."""
    return {
        row: Provenance(**dict(zip(FIELDS, values, strict=True)))
        for row, *values in connection.execute(PROVENANCES)
    }


def put_verdict(connection: sqlite3.Connection, verdict: VerdictRow) -> None:
    """Add a verdict; those before it stay."""
    values = {
        "recording": verdict.recording_id.bytes,
        "detection": verdict.detection_id and verdict.detection_id.bytes,
        "verdict": verdict.verdict.value,
        "species": verdict.species,
        "reviewer": verdict.reviewer,
        "note": verdict.note,
        "given_on": to_microseconds(verdict.given_on),
    }
    connection.execute(PUT_VERDICT, values)


def verdict_of(row: tuple[bytes, bytes | None, str, str | None, str, str, int]) -> VerdictRow:
    """Return the verdict of the columns of `VERDICT`."""
    recording, detection, verdict, species, reviewer, note, given_on = row
    return VerdictRow(
        recording_id=as_id(recording),
        detection_id=None if detection is None else as_id(detection),
        verdict=Verdict(verdict),
        species=species,
        reviewer=reviewer,
        note=note,
        given_on=from_microseconds(given_on),
    )
