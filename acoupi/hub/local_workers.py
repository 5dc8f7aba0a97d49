"""Workers of this machine for one run of `acoupi hub analyse`; without a broker.

Each is a separate process that calls the hub over HTTP on the loopback interface, like any
worker: a model never sees the database. Its next job comes through a pipe. A job is claimed
with a lease, so whichever process is killed, the job is done again, and only once.
"""

import logging
import secrets
import subprocess
import sys
import threading
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from acoupi.data import to_microseconds, utc_now
from acoupi.errors import HubError
from acoupi.hub.database import Connection, HubDatabase
from acoupi.hub.ingest import serving_here
from acoupi.hub.local_worker import Orders
from acoupi.hub.parts import Hub
from acoupi.hub.workers import add_worker

__all__ = ["LocalWork", "local_workers"]

logger = logging.getLogger(__name__)

LEASE = 30.0
"""Seconds of silence after which a job is given to another worker."""
MOST_DEATHS = 3
"""Workers that may die at a recording, before it counts as failed."""
MOST_IN_A_ROW = 8
"""Workers that may die in a row, before the cause cannot be the recordings."""
PAUSE = 1.0
"""Seconds until a worker without a job looks for one again."""
GRACE = 10.0
"""Seconds for a worker to stop."""

_NEXT = """
    SELECT j.row FROM job j WHERE j.program = :program AND (
        j.state IN ('waiting', 'sent') AND j.until_us <= :now
        OR j.state = 'running' AND j.until_us < :now
    ) AND EXISTS (SELECT 1 FROM audio a WHERE a.recording_row = j.recording_row AND NOT a.is_clip)
    ORDER BY j.row LIMIT :most
"""
_AFTER_DEATH = """
    UPDATE job SET state = :state, error = :why, until_us = 0, updated_on_us = :now
    WHERE row = :job AND state = 'running'
"""
_FORGET = "DELETE FROM worker WHERE name = ANY(%s)"

LOCAL = "local-"
_LOCAL = "SELECT name FROM worker WHERE starts_with(name, :local)"
_IS_OVER = "SELECT pg_try_advisory_lock(:run)"
_LET_GO = "SELECT pg_advisory_unlock(:run)"
_WAIT_AGAIN = """
    UPDATE job SET state = 'waiting', until_us = 0 WHERE state = 'running' AND worker = ANY(%s)
"""


@contextmanager
def local_workers(
    database: HubDatabase, program: str, count: int, files: Sequence[Path] = ()
) -> Iterator["LocalWork"]:
    """Have processes on this machine do a program's jobs while the block runs.

    Parameters
    ----------
    database
        The hub's; nothing else may use this object.
    program
        Its name in reports.
    count
        How many processes.
    files
        Folders of files that settings may name, such as weights.
    """
    run = secrets.randbits(60)
    names = [f"{LOCAL}{run}-{number}" for number in range(1, count + 1)]
    with database.writing() as connection:
        connection.execute("SELECT pg_advisory_lock(:run)", {"run": run})
        _take_over(connection)
    with serving_here(Hub(database)) as url:
        work = LocalWork(database, program)
        workers = [
            _Worker(
                Orders(
                    hub=url,
                    token=add_worker(database, name, program, "local://localhost"),
                    program=program,
                    files=list(files),
                    lease_s=LEASE,
                ),
                work,
            )
            for name in names
        ]
        for one in workers:
            one.start()
        try:
            yield work
        finally:
            work.over.set()
            for one in workers:
                one.stop()
            with database.writing() as connection:
                connection.plain.execute(_WAIT_AGAIN, [names])
                connection.plain.execute(_FORGET, [names])


def _take_over(connection: Connection) -> None:
    """Release the jobs of killed runs: their locks are no longer held.

    A lock belongs to a database connection, and ends with it.
    """
    runs = defaultdict(list)
    for (name,) in connection.execute(_LOCAL, {"local": LOCAL}).fetchall():
        runs[name.removeprefix(LOCAL).partition("-")[0]].append(name)
    for run, names in runs.items():
        if run.isdigit() and connection.one(_IS_OVER, {"run": int(run)})[0]:
            connection.plain.execute(_WAIT_AGAIN, [names])
            connection.plain.execute(_FORGET, [names])
            connection.execute(_LET_GO, {"run": int(run)})


