"""The views of the stores, for other tools, and the one description of their columns.

The statements that make them and the data dictionary (``acoupi/docs/stores.md``) come from
here. Ids are UUIDs as text, times ISO 8601 in UTC, the rest seconds and hertz; no column has
the name of an SQL keyword.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from acoupi.data import EffortState
from acoupi.heard import SPECIES_KEYS

__all__ = [
    "MESSAGE_VIEWS",
    "METADATA_VIEWS",
    "SPECIES",
    "SPECIES_SCORE",
    "View",
    "dictionary",
    "statements",
]


class Column(NamedTuple):
    """A column of a view."""

    name: str
    value: str
    """In SQL, of the tables behind the view."""
    meaning: str
    """For people: its meaning, its unit, and the meaning of an empty value."""


class View(NamedTuple):
    """A view."""

    name: str
    row: str
    """What one row is, for people."""
    columns: Sequence[Column]
    source: str
    """What follows the columns in SQL."""


def _id(value: str) -> str:
    """Return the UUID of 16 bytes, as text."""
    parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return " || '-' || ".join(f"lower(substr(hex({value}), {at}, {n}))" for at, n in parts)


def _time(microseconds: str) -> str:
    """Return the ISO time of microseconds since 1970; NULL stays NULL."""
    us = f"({microseconds})"
    seconds = f"strftime('%Y-%m-%dT%H:%M:%S', {us} / 1000000, 'unixepoch')"
    return f"{seconds} || printf('.%06dZ', {us} % 1000000)"


def _from_start(seconds: str) -> str:
    return f"r.created_on_us + CAST(round({seconds} * 1e6) AS BIGINT)"


_NAMES_A_SPECIES = f"t.key IN ({', '.join(map(repr, SPECIES_KEYS))})"

_SUREST = f"""
    FROM predicted_tag p CROSS JOIN tag t
    WHERE p.detection_row = d.row AND t.row = p.tag_row
    ORDER BY {_NAMES_A_SPECIES} DESC, coalesce(p.confidence, 0) DESC, p.position
    LIMIT 1
