"""The state of an analysis that is left to the hub of a sensor."""

from acoupi.components.stores.views import METADATA_VIEWS, statements

__all__ = ["HUB"]

HUB = (
    *(f"DROP VIEW IF EXISTS {view.name}" for view in METADATA_VIEWS),
    # SQLite can change no CHECK.
    "CREATE TABLE analysis_before AS SELECT * FROM analysis",
    "DROP TABLE analysis",
    """
    CREATE TABLE analysis (
        recording_row INTEGER NOT NULL REFERENCES recording (row),
        name_model TEXT NOT NULL,
        state TEXT NOT NULL
            CHECK (state IN ('running', 'retry', 'done', 'skipped', 'failed', 'left_out', 'hub')),
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
    *statements(METADATA_VIEWS),
)
"""A migration of the metadata store."""
