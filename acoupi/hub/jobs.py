"""The jobs of a hub: each is one recording for one program to analyse, once.

A job waits until its sound is there, is sent to the broker, and runs while the worker that
claimed it renews its lease. It is done in the transaction that stores the results, and stays
done, even if it is delivered again, claimed late or reported twice.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from acoupi import data
from acoupi.components.stores import sql
from acoupi.components.stores.effort_tables import capture_of_row
from acoupi.components.stores.rows import load_recordings
from acoupi.components.stores.values import as_blob_list
from acoupi.data import to_microseconds
from acoupi.errors import HubError
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.tokens import Caller
from acoupi.reports import MessageReport, OutputReport, ProgramReport

__all__ = [
    "MOST_ATTEMPTS",
    "Assignment",
    "Claim",
    "JobResult",
    "claim_job",
    "give_again",
    "locked_job",
    "order_analysis",
    "put_program",
    "renew_lease",
    "settle_job",
    "show_analyses",
]

MOST_ATTEMPTS = 3
"""Failures before any model ran, after which a job has failed; models count their own."""
REST = 60.0
"""Seconds that a job rests after a failure."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Claim(_Model):
    """A worker starts a job, or reports that it is still working on it."""

    id: UUID
    """Id of this attempt."""
    lease_s: float = Field(ge=5, le=3600)
    """Seconds without a sign of life after which the job is given to another worker."""


class Assignment(_Model):
    """What a worker needs to know about a job; it fetches the sound."""

    job: int
    attempt: int
    """The first is 1."""
    program: ProgramReport
    recording: data.Recording
    capture: data.CaptureReport | None
    name: str
    """Name of the file, without folders."""
    bytes: int
    sha256: str


class JobResult(_Model):
    """The result of a job."""

    claim: UUID
    analyses: Sequence[data.Analysis] = ()
    outputs: Sequence[OutputReport] = ()
    messages: Sequence[MessageReport] = ()
    error: str | None = None
    """Why no model ran."""
    is_attempt: bool = True
    """Whether a failure counts as an attempt; not if the hub lacked the sound."""


# ---- orders

_PUT_PROGRAM = """
    INSERT INTO program_settings (program, digest, settings)
    VALUES (:program, :digest, :settings)
    ON CONFLICT (program, digest) DO UPDATE SET program = excluded.program RETURNING row
"""
_ORDER = """
    INSERT INTO job (recording_row, settings_row, program, state, updated_on_us)
    SELECT one.row, p.row, p.program, 'waiting', %(now)s
    FROM unnest(%(rows)s::bigint[]) AS one (row) JOIN program_settings p ON p.row = %(settings)s
    WHERE %(again)s OR NOT EXISTS (
        SELECT 1 FROM job j WHERE j.recording_row = one.row AND j.program = p.program
    )
    ORDER BY one.row
    ON CONFLICT (recording_row, settings_row) DO NOTHING
"""


def put_program(connection: Connection, program: ProgramReport) -> int:
    """Store a program with its settings, once; return its row."""
    return int(connection.one(_PUT_PROGRAM, program.model_dump())[0])


def order_analysis(
    connection: Connection,
    settings_row: int,
    recording_rows: Sequence[int],
    *,
    again: bool = False,
) -> None:
    """Have a program analyse recordings once their sound is there; existing jobs stay.

    Parameters
    ----------
    again
        Whether recordings with a job under other settings of the program get another one.
    """
    values = {
        "now": _now(), "rows": list(recording_rows), "settings": settings_row, "again": again,
    }  # fmt: skip
    connection.plain.execute(_ORDER, values)


# ---- work

