"""Every statement that reads what was heard, from a sensor's store and from a hub's.

SQLite keeps no statistics here and would guess: CROSS JOIN fixes the order of the tables, and
INDEXED BY the index; `acoupi.hub.database` leaves both out. Recordings are walked in the order
of time, so that a page costs what it shows; only a rare tag is looked up first, and its few
detections sorted.
"""

# ruff: noqa: S608 - every piece is a constant of this file; values are bound

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from acoupi.components.stores.views import FRACTION, SPECIES, STATE

__all__ = ["Query", "count", "detections", "recordings", "species", "verdicts"]

_RECORDING = f"""
    r.row, r.id, r.created_on_us, r.duration_s, r.samplerate_hz, r.audio_channels,
    r.time_expansion, r.path, {STATE}, r.deployment_row, {FRACTION}
"""
RECORDING_COLUMNS = 11

_COUNTED = """(
    SELECT count(*) FROM model_output o CROSS JOIN detection d ON d.output_row = o.row
    WHERE o.recording_row = r.row
)"""

_START_S = "coalesce(d.start_time_s, 0)"
_START_US = f"(r.created_on_us + CAST(round({_START_S} * 1e6) AS BIGINT))"

_DETECTION = """
    d.row, d.id, d.prediction_type, d.location_type,
    d.start_time_s, d.low_freq_hz, d.end_time_s, d.high_freq_hz, d.score,
    o.id, o.name_model, o.created_on_us, o.provenance_row
"""

_THEN_DETECTIONS = """
    CROSS JOIN model_output o ON o.recording_row = r.row
    CROSS JOIN detection d ON d.output_row = o.row
"""

_TAG_ROWS = "SELECT CAST(value AS BIGINT) FROM json_each(:tag_rows)"

_FROM_RARE_TAGS = f"""
    (
        SELECT DISTINCT detection_row FROM predicted_tag
        WHERE tag_row IN ({_TAG_ROWS})
    ) x
    CROSS JOIN detection d ON d.row = x.detection_row
    CROSS JOIN model_output o ON o.row = d.output_row
    CROSS JOIN recording r ON r.row = o.recording_row
"""

_HAS_TAG = f"""EXISTS (
    SELECT 1 FROM predicted_tag p
    WHERE p.detection_row = d.row AND p.tag_row IN ({_TAG_ROWS})
)"""

# The verdict that counts; '' where there is none.
_VERDICT = """coalesce(nullif((
    SELECT verdict FROM verdict v WHERE v.detection_id = d.id ORDER BY v.row DESC LIMIT 1
), 'withdrawn'), '')"""

_OF_RECORDINGS = {
    "before": "r.created_on_us < :before",
    "deployment_row": "r.deployment_row = :deployment_row",
    "deployments": """r.deployment_row IN (
        SELECT row FROM deployment
        WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:deployments))
    )""",
    "states": f"{STATE} IN (SELECT value FROM json_each(:states))",
    "are_sampled": ":are_sampled AND r.row IN (SELECT recording_row FROM sample)",
}

_OF_DETECTIONS = {
    "models": "o.name_model IN (SELECT value FROM json_each(:models))",
    "min_score": "d.score >= :min_score",
    "tag_rows": _HAS_TAG,
    # Few are reviewed: they are looked up first.
    "are_reviewed": ":are_reviewed AND d.id IN (SELECT detection_id FROM verdict)",
    "verdicts": f"{_VERDICT} IN (SELECT value FROM json_each(:verdicts))",
}

_TIME_OF_RECORDING = {"since": "r.created_on_us >= :since"}

_TIME_OF_DETECTION = {
    "since": f"r.created_on_us >= :reach_back AND {_START_US} >= :since",
    "before": f"{_START_US} < :before",
}

MOST_RARE = 20_000
"""A tag with fewer detections than this is looked up first."""


