"""Sending the jobs of a hub to its broker, and again if they get lost.

The database has the truth about jobs; the broker only distributes them. The broker may be
wiped, and this process or any worker killed, at any moment: unclaimed jobs are sent again.
"""

import logging
import threading
from collections.abc import Callable

from acoupi import data
from acoupi.data import to_microseconds
from acoupi.errors import HubError
from acoupi.hub.broker import HubBroker
from acoupi.hub.database import HubDatabase
from acoupi.hub.pulse import beat
from acoupi.hub.workers import get_broker_users, programs_without_workers

__all__ = ["Dispatcher", "dispatch"]

logger = logging.getLogger(__name__)

MOST_SENT = 200
"""Most jobs of a program in its queue at a time; no more are lost with a broker."""
LOST_AFTER = 10.0
"""Seconds after which a job that is neither queued nor started counts as lost."""
PAUSE = 1.0
"""Seconds between two rounds."""
USERS_EVERY = 10.0
"""Seconds between updates of the broker's users; it may have been wiped."""
_LOCK = 0x61634844
"""Key of the lock that lets one dispatcher at a time choose jobs; "acHD"."""

MOST_DEATHS = 5
"""Workers that may die at a recording, before it counts as failed: it may be the cause."""
KILLS = f"{MOST_DEATHS} workers ended, or fell silent, while they analysed it"

_EXPIRED = """
    UPDATE job SET updated_on_us = :now,
        state = CASE WHEN attempts < :deaths THEN 'waiting' ELSE 'failed' END,
        error = CASE WHEN attempts < :deaths THEN error ELSE :kills END
    WHERE state = 'running' AND until_us < :now RETURNING row, state
"""
_SENT = "SELECT DISTINCT program FROM job WHERE state = 'sent' AND sent_on_us < :before"
_LOST = """
    UPDATE job SET state = 'waiting', updated_on_us = :now
    WHERE state = 'sent' AND program = :program AND sent_on_us < :before RETURNING row
"""
_PROGRAMS = "SELECT DISTINCT program FROM program_settings"
_TAKE = """
    UPDATE job SET state = 'sent', sent_on_us = :now, updated_on_us = :now WHERE row IN (
        SELECT j.row FROM job j
        WHERE j.state = 'waiting' AND j.program = :program AND j.until_us <= :now AND EXISTS (
            SELECT 1 FROM audio a WHERE a.recording_row = j.recording_row AND NOT a.is_clip
        )
        ORDER BY j.row
        LIMIT greatest(
            0, :most - (SELECT count(*) FROM job WHERE state = 'sent' AND program = :program)
        )
    )
    RETURNING row
"""
_BACK = """
    UPDATE job SET state = 'waiting' WHERE state = 'sent' AND row = ANY(%s)
"""


class Dispatcher:
    """Sends jobs to the broker, one round at a time.

    Raises
    ------
    HubError
        From every method: the database or the broker does not answer. Nothing is lost.
    """

    def __init__(self, database: HubDatabase, broker: HubBroker) -> None:
        self._database, self._broker = database, broker
        self._idle: set[str] = set()
        self._users_due = 0.0

    def turn(self) -> int:
        """Take back lost jobs and send waiting ones; return how many were sent."""
        if data.monotonic() >= self._users_due:
            self._broker.settle_users(get_broker_users(self._database))
            self._say_idle()
            self._users_due = data.monotonic() + USERS_EVERY
        self._take_back()
        with self._database.reading() as connection:
            programs = [str(one) for (one,) in connection.execute(_PROGRAMS)]
        return sum(map(self._send, programs))

    def _take_back(self) -> None:
        now = to_microseconds(data.utc_now())
        values = {"now": now, "before": now - round(LOST_AFTER * 1e6)}
        with self._database.writing() as connection:
            limits = {"now": now, "deaths": MOST_DEATHS, "kills": KILLS}
            expired = connection.execute(_EXPIRED, limits).fetchall()
            sent = [str(one) for (one,) in connection.execute(_SENT, values)]
        if expired:
            failed = [row for row, state in expired if state == "failed"]
            again = len(expired) - len(failed)
            logger.warning("%d jobs are waiting again: their workers are gone", again)
            for row in failed:
                logger.error("The job %d has failed: %s", row, KILLS)
        for program in sent:
            if self._broker.count_waiting(program):
                continue  # its job may be among these
            with self._database.writing() as connection:
                lost = connection.execute(_LOST, {**values, "program": program}).fetchall()
            if lost:
                logger.warning("%d jobs of %s are waiting again: they got lost", len(lost), program)

    def _send(self, program: str) -> int:
        """Send waiting jobs of a program; marked as sent first, so that none is sent twice."""
        values = {
            "now": to_microseconds(data.utc_now()), "program": program, "most": MOST_SENT,
        }  # fmt: skip
        with self._database.writing() as connection:
            connection.execute("SELECT pg_advisory_xact_lock(:key)", {"key": _LOCK})
            taken = sorted(row for (row,) in connection.execute(_TAKE, values))
        if not taken:
            return 0
        try:
            self._broker.send(program, taken)
        except HubError:
            with self._database.writing() as connection:
                connection.plain.execute(_BACK, [taken])
            raise
        return len(taken)

    def _say_idle(self) -> None:
        """Warn once of a program that has jobs but no worker."""
        idle = set(programs_without_workers(self._database))
        for program in sorted(idle - self._idle):
            logger.warning("No worker has the program %s; its recordings wait", program)
        self._idle = idle


def dispatch(dispatcher: Dispatcher, stopped: threading.Event, pause: float = PAUSE) -> None:
    """Dispatch until told to stop, through any outage."""
    trouble: str | None = None
    while not stopped.wait(pause):
        said = _trouble(dispatcher.turn)
        if said is None:
            beat()
        if said != trouble:
            if said is None:
                logger.info("Database and broker answer again")
            else:
                logger.warning("%s Nothing is lost: acoupi tries again", said)
        trouble = said


def _trouble(act: Callable[[], object]) -> str | None:
    try:
        act()
    except HubError as error:
        return f"{error.message} {error.why or ''}".strip()
    return None
