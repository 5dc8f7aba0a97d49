"""What became of a sensor: its files, rows and ledger against the log of what was done to it.

Nothing of the verdict is asked of the sensor but what it claims: files, samples
and rows (by plain SQLite) say the rest.
"""

import contextlib
import json
import sqlite3
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from acoupi.audio.counter import TURN
from acoupi.audio.formats import read_recording
from acoupi.components import SqliteStore
from acoupi.data import EffortSpan, EffortState
from acoupi.effort import NO_REASON
from acoupi.errors import AudioError
from acoupi.exports.effort_report import find_deployment, read_effort

__all__ = [
    "Audit", "Claims", "Judged", "Trouble", "audit", "is_corrected", "judge", "read_spans",
    "stored_until", "waiting", "work_done",
]  # fmt: skip

SOUND = (".wav", ".flac")
STORES = ("metadata.db", "messages.db")
_MADE_WITHIN = 90.0
"""Seconds by which a recording may be older than its file: less than a clock is set by."""
_MEMORY = 10.0
"""Seconds of sound that a recorder on a busy machine may not have stored yet."""
_EDGE = 0.3
"""Seconds by which the rig's log and the sensor's ledger may differ."""


@dataclass
class Trouble:
    """Something that the rig did, by its own log; times in seconds since 1970."""

    kind: str
    what: str
    start: float
    end: float = 0.0
    recovered: float | None = None
    """Seconds after its end until every service that it hit worked again."""
    is_interrupted: bool = False
    """The same service was hit again meanwhile."""
    missed: bool = False
    """There was nobody to hit."""
    stored_until: float | None = None
    """Where the last recording ends that was stored by then; later sound was only in memory."""

    def __post_init__(self) -> None:
        self.end = self.end or self.start

    @property
    def explains(self) -> frozenset[EffortState]:
        """What the ledger may say of time that it took from the recorder."""
        name = f"{self.kind} {self.what}" if self.kind in ("kill", "freeze") else self.kind
        return _EXPLAINS.get(name, frozenset())

    @property
    def holds_up(self) -> bool:
        """Whether sound of that time may still not be on the disk when it is over."""
        return self.kind in _HOLDS_UP or (self.kind, self.what) == ("freeze", "recording")

    def takes_from(self, length: float) -> float:
        """Return from when on it may take sound: what was not yet on the disk goes with it.

        That is the recording being written, and up to one more that waits in memory.
        """
        begun = self.start - _EDGE
        return begun - 2 * length if self.kind in _TAKES_WHAT_IS_WRITTEN else begun


_OFF = frozenset({EffortState.NOT_RUNNING})
_EXPLAINS = {
    "start": _OFF,
    "stop": _OFF,
    "kill recording": _OFF,
    "kill all": _OFF,
    "power cut": _OFF,
    "boot without a clock": _OFF,
    "read-only": _OFF | {EffortState.DISK_FULL},
    "freeze recording": frozenset({EffortState.OVERRUN}),
    "microphone": frozenset({EffortState.DEVICE_MISSING}),
    "disk full": frozenset({EffortState.DISK_FULL}),
}
_HOLDS_UP = ("microphone", "disk slow", "disk full")
_TAKES_WHAT_IS_WRITTEN = ("kill", "kill all", "power cut", "read-only", "boot without a clock")


# --- the ledger ---


@dataclass
class Judged:
    """The ledger, by the log; all in seconds."""

    planned: float = 0.0
    recorded: float = 0.0
    explained: float = 0.0
    held_back: float = 0.0
    """Explained only as sound that memory still held when it was taken, because of a disk or a
    microphone that held it up before."""
    unexplained: float = 0.0
    false: float = 0.0
    examples: list[str] = field(default_factory=list)
    """What was falsely explained."""


def read_spans(home: Path) -> list[EffortSpan]:
    """Return what the sensor says of every moment of its deployment."""
    store = SqliteStore(home / "data" / "metadata.db")
    try:
        return list(read_effort(store, find_deployment(store, None))[1])
    finally:
        store.close()


def judge(spans: Sequence[EffortSpan], log: Sequence[Trouble], length: float) -> Judged:
    """Hold the ledger against the log.

    Parameters
    ----------
    spans
        The ledger.
    log
        What was done.
    length
        Of a recording, seconds.
    """
    judged = Judged()
    for hole in _holes(spans):
        begun, over = hole[0].start.timestamp(), hole[-1].end.timestamp()
        for span in hole:
            seconds = (span.end - span.start).total_seconds()
            if span.state is EffortState.OFF_SCHEDULE:
                continue
            judged.planned += seconds
            if span.state is EffortState.RECORDED:
                judged.recorded += seconds
            elif span.detail == NO_REASON:
                judged.unexplained += seconds
                judged.examples.append(_shown(span, seconds))
            else:
                false, without_held = (
                    _before(span, _reasons(span.state, log, (begun, over), length, held), over)
                    for held in (True, False)
                )
                judged.false += false
                judged.held_back += without_held - false
                judged.explained += seconds - false
                if false:
                    judged.examples.append(_shown(span, false))
    return judged


