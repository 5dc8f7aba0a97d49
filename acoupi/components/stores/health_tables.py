"""The state of the microphone from recordings over a longer time."""

from datetime import datetime

from acoupi import data
from acoupi.alarms.facts import Heard
from acoupi.components.stores.database import Database
from acoupi.components.stores.values import from_microseconds, to_microseconds

__all__ = ["HealthTables"]

_BYTES_PER_SAMPLE = 2
_FIELDS = (
    "rms_dbfs",
    "peak_dbfs",
    "clipped_share",
    "dc_offset",
    "is_silent",
    "is_stuck",
    "noise_floor_dbfs",
)
_HEARD = """
    SELECT r.created_on_us, r.duration_s, r.samplerate_hz * coalesce(r.audio_channels, 1),
        c.rms_dbfs, c.peak_dbfs, c.clipped_share, c.dc_offset, c.is_silent, c.is_stuck,
        c.noise_floor_dbfs
    FROM recording r JOIN capture c ON c.recording_row = r.row
    WHERE r.created_on_us >= :since AND r.created_on_us < :until AND c.rms_dbfs IS NOT NULL
    ORDER BY r.created_on_us DESC LIMIT :limit
"""


class HealthTables:
    """The part of `SqliteStore` that reads how the microphone was."""

    _database: Database

    def get_heard(self, since: datetime, until: datetime, limit: int | None = None) -> list[Heard]:
        """Return the measurements of recordings that started between two times, oldest first.

        Parameters
        ----------
        limit
            The last ones of them; None: all.
        """
        values = {
            "since": to_microseconds(since),
            "until": to_microseconds(until),
            "limit": -1 if limit is None else limit,
        }
        with self._database.reading() as connection:
            rows = connection.execute(_HEARD, values).fetchall()
        return [
            Heard(
                from_microseconds(start),
                duration,
                samples * _BYTES_PER_SAMPLE,
                data.MicrophoneHealth.model_validate(dict(zip(_FIELDS, health, strict=True))),
            )
            for start, duration, samples, *health in reversed(rows)
        ]
