"""The tables of what was given up for room on a disk, and of what a person has protected."""

__all__ = ["SPACE"]

SPACE = (
    # Each file that was given up, for each recording that it had sound of. `path` is there until
    # the file is removed.
    """
    CREATE TABLE given_up (
        row INTEGER PRIMARY KEY,
        recording_row INTEGER NOT NULL REFERENCES recording (row) ON DELETE CASCADE,
        path,
        class TEXT NOT NULL,
        reason TEXT NOT NULL,
        duration_s REAL NOT NULL,
        bytes INTEGER NOT NULL,
        given_up_on_us INTEGER NOT NULL
    )
    """,
    "CREATE INDEX given_up_recording ON given_up (recording_row)",
    "CREATE INDEX given_up_unfinished ON given_up (path) WHERE path IS NOT NULL",
    """
    CREATE TABLE protected (
        recording_row INTEGER PRIMARY KEY REFERENCES recording (row) ON DELETE CASCADE
    )
    """,
)
"""A migration of the metadata store."""