_CLAIM = """
    UPDATE job SET state = 'running', worker = :worker, claim = :claim, until_us = :until,
        attempts = attempts + CASE WHEN claim = :claim THEN 0 ELSE 1 END, updated_on_us = :now
    WHERE row = :job AND program = :program AND (
        state IN ('waiting', 'sent') OR state = 'running' AND (claim = :claim OR until_us < :now)
    )
    RETURNING recording_row, settings_row, attempts,
        (SELECT r.id FROM recording r WHERE r.row = recording_row)
"""
_STATE = "SELECT state FROM job WHERE row = :job AND program = :program"
_PROGRAM = "SELECT program, digest, settings FROM program_settings WHERE row = :row"
_SOUND = """
    SELECT format, bytes, encode(sha256, 'hex') FROM audio
    WHERE recording_row = :row AND NOT is_clip
"""
_RENEW = """
    UPDATE job SET until_us = :until
    WHERE row = :job AND program = :program AND state = 'running' AND claim = :claim
    RETURNING row
"""


def claim_job(database: HubDatabase, worker: Caller, job: int, claim: Claim) -> Assignment:
    """Let a worker start a job for the length of its lease; a repeated request is one attempt.

    Raises
    ------
    HubError
        If it should not be done now, or not by this worker.
    """
    values = _values(worker, job, claim)
    with database.writing() as connection:
        found = connection.execute(_CLAIM, values).fetchone()
        if found is None:
            raise _refused(connection, values)
        row, settings_row, attempt, id_ = found
        program = connection.one(_PROGRAM, {"row": settings_row})
        sound = connection.execute(_SOUND, {"row": row}).fetchone()
        if sound is None:
            raise _not_now(job, "its sound is missing")
        of_id: Any = {"ids": as_blob_list([UUID(bytes=id_)])}
        like_a_sensors: Any = connection
        recording = load_recordings(like_a_sensors, sql.RECORDINGS_BY_ID, of_id)[row]
        capture = capture_of_row(like_a_sensors, row)
    return Assignment(
        job=job,
        attempt=attempt,
        program=ProgramReport(program=program[0], digest=program[1], settings=program[2]),
        recording=recording.model_copy(update={"path": None}),
        capture=capture,
        name=recording.path.name if recording.path else f"{recording.id}.{sound[0]}",
        bytes=sound[1],
        sha256=sound[2],
    )


def renew_lease(database: HubDatabase, worker: Caller, job: int, claim: Claim) -> bool:
    """Let a worker keep a job that it is still doing; return whether it still has it."""
    with database.writing() as connection:
        return connection.execute(_RENEW, _values(worker, job, claim)).fetchone() is not None


def _values(worker: Caller, job: int, claim: Claim) -> dict[str, Any]:
    now = _now()
    return {
        "job": job,
        "program": worker.scope,
        "worker": worker.name,
        "claim": claim.id.bytes,
        "now": now,
        "until": now + round(claim.lease_s * 1e6),
    }


def _refused(connection: Connection, values: Mapping[str, Any]) -> HubError:
    found = connection.execute(_STATE, values).fetchone()
    if found is None:
        return _not_now(values["job"], f"{values['program']} has no such job")
    return _not_now(values["job"], f"it is {found[0]}")


def _not_now(job: int, why: str) -> HubError:
    return HubError(
        f"the job {job} cannot be done now: {why}.",
        "acoupi hub workers, at the hub",
        why="another worker may have it, or have done it.",
    )


_AGAIN = """
    UPDATE job SET state = 'waiting', attempts = 0, until_us = 0, error = NULL, updated_on_us = :now
    WHERE program = :program AND state = 'failed' AND attempts <= :most
        AND NOT EXISTS (SELECT 1 FROM job_analysis a WHERE a.job_row = job.row)
"""


def give_again(database: HubDatabase, program: str) -> None:
    """Reset jobs that failed before any model ran: a new worker may have what was missing.

    Such as another version, weights, or disk space. Jobs that killed workers stay failed.
    """
    values = {"program": program, "now": _now(), "most": MOST_ATTEMPTS}
    with database.writing() as connection:
        connection.execute(_AGAIN, values)


# ---- results