"""
SPECIES = f"(SELECT t.value {_SUREST})"
"""For the detection `d`: the surest tag that names a species, else the surest tag."""
SPECIES_SCORE = f"(SELECT coalesce(p.confidence, 0) {_SUREST})"
"""Its confidence."""

STATE = """CASE WHEN r.state = 'deleted' AND EXISTS (
    SELECT 1 FROM clip_part x WHERE x.recording_row = r.row
) THEN 'clipped' ELSE r.state END"""
"""For the recording `r`: one that was deleted after clips were cut from it is clipped."""

FRACTION = """coalesce((
    SELECT s.analysed * 1.0 / nullif(s.made, 0) FROM sampling s WHERE s.row = r.sampling_row
), 1.0)"""
"""For the recording `r`: the share of the recordings of its span that are analysed."""

_LEFT_OUT = "FROM analysis a WHERE a.recording_row = r.row AND a.state = 'left_out' LIMIT 1"

_TAGS = """(
    SELECT group_concat(label, '; ') FROM (
        SELECT t.key || '=' || t.value AS label
        FROM predicted_tag p CROSS JOIN tag t
        WHERE p.detection_row = d.row AND t.row = p.tag_row
        ORDER BY p.position
    ) labels
)"""

_DEPLOYMENT = (
    Column("deployment_id", _id("w.id"), "UUID of the deployment"),
    Column("deployment_name", "w.name", "name of the site"),
    Column("latitude", "w.latitude_deg", "degrees north, WGS 84; empty: unknown"),
    Column("longitude", "w.longitude_deg", "degrees east, WGS 84; empty: unknown"),
)
_OF_RECORDING = (
    Column("samplerate_hz", "r.samplerate_hz", "frames per second of the original sound, Hz"),
    Column(
        "recording_state",
        STATE,
        "captured (its file waits in the spool), kept, clipped (clips are kept of it, see v_clip), "
        "deleted (by the saving filters or for lack of room on the disk), lost",
    ),
    Column("file_path", "CAST(r.path AS TEXT)", "the file; empty: there is none (any more)"),
)
_ANALYSED = Column(
    "analysed_fraction",
    FRACTION,
    "share of the recordings in its span of time that models analyse, 0 to 1; 1: all. "
    "A rate is detections / (hours x fraction): count each detection as 1 / fraction",
)

DEPLOYMENT = View(
    "v_deployment",
    "A deployment: the sensor at a place.",
    (
        *_DEPLOYMENT,
        Column("start_time", _time("w.started_on_us"), "when it started"),
        Column("end_time", _time("w.ended_on_us"), "when it ended; empty: it is running"),
    ),
    "FROM deployment w",
)

RECORDING = View(
    "v_recording",
    "A recording, also one with a file that was deleted.",
    (
        Column("recording_id", _id("r.id"), "UUID of the recording"),
        *_DEPLOYMENT,
        Column("start_time", _time("r.created_on_us"), "when its first frame was captured"),
        Column("end_time", _time(_from_start("r.duration_s")), "when it ended"),
        Column("duration_s", "r.duration_s", "length of the original sound, s"),
        *_OF_RECORDING,
        Column("channel_count", "r.audio_channels", "number of channels; empty: unknown"),
        Column("time_expansion", "r.time_expansion", "how many times slower its file plays"),
        Column(
            "clock_synchronised",
            "CASE WHEN k.corrected_us <> 0 THEN 1 ELSE c.clock_synchronised END",
            "1: the clock was set, or the time corrected later; 0: it was not; empty: unknown",
        ),
        Column("clock_error_s", "c.clock_error_s", "error of the clock by its own estimate, s"),
        Column("incomplete_reason", "c.incomplete", "why it is shorter than planned; empty: whole"),
        Column("level_dbfs", "c.rms_dbfs", "root mean square, dB of full scale"),
        Column("noise_floor_dbfs", "c.noise_floor_dbfs", "its quietest moments, dB of full scale"),
        _ANALYSED,
        Column("left_out_time", f"(SELECT {_time('a.updated_on_us')} {_LEFT_OUT})",
               "when it was decided that no model analyses it; empty: that was not decided"),
        Column("left_out_reason", f"(SELECT a.error {_LEFT_OUT})", "why"),
    ),
    """
    FROM recording r
        JOIN deployment w ON w.row = r.deployment_row
        LEFT JOIN capture c ON c.recording_row = r.row
        LEFT JOIN capture_clock k ON k.recording_row = r.row
    """,
)  # fmt: skip

_START, _END = "coalesce(d.start_time_s, 0)", "coalesce(d.end_time_s, r.duration_s)"

# The clip that holds all of the detection `d`, as `heard.DetectionRow.clip` says.
_IN_CLIP = f"""
    FROM clip_part p CROSS JOIN clip b
    WHERE p.recording_row = r.row AND b.row = p.clip_row AND r.path IS NULL
        AND p.start_s <= {_START} + 1e-6
        AND min({_END}, r.duration_s) <= p.start_s + b.duration_s + 1e-6
    ORDER BY p.start_s LIMIT 1
