"""People's verdicts on detections, stored in the database of a hub."""

from acoupi.heard import VerdictRow
from acoupi.hub.database import HubDatabase, storable_time

__all__ = ["put_verdict"]

_PUT = """
    INSERT INTO verdict (recording_id, detection_id, verdict, species, reviewer, note, given_on_us)
    SELECT r.id, CAST(:detection AS BYTEA), :verdict, CAST(:species AS TEXT), :reviewer, :note,
        CAST(:given_on AS BIGINT)
    FROM recording r
    WHERE r.id = :recording AND (
        CAST(:detection AS BYTEA) IS NULL OR EXISTS (
            SELECT 1 FROM detection d JOIN model_output o ON o.row = d.output_row
            WHERE d.id = :detection AND o.recording_row = r.row
        )
    )
    ON CONFLICT (recording_id, detection_id, reviewer, given_on_us)
        DO UPDATE SET verdict = excluded.verdict
    RETURNING row
"""


def put_verdict(database: HubDatabase, one: VerdictRow) -> bool:
    """Store a verdict, once; return whether its detection or recording exists.

    Raises
    ------
    HubError
        If the database cannot be written, or cannot store the verdict's time.
    """
    values = {
        "recording": one.recording_id.bytes,
        "detection": one.detection_id and one.detection_id.bytes,
        "verdict": one.verdict.value,
        "species": one.species,
        "reviewer": one.reviewer,
        "note": one.note,
        "given_on": storable_time(one.given_on),
    }
    with database.writing() as connection:
        return connection.execute(_PUT, values).fetchone() is not None