_LOCK_SENSOR = """
    SELECT s.row FROM sensor s JOIN deployment w ON w.sensor_row = s.row
    JOIN recording r ON r.deployment_row = w.row JOIN job j ON j.recording_row = r.row
    WHERE j.row = :job AND j.program = :program FOR NO KEY UPDATE OF s
"""
_LOCKED = """
    SELECT j.state, j.claim, j.attempts, j.recording_row, r.id, w.sensor_row
    FROM job j JOIN recording r ON r.row = j.recording_row
    JOIN deployment w ON w.row = r.deployment_row
    WHERE j.row = :job AND j.program = :program FOR UPDATE OF j
"""
_SETTLE = """
    UPDATE job SET state = :state, error = :error, until_us = :until, updated_on_us = :now,
        attempts = attempts - :forgiven
    WHERE row = :job
"""
_PUT_ANALYSIS = """
    INSERT INTO job_analysis (job_row, name_model, state, attempts, error, updated_on_us)
    VALUES (%s, %s, %s, %s, %s, %s)
    ON CONFLICT (job_row, name_model) DO UPDATE SET state = excluded.state,
        attempts = excluded.attempts, error = excluded.error, updated_on_us = excluded.updated_on_us
"""
_SHOW = """
    INSERT INTO analysis (recording_row, name_model, state, attempts, error, updated_on_us)
    SELECT DISTINCT ON (j.recording_row, a.name_model)
        j.recording_row, a.name_model, a.state, a.attempts, a.error, a.updated_on_us
    FROM job j JOIN job_analysis a ON a.job_row = j.row
    WHERE j.recording_row = ANY(%s)
    ORDER BY j.recording_row, a.name_model, a.state = 'done' DESC, a.updated_on_us DESC
    ON CONFLICT (recording_row, name_model) DO UPDATE SET state = excluded.state,
        attempts = excluded.attempts, error = excluded.error, updated_on_us = excluded.updated_on_us
    WHERE analysis.state <> 'done'
"""


class LockedJob(_Model):
    """A job whose result is being stored; it is locked meanwhile."""

    row: int
    is_done: bool
    claim: bytes | None
    attempts: int
    recording_row: int
    recording: UUID
    sensor_row: int


def locked_job(connection: Connection, worker: Caller, job: int) -> LockedJob:
    """Return a job for a worker's program, which may be done already.

    Raises
    ------
    HubError
        If there is none.
    """
    values = {"job": job, "program": worker.scope}
    connection.execute(_LOCK_SENSOR, values)  # first, in the same order as a report
    found = connection.execute(_LOCKED, values).fetchone()
    if found is None:
        raise _refused(connection, values)
    state, claim, attempts, row, id_, sensor = found
    return LockedJob(
        row=job,
        is_done=state in ("done", "failed"),
        claim=claim,
        attempts=attempts,
        recording_row=row,
        recording=UUID(bytes=id_),
        sensor_row=sensor,
    )


def settle_job(connection: Connection, job: LockedJob, result: JobResult) -> None:
    """Store the result of a job: done, failed for good, or to be tried again after a rest."""
    state, now = _state_after(job, result), _now()
    rows = [
        (job.row, one.name_model, one.state.value, one.attempts, one.error,
         to_microseconds(one.updated_on))
        for one in result.analyses
    ]  # fmt: skip
    connection.put_many(_PUT_ANALYSIS, rows)
    errors = [result.error, *(one.error for one in result.analyses if one.state.is_final)]
    values = {
        "job": job.row,
        "state": state,
        "error": next(filter(None, errors), None),
        "until": now + round(REST * 1e6) if state == "waiting" else 0,
        "now": now,
        "forgiven": int(state == "waiting" and not result.is_attempt),
    }
    connection.execute(_SETTLE, values)
    show_analyses(connection, [job.recording_row])


def _state_after(job: LockedJob, result: JobResult) -> str:
    if result.analyses:
        if not all(one.state.is_final for one in result.analyses):
            return "waiting"
        has_failed = any(one.state is data.AnalysisState.FAILED for one in result.analyses)
        return "failed" if has_failed else "done"
    is_last = result.is_attempt and job.attempts >= MOST_ATTEMPTS
    return "failed" if is_last else "waiting"


def show_analyses(connection: Connection, recording_rows: Sequence[int]) -> None:
    """Update the analyses of recordings with those made by jobs.

    A sensor that reports the recordings again only knows about its own models.
    """
    connection.plain.execute(_SHOW, [list(recording_rows)])


def _now() -> int:
    return to_microseconds(data.utc_now())