@dataclass(frozen=True)
class Query:
    """What is asked for, as values to be bound.

    The conditions are the names of the values. ``reach_back`` is the start of the earliest
    recording that may hold a detection at ``since``.
    """

    values: Mapping[str, Any]
    has_rare_tags: bool = False
    is_newest_first: bool = False

    def with_values(self, **values: Any) -> "Query":
        """Return the query with further values."""
        return replace(self, values={**self.values, **values})

    @property
    def recordings(self) -> str:
        """The recordings in the order of time."""
        of_one = "deployment_row" in self.values
        index = "recording_deployment" if of_one else "recording_created_on"
        return f"recording r INDEXED BY {index}"

    def conditions(self, *groups: Mapping[str, str]) -> str:
        """Return what holds, of groups of conditions."""
        texts = [text for group in groups for name, text in group.items() if name in self.values]
        return " AND ".join(texts) or "TRUE"

    @property
    def is_about_detections(self) -> bool:
        """Whether a recording must have a detection."""
        return any(name in self.values for name in _OF_DETECTIONS)

    @property
    def order(self) -> tuple[str, str]:
        """Direction and comparison."""
        return ("DESC", "<") if self.is_newest_first else ("ASC", ">")


def recordings(query: Query) -> str:
    """Return the statement that reads recordings."""
    way, comparison = query.order
    where = [query.conditions(_OF_RECORDINGS, _TIME_OF_RECORDING), _with_detections(query)]
    if "after_row" in query.values:
        where += [
            f"r.created_on_us {comparison}= :after_us",
            f"(r.created_on_us, r.row) {comparison} (:after_us, :after_row)",
        ]
    return f"""
        SELECT {_RECORDING}, {_COUNTED} FROM {query.recordings}
        WHERE {" AND ".join(where)}
        ORDER BY r.created_on_us {way}, r.row {way} LIMIT :limit
    """


def _with_detections(query: Query) -> str:
    if not query.is_about_detections:
        return "TRUE"
    return f"""EXISTS (
        SELECT 1 FROM model_output o CROSS JOIN detection d ON d.output_row = o.row
        WHERE o.recording_row = r.row AND {query.conditions(_OF_DETECTIONS)}
    )"""


def detections(query: Query) -> str:
    """Return the statement that reads detections."""
    way, comparison = query.order
    where = [_where_detections(query)]
    if "after_row" in query.values:
        last = "(:after_us, :after_recording, :after_start, :after_row)"
        where += [
            f"r.created_on_us {comparison}= :after_us",
            f"(r.created_on_us, r.row, {_START_S}, d.row) {comparison} {last}",
        ]
    return f"""
        SELECT {_RECORDING}, {_DETECTION} FROM {_sources(query)}
        WHERE {" AND ".join(where)}
        ORDER BY r.created_on_us {way}, r.row {way}, {_START_S} {way}, d.row {way} LIMIT :limit
    """


def _sources(query: Query) -> str:
    return _FROM_RARE_TAGS if query.has_rare_tags else query.recordings + _THEN_DETECTIONS


def _where_detections(query: Query) -> str:
    return query.conditions(_OF_RECORDINGS, _TIME_OF_DETECTION, _OF_DETECTIONS)


def verdicts(query: Query) -> str:
    """Return the statement that reads every verdict, in their order."""
    return f"""
        SELECT v.recording_id, v.detection_id, v.verdict, v.species, v.reviewer, v.note,
            v.given_on_us
        FROM verdict v CROSS JOIN recording r ON r.id = v.recording_id
        WHERE {query.conditions(_OF_RECORDINGS)} AND (
            v.detection_id IS NULL AND NOT {query.is_about_detections}
                AND {query.conditions(_TIME_OF_RECORDING)}
            OR EXISTS (
                SELECT 1
                FROM detection d CROSS JOIN model_output o ON o.row = d.output_row
                WHERE d.id = v.detection_id
                    AND {query.conditions(_TIME_OF_DETECTION, _OF_DETECTIONS)}
            )
        )
        ORDER BY v.row
    """


_QUARTER = 900_000_000