class LocalWork:
    """The waiting jobs, each for one worker at a time."""

    def __init__(self, database: HubDatabase, program: str) -> None:
        self._database, self._program = database, program
        self._lock, self._given = threading.Lock(), set[int]()
        self._deaths, self._in_a_row, self._last_code = Counter[int](), 0, 0
        self.over = threading.Event()

    def take(self) -> int | None:
        """Return a job that no worker has; None if there is none now."""
        with self._lock:
            values = {
                "program": self._program,
                "now": to_microseconds(utc_now()),
                "most": len(self._given) + 1,
            }
            with self._database.writing() as connection:
                found = [int(row) for (row,) in connection.execute(_NEXT, values)]
            job = next((one for one in found if one not in self._given), None)
            if job is not None:
                self._given.add(job)
            return job

    def give_back(self, job: int) -> None:
        """Release a job, if it is not done."""
        with self._lock:
            self._given.discard(job)

    def require_well(self) -> None:
        """Raise if workers die at any job.

        Raises
        ------
        HubError
            If many died in a row without finishing a job.
        """
        if self._in_a_row >= MOST_IN_A_ROW:
            raise HubError(
                "the workers on this machine die at every recording.",
                "fewer --workers, if memory is short; and --retry-failed, with the same command",
                why=f"{self._in_a_row} died one after another (exit code {self._last_code}).",
            )

    def note_over(self) -> None:
        """Note that a worker finished a job and is alive."""
        self._in_a_row = 0

    def note_death(self, job: int, code: int) -> None:
        """Note that a worker died at a job: it is tried again, but only a few times."""
        self._deaths[job] += 1
        self._in_a_row += 1
        self._last_code = code
        logger.warning("A worker died at the job %d (exit code %d)", job, code)
        if self._in_a_row >= MOST_IN_A_ROW:
            self.over.set()
        is_fatal = self._deaths[job] >= MOST_DEATHS and not self.over.is_set()
        values = {
            "job": job,
            "state": "failed" if is_fatal else "waiting",
            "why": f"{self._deaths[job]} workers died at it (exit code {code})",
            "now": to_microseconds(utc_now()),
        }
        with self._database.writing() as connection:
            connection.execute(_AFTER_DEATH, values)


class _Worker(threading.Thread):
    """Runs jobs in a child process, which is replaced when it dies."""

    def __init__(self, orders: Orders, work: LocalWork) -> None:
        super().__init__(name="local worker")
        self._orders, self._work = orders, work
        self._process: subprocess.Popen[str] | None = None

    def run(self) -> None:
        """Run jobs until told to stop."""
        while not self._work.over.is_set():
            with subprocess.Popen(
                [sys.executable, "-m", "acoupi.hub.local_worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C is for the parent
            ) as process:
                self._process = process
                self._feed(process)
            self._work.over.wait(PAUSE)

    def stop(self) -> None:
        """Give it a moment to finish its job, then kill it: the job is done another time."""
        self.join(GRACE)
        if self._process is not None:
            self._process.kill()
        self.join()

    def _feed(self, process: "subprocess.Popen[str]") -> None:
        """Give it jobs until it dies or everything is done."""
        _say(process, self._orders.model_dump_json())
        while not self._work.over.is_set():
            job = self._next()
            if job is None:
                self._work.over.wait(PAUSE)
                continue
            is_alive = _say(process, str(job)) and _is_answered(process)
            if is_alive:
                self._work.note_over()
            elif not self._work.over.is_set():
                self._work.note_death(job, process.wait(GRACE))
            self._work.give_back(job)
            if not is_alive:
                return

    def _next(self) -> int | None:
        try:
            return self._work.take()
        except HubError as error:
            logger.warning("%s", error.message)
            return None


def _say(process: "subprocess.Popen[str]", line: str) -> bool:
    """Send it a line; return whether it was still running."""
    assert process.stdin is not None
    try:
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return True


def _is_answered(process: "subprocess.Popen[str]") -> bool:
    assert process.stdout is not None
    return bool(process.stdout.readline())