def _reasons(
    state: EffortState,
    log: Iterable[Trouble],
    hole: tuple[float, float],
    length: float,
    held: bool,
) -> Iterator[float]:
    """Yield from when on each of what was done explains this state of a hole.

    With `held`, also from when on it took what was held up before.
    """
    begun, over = hole
    for one in log:
        begins = one.takes_from(length)
        for other in log:
            if held and other.holds_up and other.start <= one.start and begins <= other.end:
                begins = min(begins, other.start - length)
        if held and one.stored_until and one.start - _MEMORY <= one.stored_until:
            begins = min(begins, one.stored_until)
        # The recorder learns that there is room again when it next tries.
        until = one.end + _EDGE + (length if one.holds_up else 0)
        if state in one.explains and until >= begun and begins <= over:
            yield begins


def _before(span: EffortSpan, reasons: Iterator[float], over: float) -> float:
    """Return how many seconds of a span come before the first of its reasons."""
    start, end = span.start.timestamp(), span.end.timestamp()
    return min(max(0.0, min(end, min(reasons, default=over)) - start), end - start)


def _shown(span: EffortSpan, seconds: float) -> str:
    return f"{span.start:%H:%M:%S.%f} {seconds:.3f} s {span.state.value}: {span.detail}"


def _holes(spans: Iterable[EffortSpan]) -> Iterator[list[EffortSpan]]:
    """Yield each recorded span by itself, and what lies between two of them together."""
    hole: list[EffortSpan] = []
    for span in spans:
        if span.state is not EffortState.RECORDED:
            hole.append(span)
            continue
        if hole:
            yield hole
            hole = []
        yield [span]
    if hole:
        yield hole


# --- the stores ---


def asked(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    """Ask a store of a sensor that may be running; nothing if it is not there yet."""
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    with contextlib.closing(connection):
        return connection.execute(query, values).fetchall()


def waiting(home: Path, before: float) -> int:
    """Return how many recordings made before a time are neither kept nor deleted."""
    query = "SELECT count(*) FROM recording WHERE state = 'captured' AND created_on_us < ?"
    return int(asked(home / "data" / "metadata.db", query, int(before * 1e6))[0][0])


def stored_until(home: Path, now: float) -> float | None:
    """Return where the last recording before a time ends, by its row; None if there is none."""
    query = """
        SELECT max(created_on_us / 1e6 + duration_s) FROM recording
        WHERE created_on_us / 1e6 + duration_s <= ?
    """
    found = asked(home / "data" / "metadata.db", query, now)
    return found[0][0] if found else None


def is_corrected(home: Path, since: float) -> bool:
    """Return whether what was told before can have been corrected; the clock is right since then.

    The recorder corrects it after each recording whose clock can be trusted, before the next one.
    """
    query = """
        SELECT count(*) FROM recording r JOIN capture_clock k ON k.recording_row = r.row
        WHERE k.is_trusted AND r.created_on_us / 1e6 > ?
    """
    return bool(asked(home / "data" / "metadata.db", query, since)[0][0] > 1)


def work_done(home: Path, moment: float) -> float:
    """Return how long it took until all was analysed that had been recorded by then, seconds."""
    query = """
        SELECT max(done) FROM (
            SELECT min(a.updated_on_us) / 1e6 AS done
            FROM recording r JOIN analysis a ON a.recording_row = r.row
                AND a.state IN ('done', 'skipped', 'failed')
            WHERE r.created_on_us / 1e6 + r.duration_s <= ? GROUP BY r.row
        )
    """
    ((done,),) = asked(home / "data" / "metadata.db", query, moment)
    return max(0.0, (done or moment) - moment)


_CLAIMS = {
    "recording": ("metadata.db", "SELECT hex(id) FROM recording"),
    "kept or deleted": (
        "metadata.db", "SELECT hex(id) || state FROM recording WHERE state IN ('kept', 'deleted')",
    ),
    "output": ("metadata.db", "SELECT hex(id) FROM model_output"),
    "message": ("messages.db", "SELECT hex(id) FROM message"),
    "acknowledged": (
        "messages.db",
        "SELECT hex(message_id) || messenger_row FROM delivery WHERE state = 'acknowledged'",
    ),
}  # fmt: skip


@dataclass
class Claims:
    """What the stores told whoever asked, and so must still tell after a power cut."""

    ids: dict[str, set[str]]

    @classmethod
    def of(cls, home: Path) -> "Claims":
        """Ask them."""
        return cls({
            name: {row[0] for row in asked(home / "data" / store, query)}
            for name, (store, query) in _CLAIMS.items()
        })  # fmt: skip

    def broken_in(self, home: Path) -> list[str]:
        """Return what of it a store no longer tells, and whether the store is damaged."""
        try:
            now = Claims.of(home).ids
        except sqlite3.Error as error:
            return [f"the stores cannot be read: {error}"]
        gone = {name: ids - now[name] for name, ids in self.ids.items()}
        told = [f"{len(ids)} of {name} gone" for name, ids in gone.items() if ids]
        return told + damages(home)


def damages(home: Path) -> list[str]:
    """Return what SQLite finds wrong with the stores."""
    found = []
    for name in STORES:
        path = home / "data" / name
        if asked(path, "PRAGMA integrity_check") not in ([("ok",)], []):
            found.append(f"{name} is damaged")
        if asked(path, "PRAGMA foreign_key_check"):
            found.append(f"{name} has rows that refer to nothing")
    return found


# --- files and rows ---


@dataclass
class Audit:
    """What does not fit among the files and the rows; all lists are empty where all is well."""

    recordings: int = 0
    outputs: int = 0
    lost: list[str] = field(default_factory=list)
    """Rows whose file is lost."""
    without_end: list[str] = field(default_factory=list)
    """Recordings that are not as long as their row says, or still being written."""
    torn: list[str] = field(default_factory=list)
    """Files in which samples are missing, and nothing says so."""
    misdated: list[str] = field(default_factory=list)
    """Recordings whose row or file tells another time than that at which it was made."""
    without_row: list[str] = field(default_factory=list)
    without_file: list[str] = field(default_factory=list)
    stranded: list[str] = field(default_factory=list)
    """Recordings that were never finished."""
    unheard: list[str] = field(default_factory=list)
    """Deleted, though no model has ever looked at them to the end."""
    doubled: list[str] = field(default_factory=list)
    """Outputs that are there twice."""
    untold: list[str] = field(default_factory=list)
    """Outputs without their message."""
    damaged: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, list[str]]:
        """All lists that are not empty."""
        return {
            name: value for name, value in vars(self).items() if value and isinstance(value, list)
        }


