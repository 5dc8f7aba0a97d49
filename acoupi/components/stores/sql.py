"""Every statement of the metadata store.

Rows refer to each other by their integer row, which keeps the half million
tags of a season small; ids are looked up once, at the door. A list parameter
is one JSON array (see `values`), a filter that is NULL lets everything pass.
"""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

from collections.abc import Mapping, Set

from acoupi.components.stores.database import Schema
from acoupi.components.stores.heard_tables import BACKLOG, CLIPS, HEARD, SAMPLE
from acoupi.components.stores.hub_schema import HUB
from acoupi.components.stores.space_schema import SPACE
from acoupi.components.stores.views import STATE
from acoupi.errors import MetadataStoreError

__all__ = ["SCHEMA", "detections_where", "outputs_where", "tags_where"]

_VERSION_1 = (
    """
    CREATE TABLE deployment (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        name TEXT NOT NULL,
        latitude_deg REAL,
        longitude_deg REAL,
        started_on_us INTEGER NOT NULL,
        ended_on_us INTEGER
    )
    """,
    """
    CREATE TABLE recording (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        deployment_row INTEGER NOT NULL REFERENCES deployment (row),
        path,
        created_on_us INTEGER NOT NULL,
        duration_s REAL NOT NULL,
        samplerate_hz INTEGER NOT NULL,
        audio_channels INTEGER,
        time_expansion REAL NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('captured', 'kept', 'deleted', 'lost'))
    )
    """,
    "CREATE UNIQUE INDEX recording_path ON recording (path) WHERE path IS NOT NULL",
    "CREATE INDEX recording_created_on ON recording (created_on_us)",
    "CREATE INDEX recording_state ON recording (state, created_on_us)",
    """
    CREATE TABLE analysis (
        recording_row INTEGER NOT NULL REFERENCES recording (row),
        name_model TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'retry', 'done', 'skipped', 'failed')),
        attempts INTEGER NOT NULL,
        error TEXT,
        updated_on_us INTEGER NOT NULL,
        PRIMARY KEY (recording_row, name_model)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX analysis_state ON analysis (state)",
    """
    CREATE TABLE model_output (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL UNIQUE,
        recording_row INTEGER NOT NULL REFERENCES recording (row),
        name_model TEXT NOT NULL,
        created_on_us INTEGER NOT NULL
    )
    """,
    "CREATE INDEX model_output_recording ON model_output (recording_row)",
    "CREATE INDEX model_output_created_on ON model_output (created_on_us)",
    # A location is there where its type is; a NULL among its sides is NaN.
    """
    CREATE TABLE detection (
        row INTEGER PRIMARY KEY,
        id BLOB NOT NULL,
        output_row INTEGER NOT NULL REFERENCES model_output (row) ON DELETE CASCADE,
        prediction_type TEXT NOT NULL,
        location_type TEXT,
        start_time_s REAL,
        low_freq_hz REAL,
        end_time_s REAL,
        high_freq_hz REAL,
        score REAL NOT NULL
    )
    """,
    "CREATE INDEX detection_id ON detection (id)",
    "CREATE INDEX detection_output ON detection (output_row)",
    """
    CREATE TABLE tag (
        row INTEGER PRIMARY KEY,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        UNIQUE (key, value)
    )
    """,
    """
    CREATE TABLE predicted_tag (
        detection_row INTEGER NOT NULL REFERENCES detection (row) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        tag_row INTEGER NOT NULL REFERENCES tag (row),
        confidence REAL,
        PRIMARY KEY (detection_row, position)
    ) WITHOUT ROWID
    """,
    "CREATE INDEX predicted_tag_tag ON predicted_tag (tag_row)",
)

_VERSION_2 = (
    # How each recording was captured; health is there where its first column is.
    """
    CREATE TABLE capture (
        recording_row INTEGER PRIMARY KEY REFERENCES recording (row) ON DELETE CASCADE,
        stream_id BLOB NOT NULL,
        first_frame INTEGER NOT NULL,
        frames INTEGER NOT NULL,
        samplerate_measured_hz REAL,
        clock_synchronised INTEGER,
        clock_error_s REAL,
        overruns TEXT,
        gap_before_frames INTEGER NOT NULL,
        incomplete TEXT,
        rms_dbfs REAL,
        peak_dbfs REAL,
        clipped_share REAL,
        dc_offset REAL,
        is_silent INTEGER,
        is_stuck INTEGER,
        noise_floor_dbfs REAL
    )
    """,
    "CREATE INDEX recording_deployment ON recording (deployment_row, created_on_us)",
    """
    CREATE TABLE effort_note (
        deployment_row INTEGER NOT NULL REFERENCES deployment (row),
        start_us INTEGER NOT NULL,
        state TEXT NOT NULL,
        end_us INTEGER NOT NULL,
        detail TEXT NOT NULL,
        PRIMARY KEY (deployment_row, start_us, state)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE effort_plan (
        deployment_row INTEGER NOT NULL REFERENCES deployment (row),
        since_us INTEGER NOT NULL,
        plan TEXT NOT NULL,
        PRIMARY KEY (deployment_row, since_us)
    ) WITHOUT ROWID
    """,
)

_VERSION_3 = (
    # Of a fixed vocabulary from now on; until then it was said in words.
    "ALTER TABLE capture ADD COLUMN incomplete_detail TEXT",
    """
    UPDATE capture SET
        incomplete_detail = incomplete,
        incomplete = CASE
            WHEN lower(incomplete) LIKE '%disk%' OR lower(incomplete) LIKE '%cannot write%'
            THEN 'disk_full' ELSE 'other'
        END
    WHERE incomplete IS NOT NULL
    """,
)

_VERSION_4 = (
    # By which clock each time was told, so that it can be corrected once the clock is set.
    """
    CREATE TABLE capture_clock (
        recording_row INTEGER PRIMARY KEY REFERENCES recording (row) ON DELETE CASCADE,
        boot_id BLOB NOT NULL,
        offset_us INTEGER NOT NULL,
        corrected_us INTEGER NOT NULL DEFAULT 0,
        is_trusted INTEGER NOT NULL,
        is_in_file INTEGER NOT NULL DEFAULT 1
    )
    """,
    "CREATE INDEX capture_clock_doubted ON capture_clock (boot_id, offset_us) WHERE NOT is_trusted",
    "CREATE INDEX capture_clock_not_in_file ON capture_clock (is_in_file) WHERE NOT is_in_file",
    "ALTER TABLE effort_note ADD COLUMN boot_id BLOB",
    "ALTER TABLE effort_note ADD COLUMN offset_us INTEGER",
)

_VERSION_5 = (
    # Who began the latest attempt, and how many ended because that process was ended.
    "ALTER TABLE analysis ADD COLUMN begun_by TEXT",
    "ALTER TABLE analysis ADD COLUMN interruptions INTEGER NOT NULL DEFAULT 0",
)

SCHEMA = Schema(
    store="metadata store",
    application_id=0x61634D44,  # "acMD"
    migrations=(
        *(_VERSION_1, _VERSION_2, _VERSION_3, _VERSION_4, _VERSION_5),
        *(HEARD, SAMPLE, CLIPS, BACKLOG, SPACE, HUB),
    ),
    peer_tables=frozenset({"deployment", "recording", "model_output", "detection"}),
    error=MetadataStoreError,
)

# Deployments

OPEN_DEPLOYMENTS = """
    SELECT id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us
    FROM deployment
    WHERE ended_on_us IS NULL
    ORDER BY started_on_us DESC, row DESC
"""

DEPLOYMENT_BY_ID = """
    SELECT id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us
    FROM deployment
    WHERE id = :id
"""

_INSERT_DEPLOYMENT = """
    INSERT INTO deployment (id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us)
    VALUES (:id, :name, :latitude, :longitude, :started_on, :ended_on)
"""

ADD_DEPLOYMENT = _INSERT_DEPLOYMENT + "ON CONFLICT (id) DO NOTHING"

PUT_DEPLOYMENT = (
    _INSERT_DEPLOYMENT
    + """
    ON CONFLICT (id) DO UPDATE SET
        name = excluded.name,
        latitude_deg = excluded.latitude_deg,
        longitude_deg = excluded.longitude_deg,
        started_on_us = excluded.started_on_us,
        ended_on_us = excluded.ended_on_us
"""
)

UPDATE_DEPLOYMENT = """
    UPDATE deployment
    SET name = :name, latitude_deg = :latitude, longitude_deg = :longitude,
        ended_on_us = :ended_on
    WHERE id = :id
"""

DEPLOYMENTS = """
    SELECT id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us
    FROM deployment
    ORDER BY started_on_us, row
"""

DEPLOYMENT_OF_ROW = """
    SELECT id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us
    FROM deployment
    WHERE row = :row
"""

ROW_OF_DEPLOYMENT = "SELECT row FROM deployment WHERE id = :id"

# Recordings

PUT_RECORDING = """
    INSERT INTO recording (
        id, deployment_row, path, created_on_us, duration_s, samplerate_hz,
        audio_channels, time_expansion, state
    )
    VALUES (
        :id, (SELECT row FROM deployment WHERE id = :deployment), :path, :created_on,
        :duration, :samplerate, :audio_channels, :time_expansion, 'captured'
    )
    ON CONFLICT (id) DO UPDATE SET
        deployment_row = excluded.deployment_row,
        created_on_us = excluded.created_on_us,
        duration_s = excluded.duration_s,
        samplerate_hz = excluded.samplerate_hz,
        audio_channels = excluded.audio_channels,
        time_expansion = excluded.time_expansion,
        path = CASE WHEN state IN ('kept', 'deleted') THEN path ELSE excluded.path END,
        state = CASE
            WHEN state = 'lost' AND excluded.path IS NOT NULL THEN 'captured'
            ELSE state
        END
"""

OWNER_OF_PATH = "SELECT id FROM recording WHERE path = :path"

ROW_OF_RECORDING = "SELECT row FROM recording WHERE id = :id"

ROWS_OF_RECORDINGS = """
    SELECT id, row FROM recording
    WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
"""

UPDATE_PATH = "UPDATE recording SET path = :path, state = 'kept' WHERE id = :id"

END_RECORDING = """
    UPDATE recording SET path = NULL, state = :state
    WHERE id = :id AND (:path IS NULL OR path IS NULL OR path = :path)
"""

_RECORDINGS = """
    SELECT r.row, r.id, r.path, r.created_on_us, r.duration_s, r.samplerate_hz,
        r.audio_channels, r.time_expansion,
        d.id, d.name, d.latitude_deg, d.longitude_deg, d.started_on_us, d.ended_on_us
    FROM recording r CROSS JOIN deployment d ON d.row = r.deployment_row
"""

_NEWEST_RECORDING_FIRST = " ORDER BY r.created_on_us DESC, r.row DESC"

RECORDINGS_BY_ID = (
    _RECORDINGS
    + "WHERE r.id IN (SELECT acoupi_blob(value) FROM json_each(:ids))"
    + _NEWEST_RECORDING_FIRST
)

RECORDINGS_BY_PATH = (
    _RECORDINGS
    + "WHERE r.path IN (SELECT acoupi_path(value) FROM json_each(:paths))"
    + _NEWEST_RECORDING_FIRST
)

RECORDINGS_BY_ROW = _RECORDINGS + "WHERE r.row IN (SELECT value FROM json_each(:rows))"

CAPTURED_RECORDINGS = (
    _RECORDINGS + "WHERE r.state = 'captured' ORDER BY r.created_on_us, r.row LIMIT :limit"
)

NEWEST_RECORDINGS = _RECORDINGS + _NEWEST_RECORDING_FIRST + " LIMIT :limit"

UNANALYSED_RECORDINGS = (
    _RECORDINGS
    + """
    WHERE r.created_on_us >= :start AND r.created_on_us < :end AND EXISTS (
        SELECT 1 FROM analysis a
        WHERE a.recording_row = r.row AND a.state = 'failed' AND NOT EXISTS (
            SELECT 1 FROM model_output o
            WHERE o.recording_row = r.row AND o.name_model = a.name_model
        )
    )
    ORDER BY r.created_on_us, r.row
    """
)

LAST_RECORDING = (
    _RECORDINGS
    + "WHERE r.row = (SELECT row FROM recording ORDER BY created_on_us DESC, row DESC LIMIT 1)"
)

LAST_RECORDING_OF = (
    _RECORDINGS
    + """
    WHERE r.row = (
        SELECT row FROM recording
        WHERE deployment_row = (SELECT row FROM deployment WHERE id = :deployment)
        ORDER BY created_on_us DESC, row DESC LIMIT 1
    )
"""
)

COUNT_RECORDINGS = f"SELECT {STATE} AS shown, count(*) FROM recording r GROUP BY shown"

# Analyses

ANALYSIS = """
    SELECT state, attempts, error, updated_on_us FROM analysis
    WHERE recording_row = :recording_row AND name_model = :name_model
"""

ANALYSES = """
    SELECT r.id, a.name_model, a.state, a.attempts, a.error, a.updated_on_us
    FROM recording r CROSS JOIN analysis a ON a.recording_row = r.row
    WHERE r.id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
    ORDER BY a.recording_row, a.name_model
"""

PUT_ANALYSIS = """
    INSERT INTO analysis (recording_row, name_model, state, attempts, error, updated_on_us)
    VALUES (:recording_row, :name_model, :state, :attempts, :error, :updated_on)
    ON CONFLICT (recording_row, name_model) DO UPDATE SET
        state = excluded.state,
        attempts = excluded.attempts,
        error = excluded.error,
        updated_on_us = excluded.updated_on_us
"""

BEGUN_BY = """
    SELECT begun_by, interruptions FROM analysis
    WHERE recording_row = :recording_row AND name_model = :name_model
"""

PUT_BEGUN_BY = """
    UPDATE analysis SET begun_by = :begun_by, interruptions = :interruptions
    WHERE recording_row = :recording_row AND name_model = :name_model
"""

COUNT_ANALYSES = "SELECT state, count(*) FROM analysis GROUP BY state"
COUNT_DETECTIONS = """
    SELECT o.name_model, count(*) FROM detection d JOIN model_output o ON o.row = d.output_row
    GROUP BY o.name_model
"""

# Model outputs

PUT_OUTPUT = """
    INSERT INTO model_output (id, recording_row, name_model, created_on_us, provenance_row)
    VALUES (:id, :recording_row, :name_model, :created_on, :provenance_row)
    ON CONFLICT (id) DO UPDATE SET
        recording_row = excluded.recording_row,
        name_model = excluded.name_model,
        created_on_us = excluded.created_on_us,
        provenance_row = excluded.provenance_row
"""

ROW_OF_OUTPUT = "SELECT row FROM model_output WHERE id = :id"

DELETE_DETECTIONS = "DELETE FROM detection WHERE output_row = :output_row"

NEXT_DETECTION_ROW = "SELECT coalesce(max(row), 0) + 1 FROM detection"

INSERT_DETECTION = """
    INSERT INTO detection (
        row, id, output_row, prediction_type, location_type,
        start_time_s, low_freq_hz, end_time_s, high_freq_hz, score
    )
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

ROW_OF_TAG = "SELECT row FROM tag WHERE key = ? AND value = ?"

INSERT_TAG = "INSERT INTO tag (key, value) VALUES (?, ?)"

INSERT_PREDICTED_TAG = """
    INSERT INTO predicted_tag (detection_row, position, tag_row, confidence)
    VALUES (?, ?, ?, ?)
"""

OUTPUTS_OF_RECORDINGS = """
    SELECT row, id, recording_row, name_model, created_on_us, provenance_row FROM model_output
    WHERE recording_row IN (SELECT value FROM json_each(:rows))
    ORDER BY created_on_us DESC, row DESC
"""

OUTPUTS_BY_RECORDING_TIME = """
    SELECT o.row, o.id, o.recording_row, o.name_model, o.created_on_us, o.provenance_row
    FROM recording r CROSS JOIN model_output o ON o.recording_row = r.row
    WHERE r.created_on_us >= :start AND r.created_on_us < :end
    ORDER BY r.created_on_us, r.row, o.created_on_us, o.row
"""

_OUTPUTS = """
    SELECT o.row, o.id, o.recording_row, o.name_model, o.created_on_us, o.provenance_row
    FROM model_output o
    WHERE {filters}
    ORDER BY o.created_on_us DESC, o.row DESC
    LIMIT :limit
"""

_OUTPUT_FILTERS = {
    "after": "o.created_on_us >= :after",
    "before": "o.created_on_us <= :before",
    "ids": "o.id IN (SELECT acoupi_blob(value) FROM json_each(:ids))",
    "model_names": "o.name_model IN (SELECT value FROM json_each(:model_names))",
    "recording_ids": """o.recording_row IN (
        SELECT row FROM recording
        WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:recording_ids))
    )""",
    "detection_ids": """o.row IN (
        SELECT output_row FROM detection
        WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:detection_ids))
    )""",
}

# Detections

_DETECTION = """
    SELECT d.row, d.output_row, d.id, d.prediction_type, d.location_type,
        d.start_time_s, d.low_freq_hz, d.end_time_s, d.high_freq_hz, d.score
"""

DETECTIONS_OF_OUTPUTS = (
    _DETECTION
    + """
    FROM detection d
    WHERE d.output_row IN (SELECT value FROM json_each(:rows))
    ORDER BY d.output_row, d.row
"""
)

_DETECTIONS = (
    _DETECTION
    + """
    FROM {joins}
    WHERE {filters}
    ORDER BY o.created_on_us DESC, o.row DESC, d.row
"""
)

_DETECTION_FILTERS = {
    "after": _OUTPUT_FILTERS["after"],
    "before": _OUTPUT_FILTERS["before"],
    "model_names": _OUTPUT_FILTERS["model_names"],
    "model_output_ids": "o.id IN (SELECT acoupi_blob(value) FROM json_each(:model_output_ids))",
    "ids": "d.id IN (SELECT acoupi_blob(value) FROM json_each(:ids))",
    "score_gt": "d.score > :score_gt",
    "score_lt": "d.score < :score_lt",
}

TAGS_OF_OUTPUTS = """
    SELECT p.detection_row, t.key, t.value, p.confidence
    FROM detection d
        CROSS JOIN predicted_tag p ON p.detection_row = d.row
        CROSS JOIN tag t ON t.row = p.tag_row
    WHERE d.output_row IN (SELECT value FROM json_each(:rows))
    ORDER BY p.detection_row, p.position
"""

TAGS_OF_DETECTIONS = """
    SELECT p.detection_row, t.key, t.value, p.confidence
    FROM predicted_tag p CROSS JOIN tag t ON t.row = p.tag_row
    WHERE p.detection_row IN (SELECT CAST(value AS BIGINT) FROM json_each(:rows))
    ORDER BY p.detection_row, p.position
"""

_TAGS = """
    SELECT t.key, t.value, p.confidence
    FROM {joins}
    WHERE {filters}
    ORDER BY o.created_on_us DESC, o.row DESC, d.row, p.position
"""

_TAG_FILTERS = {
    "after": _OUTPUT_FILTERS["after"],
    "before": _OUTPUT_FILTERS["before"],
    "detection_ids": "d.id IN (SELECT acoupi_blob(value) FROM json_each(:detection_ids))",
    "keys": "t.key IN (SELECT value FROM json_each(:keys))",
    "score_gt": "p.confidence > :score_gt",
    "score_lt": "p.confidence < :score_lt",
    "values": "t.value IN (SELECT value FROM json_each(:values))",
}


# SQLite keeps no statistics here and would guess; CROSS JOIN fixes the order, the
# table with the narrowest filter first.
_OUTPUTS_THEN_DETECTIONS = "model_output o CROSS JOIN detection d ON d.output_row = o.row"
_DETECTIONS_THEN_OUTPUTS = "detection d CROSS JOIN model_output o ON o.row = d.output_row"
_THEN_TAGS = """
    CROSS JOIN predicted_tag p ON p.detection_row = d.row
    CROSS JOIN tag t ON t.row = p.tag_row
"""
_FROM_TAGS = """
    tag t CROSS JOIN predicted_tag p ON p.tag_row = t.row
    CROSS JOIN detection d ON d.row = p.detection_row
    CROSS JOIN model_output o ON o.row = d.output_row
"""


def outputs_where(filters: Set[str]) -> str:
    """Return the query of outputs by these filters, all of which must hold."""
    return _OUTPUTS.format(filters=_conditions(_OUTPUT_FILTERS, filters))


def detections_where(filters: Set[str]) -> str:
    """Return the query of detections by these filters, all of which must hold."""
    joins = _DETECTIONS_THEN_OUTPUTS if "ids" in filters else _OUTPUTS_THEN_DETECTIONS
    return _DETECTIONS.format(joins=joins, filters=_conditions(_DETECTION_FILTERS, filters))


def tags_where(filters: Set[str]) -> str:
    """Return the query of predicted tags by these filters, all of which must hold."""
    if "detection_ids" in filters:
        joins = _DETECTIONS_THEN_OUTPUTS + _THEN_TAGS
    elif filters & {"keys", "values"} and not filters & {"after", "before"}:
        joins = _FROM_TAGS
    else:
        joins = _OUTPUTS_THEN_DETECTIONS + _THEN_TAGS
    return _TAGS.format(joins=joins, filters=_conditions(_TAG_FILTERS, filters))


def _conditions(known: Mapping[str, str], chosen: Set[str]) -> str:
    return " AND ".join(text for name, text in known.items() if name in chosen) or "TRUE"