"""

CLIP = View(
    "v_clip",
    "A file with sound around detections, once for each recording that it has sound of.",
    (
        Column("clip_id", _id("b.id"), "UUID of the clip"),
        Column("recording_id", _id("r.id"), "UUID of the recording"),
        *_DEPLOYMENT,
        Column("start_time", _time(_from_start("p.start_s")), "when its first frame was captured"),
        Column("end_time", _time(_from_start("(p.start_s + b.duration_s)")), "when it ends"),
        Column("start_s", "p.start_s",
               "start, s from the first frame of the recording; negative: before it"),
        Column("duration_s", "b.duration_s", "length of its sound, s"),
        Column("missing_before_s", "b.missing_before_s",
               "seconds before it that should be in it but were not recorded"),
        Column("missing_after_s", "b.missing_after_s",
               "seconds after it that should be in it but were not recorded"),
        Column("samplerate_hz", "r.samplerate_hz", "frames per second of the sound, Hz"),
        Column("file_path", "CAST(b.path AS TEXT)", "the file"),
    ),
    """
    FROM clip_part p
        JOIN clip b ON b.row = p.clip_row
        JOIN recording r ON r.row = p.recording_row
        JOIN deployment w ON w.row = r.deployment_row
    """,
)  # fmt: skip

DETECTION = View(
    "v_detection",
    "Something that a model found in a recording.",
    (
        Column("detection_id", _id("d.id"), "UUID of the detection"),
        Column("recording_id", _id("r.id"), "UUID of its recording"),
        *_DEPLOYMENT,
        Column("start_time", _time(_from_start(_START)), "when it starts"),
        Column("end_time", _time(_from_start(_END)), "when it ends"),
        Column("start_s", _START, "start, s from the first frame of the recording"),
        Column("end_s", _END, "end, s from the first frame of the recording"),
        Column("low_hz", "d.low_freq_hz", "lowest frequency, Hz; empty: the model gives no box"),
        Column("high_hz", "d.high_freq_hz", "highest frequency, Hz; empty: as above"),
        Column("score", "d.score", "the model's confidence that something is there, 0 to 1"),
        Column(
            "prediction_type",
            "d.prediction_type",
            "presence (something is in it), sequence (of sounds), event (one sound)",
        ),
        Column("species", SPECIES, "the surest tag that names a species, else the surest tag"),
        Column("species_score", SPECIES_SCORE, "the model's confidence in it, 0 to 1"),
        Column("tags", _TAGS, "every tag, as key=value, with semicolons between"),
        *_OF_RECORDING,
        Column("model_name", "o.name_model", "name of the model"),
        Column("model_version", "m.model_version", "its version, or that of its package"),
        Column("weights_sha256", "m.weights", "SHA-256 of its weights; empty: none, or unknown"),
        Column("configuration_digest", "m.configuration", "digest of the result's settings"),
        Column("acoupi_version", "m.acoupi", "version of acoupi; empty: unknown"),
        Column("image_id", "m.image", "id of the container image; empty: none, or unknown"),
        Column("output_id", _id("o.id"), "UUID of the model's run on the recording"),
        Column("analysed_time", _time("o.created_on_us"), "when the model ran"),
        Column("clip_path", f"(SELECT CAST(b.path AS TEXT) {_IN_CLIP})",
               "the clip that holds it, where the file is gone; empty: none"),
        Column("start_in_clip_s", f"(SELECT {_START} - p.start_s {_IN_CLIP})",
               "start, s from the first frame of the clip"),
        Column("verdict", "nullif(v.verdict, 'withdrawn')", "latest verdict of a person: right, "
               "wrong, other (species), unsure; empty: not reviewed"),
        Column("verdict_species", "CASE WHEN v.verdict <> 'withdrawn' THEN v.species END",
               "the species, by that person"),
        Column("reviewer", "CASE WHEN v.verdict <> 'withdrawn' THEN v.reviewer END", "who"),
        Column("verdict_note", "CASE WHEN v.verdict <> 'withdrawn' THEN nullif(v.note, '') END",
               "the person's remark; may be empty"),
        _ANALYSED,
    ),
    """
    FROM detection d
        JOIN model_output o ON o.row = d.output_row
        JOIN recording r ON r.row = o.recording_row
        JOIN deployment w ON w.row = r.deployment_row
        LEFT JOIN provenance m ON m.row = o.provenance_row
        LEFT JOIN verdict v ON v.row = (
            SELECT max(row) FROM verdict WHERE detection_id = d.id
        )
    """,
)  # fmt: skip

_FATE = f"""CASE {STATE}
    WHEN 'clipped' THEN 'analysed, and given up but for its clips'
    WHEN 'deleted' THEN CASE
        WHEN EXISTS (SELECT 1 FROM given_up g WHERE g.recording_row = r.row)
        THEN 'given up, for room on the disk' ELSE 'given up, as the saving filters asked'
    END ELSE '' END"""  # noqa: S608 - written here
_NOT_ANALYSED = f"(SELECT 'not analysed: ' || a.error {_LEFT_OUT})"

# No UNION: DuckDB sends a view to SQLite with brackets around the parts, which SQLite refuses.
EFFORT = View(
    "v_effort",
    "A span of time that was recorded, or for which there is a reason why not. "
    "(`acoupi effort --csv FILE` accounts for every second.)",
    (
        *_DEPLOYMENT[:2],
        Column("start_time", _time("coalesce(r.created_on_us, n.start_us)"), "its start"),
        Column("end_time", _time(f"coalesce({_from_start('r.duration_s')}, n.end_us)"), "its end"),
        Column("duration_s", "coalesce(r.duration_s, (n.end_us - n.start_us) / 1e6)",
               "its length, s"),
        Column("effort_state", "coalesce(n.state, 'recorded')", ", ".join(EffortState)),
        Column("reason", f"coalesce(n.detail, {_NOT_ANALYSED}, {_FATE})",
               "why, in words; for recordings: what happened to the file"),
        _ANALYSED,
    ),
    """
    FROM deployment w CROSS JOIN json_each('["r", "n"]') k
        LEFT JOIN recording r ON k.value = 'r' AND r.deployment_row = w.row
        LEFT JOIN effort_note n ON k.value = 'n' AND n.deployment_row = w.row
    WHERE r.row IS NOT NULL OR n.deployment_row IS NOT NULL
    """,
)  # fmt: skip

MESSAGE = View(
    "v_message",
    "A message, once for each messenger that has asked for it.",
    (
        Column("message_id", _id("m.id"), "UUID of the message"),
        Column("message_type", "m.message_type", "deployment, recording, detection, summary …"),
        Column("created_time", _time("m.created_on_us"), "when it was made"),
        Column("message_text", "CAST(m.content AS TEXT)", "what is sent; usually JSON"),
        Column("messenger", "s.name", "which messenger; empty: none has asked yet"),
        Column(
            "delivery_state",
            "d.state",
            "pending, acknowledged, dead (given up), or expired (too old to be sent)",
        ),
        Column("attempt_count", "d.attempts", "how often it was tried"),
        Column("last_error", "d.last_error", "the last answer that was not a success"),
        Column("updated_time", _time("d.updated_on_us"), "when this was last changed"),
    ),
    """
    FROM message m
        LEFT JOIN delivery d ON d.message_row = m.row
        LEFT JOIN messenger s ON s.row = d.messenger_row
    """,
)

METADATA_VIEWS = (DEPLOYMENT, RECORDING, CLIP, DETECTION, EFFORT)
MESSAGE_VIEWS = (MESSAGE,)


def statements(views: Sequence[View]) -> tuple[str, ...]:
    """Return the statements that make views, also where older ones of these names are."""
    drops = [f"DROP VIEW IF EXISTS {view.name}" for view in views]
    return (*drops, *map(_create, views))


def _create(view: View) -> str:
    columns = ",\n".join(f"{column.value} AS {column.name}" for column in view.columns)
    return f"CREATE VIEW {view.name} AS SELECT {columns} {view.source}"


_HEAD = """\
# The stores as tables