def audit(home: Path, excused: Sequence[tuple[float, float]] = ()) -> Audit:
    """Hold files against rows.

    Parameters
    ----------
    home
        Of a sensor that has ended in order.
    excused
        When its microphone was at fault: its samples need not follow each other then.
    """
    metadata, found = home / "data" / "metadata.db", Audit(damaged=damages(home))
    rows = asked(
        metadata,
        """
        SELECT hex(r.id), r.path, r.state, r.duration_s, r.samplerate_hz, r.created_on_us / 1e6,
            c.overruns
        FROM recording r LEFT JOIN capture c ON c.recording_row = r.row
        """,
    )
    found.recordings = len(rows)
    files = {
        path
        for path in (home / "data").rglob("*.*")
        if path.suffix in SOUND and path.name[0] != "."
    }
    hidden = [path for path in (home / "data").rglob(".*") if path.suffix in (".part", ".deleted")]
    found.without_end += [str(path) for path in hidden]
    for id_, path, state, duration, rate, created, overruns in rows:
        if state == "lost":
            found.lost.append(id_)
        if state == "captured":
            found.stranded.append(id_)
        if path is None:
            continue
        where = Path(path) if Path(path).is_absolute() else home / path
        if where not in files:
            found.without_file.append(str(where))
            continue
        files.remove(where)
        ends = created + duration
        _check_time(where, created, found)
        is_excused = any(start - 1 < ends and created < end + 1 for start, end in excused)
        _check(where, round(duration * rate), bool(overruns) or is_excused, found)
    found.without_row += [str(path) for path in files]
    _check_outputs(home, found)
    return found


def made_on(path: Path) -> float:
    """Return when a file was made, as its disk says; seconds since 1970."""
    told = subprocess.run(["stat", "--format", "%W", path], capture_output=True, check=True)
    return float(told.stdout)


def _check_time(path: Path, created: float, found: Audit) -> None:
    """Hold the time of a recording against that of its file."""
    told = {"row": created}
    with suppress(AudioError):
        told["file"] = read_recording(path).created_on.timestamp()
    for name, one in told.items():
        off = one - made_on(path)
        if abs(off) > _MADE_WITHIN:
            found.misdated.append(f"{path}: {off:+.1f} s in its {name}")


def _check(path: Path, frames: int, is_excused: bool, found: Audit) -> None:
    samples = soundfile.read(path, dtype="int16")[0].astype(int)
    if len(samples) != frames:
        found.without_end.append(f"{path}: {len(samples)} frames of {frames}")
    if not is_excused and np.any(np.diff(samples) % TURN != 1):
        found.torn.append(str(path))


def _check_outputs(home: Path, found: Audit) -> None:
    metadata = home / "data" / "metadata.db"
    outputs = asked(metadata, "SELECT hex(id), recording_row, name_model FROM model_output")
    found.outputs = len(outputs)
    seen = set()
    for id_, *which in outputs:
        if tuple(which) in seen:
            found.doubled.append(id_)
        seen.add(tuple(which))
    contents = asked(home / "data" / "messages.db", "SELECT content FROM message")
    told = {_id_in(content) for (content,) in contents}
    found.untold += [id_ for id_, *_ in outputs if id_ not in told]
    found.unheard += [
        id_
        for (id_,) in asked(
            metadata,
            """
            SELECT hex(r.id) FROM recording r WHERE r.state = 'deleted' AND NOT EXISTS (
                SELECT 1 FROM analysis a WHERE a.recording_row = r.row AND a.state = 'done'
            )
            """,
        )
    ]


def _id_in(content: str | bytes) -> str:
    found = json.loads(content)
    return str(found.get("id", "")).replace("-", "").upper()
