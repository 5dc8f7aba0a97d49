"""The tables of the sound that a hub has: its own copies, and archives that stay where they are."""

__all__ = ["AUDIO_TABLES"]

AUDIO_TABLES = (
    # Sound is there once its row is: every byte was stored, and its digest was right.
    """
    CREATE TABLE audio (
        id BYTEA PRIMARY KEY,                                   -- of the recording, or of the clip
        recording_row BIGINT NOT NULL REFERENCES recording (row) ON DELETE CASCADE,
        is_clip BOOLEAN NOT NULL,
        place TEXT NOT NULL,                     -- address of the audio store; '': the hub's own
        key TEXT NOT NULL,                       -- of the sound in that store
        format TEXT NOT NULL,                    -- wav or flac; in archives also mp3
        bytes BIGINT NOT NULL,                   -- of the whole, with its head
        sha256 BYTEA NOT NULL,
        stored_on_us BIGINT NOT NULL,
        head BYTEA NOT NULL DEFAULT '',          -- of a piece of an archive's file: before it
        first_byte BIGINT NOT NULL DEFAULT 0     -- where it begins in the file
    )
    """,
    "CREATE INDEX audio_recording ON audio (recording_row)",
    # Of which there may be chunks in the store; it goes when the sound is there, or was given up.
    """
    CREATE TABLE upload (
        id BYTEA NOT NULL,                       -- of the sound
        sha256 BYTEA NOT NULL,                   -- of the whole that was offered
        touched_on_us BIGINT NOT NULL,           -- when its sensor last offered it, or sent of it
        is_going BOOLEAN NOT NULL DEFAULT false, -- its chunks are being removed
        PRIMARY KEY (id, sha256)
    )
    """,
    "CREATE INDEX upload_touched ON upload (touched_on_us)",
)