To read the databases of a sensor with R, DuckDB, `sqlite3` or another tool, use the views on this
page. (Most people [export](export.md) instead.) `metadata.db` and `messages.db`, in `data/` of the
home, are SQLite files. The views keep their columns; the tables behind them may change. Open the
files read-only, even while the sensor runs:

    sqlite3 -readonly -header -csv metadata.db "SELECT * FROM v_detection" > detections.csv

In DuckDB: `ATTACH 'metadata.db' (TYPE sqlite, READ_ONLY); SELECT * FROM metadata.v_detection;`.
There, every column of a view is text; convert it: `score::DOUBLE`, `start_time::TIMESTAMPTZ`.
In R: `DBI::dbReadTable(DBI::dbConnect(RSQLite::SQLite(), "metadata.db"), "v_detection")`.

Times are ISO 8601 in UTC, with microseconds. Ids are UUIDs.
"""


def dictionary() -> str:
    """Return the data dictionary, in Markdown."""
    files = (("metadata.db", METADATA_VIEWS), ("messages.db", MESSAGE_VIEWS))
    parts = [line for file, views in files for view in views for line in _described(view, file)]
    return "\n".join([_HEAD, *parts])


def _described(view: View, file: str) -> Iterator[str]:
    yield f"## {view.name} ({file})\n\n{view.row}\n\n| column | meaning |\n|---|---|"
    for column in view.columns:
        yield f"| `{column.name}` | {column.meaning} |"
    yield ""