_KEYS = {
    ("detections", "quarter"): f"{_START_US} / {_QUARTER}",
    ("recordings", "quarter"): f"r.created_on_us / {_QUARTER}",
    ("detections", "species"): f"coalesce({SPECIES}, '')",
    ("recordings", "species"): f"coalesce({SPECIES}, '')",
    ("detections", "deployment"): "r.deployment_row",
    ("recordings", "deployment"): "r.deployment_row",
}


def count(what: str, by: str, query: Query) -> str:
    """Return the statement for counting "recordings" or "detections": their rows and keys.

    SQLite would sort them all to group them, in memory. Recordings by species come once for each
    detection, one recording after the other.
    """
    key = _KEYS[what, by]
    if what == "detections":
        return f"SELECT d.row, {key} FROM {_sources(query)} WHERE {_where_detections(query)}"
    of_recordings = query.conditions(_OF_RECORDINGS, _TIME_OF_RECORDING)
    if by == "species":
        return f"""
            SELECT r.row, {key} FROM {_sources(query)}
            WHERE {of_recordings} AND {query.conditions(_OF_DETECTIONS)}
            ORDER BY r.created_on_us, r.row
        """
    return f"""
        SELECT r.row, {key} FROM {query.recordings}
        WHERE {of_recordings} AND {_with_detections(query)}
    """


def species(query: Query) -> str:
    """Return the statement that reads what `SpeciesRow` is made of, of each detection."""
    return f"""
        SELECT coalesce({SPECIES}, ''), {_START_US}, d.id,
            CASE WHEN r.state IN ('captured', 'kept') THEN d.score END
        FROM {_sources(query)} WHERE {_where_detections(query)}
    """


MODELS = "SELECT DISTINCT name_model FROM model_output ORDER BY 1"

TAGS = "SELECT key, value FROM tag ORDER BY key, value"

TAG_ROWS = "SELECT row, key, value FROM tag"

NUMBER_OF_TAGGED = f"""
    SELECT count(*) FROM (
        SELECT 1 FROM predicted_tag
        WHERE tag_row IN ({_TAG_ROWS}) LIMIT :limit
    ) x
"""

DEPLOYMENTS_BY_ROW = """
    SELECT row, id, name, latitude_deg, longitude_deg, started_on_us, ended_on_us FROM deployment
"""

PLACE_OF_RECORDING = "SELECT created_on_us, row FROM recording WHERE id = :id"

PLACE_OF_DETECTION = f"""
    SELECT r.created_on_us, r.row, {_START_S}, d.row
    FROM detection d
        CROSS JOIN model_output o ON o.row = d.output_row
        CROSS JOIN recording r ON r.row = o.recording_row
    WHERE d.id = :id
"""

IDS = {
    "recording": "SELECT id FROM recording WHERE id BETWEEN :low AND :high LIMIT :limit",
    "detection": """
        SELECT DISTINCT id FROM detection WHERE id BETWEEN :low AND :high LIMIT :limit
    """,
}

RECORDING = f"SELECT {_RECORDING}, {_COUNTED} FROM recording r WHERE r.id = :id"

_WHOLE_DETECTION = f"""
    SELECT {_RECORDING}, {_DETECTION}
    FROM {{source}}
    WHERE {{condition}}
    ORDER BY {_START_S}, d.row
"""

DETECTION = _WHOLE_DETECTION.format(
    source="""detection d
        CROSS JOIN model_output o ON o.row = d.output_row
        CROSS JOIN recording r ON r.row = o.recording_row""",
    condition="d.id = :id",
)

DETECTIONS_IN = _WHOLE_DETECTION.format(
    source="recording r" + _THEN_DETECTIONS, condition="r.id = :id"
)

LAST_VERDICTS = """
    SELECT v.recording_id, v.detection_id, v.verdict, v.species, v.reviewer, v.note, v.given_on_us
    FROM verdict v
    WHERE v.detection_id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
    ORDER BY v.row
"""
