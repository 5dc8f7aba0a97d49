"""The workers that analyse for a hub: who they are, and what lets each of them in.

A worker has one token. It is what the hub asks for over HTTP, and what the password of the
worker's own user at the broker is made from; the hub keeps digests of both.
"""

import base64
import datetime
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from acoupi import data
from acoupi.data import from_microseconds, to_microseconds
from acoupi.errors import HubError, ParameterError
from acoupi.hub.database import HubDatabase
from acoupi.hub.sensors import check_name
from acoupi.hub.tokens import Caller, digest_of
from acoupi.reports import PROGRAM

__all__ = [
    "BrokerUser",
    "ProgramWork",
    "Worker",
    "add_worker",
    "broker_address",
    "broker_of",
    "broker_password",
    "broker_user",
    "get_broker_users",
    "get_work",
    "get_workers",
    "login_url",
    "note_alive",
    "programs_without_workers",
    "withdraw_worker",
]

SILENT = datetime.timedelta(minutes=3)
"""Without a sign of life for so long, a worker counts as gone."""
SALT_BYTES = 4
"""Of a password of RabbitMQ."""

_ADD = """
    INSERT INTO worker
        (name, program, token_sha256, broker, password_sha256, password_salted, added_on_us)
    VALUES (:name, :program, :token, :broker, :plain, :salted, :now)
    ON CONFLICT (name) DO UPDATE SET
        program = excluded.program, token_sha256 = excluded.token_sha256,
        broker = excluded.broker, password_sha256 = excluded.password_sha256,
        password_salted = excluded.password_salted
"""
_WORKERS = """
    SELECT name, program, token_sha256 IS NOT NULL, seen_on_us,
        (SELECT count(*) FROM job j WHERE j.worker = w.name AND j.state = 'running'),
        (SELECT count(*) FROM job j WHERE j.worker = w.name AND j.state IN ('done', 'failed'))
    FROM worker w ORDER BY name
"""
_WORK = """
    SELECT j.program,
        count(*) FILTER (WHERE j.state = 'waiting' AND a.recording_row IS NOT NULL),
        count(*) FILTER (WHERE j.state = 'waiting' AND a.recording_row IS NULL),
        count(*) FILTER (WHERE j.state = 'sent'),
        count(*) FILTER (WHERE j.state = 'running'),
        count(*) FILTER (WHERE j.state = 'done'),
        count(*) FILTER (WHERE j.state = 'failed'),
        (
            SELECT count(*) FROM worker w WHERE w.program = j.program
            AND w.token_sha256 IS NOT NULL AND w.seen_on_us > :since
        ),
        (array_agg(j.error ORDER BY j.updated_on_us DESC) FILTER (WHERE j.state = 'failed'))[1]
    FROM job j LEFT JOIN audio a ON a.recording_row = j.recording_row AND NOT a.is_clip
    GROUP BY j.program ORDER BY j.program
"""

_LEFT_ALONE = """
    SELECT DISTINCT p.program FROM program_settings p
    WHERE EXISTS (
        SELECT 1 FROM job j WHERE j.program = p.program AND j.state IN ('waiting', 'sent')
    ) AND NOT EXISTS (
        SELECT 1 FROM worker w WHERE w.program = p.program
        AND w.token_sha256 IS NOT NULL AND w.seen_on_us > :since
    )
    ORDER BY p.program
"""


@dataclass(frozen=True)
class Worker:
    """A worker, as its hub knows it."""

    name: str
    program: str
    has_token: bool
    """Whether it may work."""
    seen_on: datetime.datetime | None
    """When it last gave a sign of life; None: never."""
    running: int
    """Jobs that it has now."""
    done: int
    """Jobs that it did, and those that failed with it."""


@dataclass(frozen=True)
class ProgramWork:
    """How far the recordings that one program is to analyse have come."""

    program: str
    waiting: int
    """With sound, and not sent yet."""
    without_sound: int
    """Whose sound has not come yet."""
    sent: int
    running: int
    done: int
    failed: int
    workers: int
    """Workers that gave a sign of life lately."""
    last_failure: str | None
    """Why the last of those failed that did."""

    @property
    def has_nobody(self) -> bool:
        """Whether there is work that no worker takes."""
        return not self.workers and bool(self.waiting or self.sent or self.running)


@dataclass(frozen=True)
class BrokerUser:
    """The user of a worker at the broker."""

    name: str
    program: str
    sha256: bytes
    """Of its password."""
    salted: bytes
    """The same as RabbitMQ keeps it: salt, and SHA-256 of the salt and the password."""


def add_worker(database: HubDatabase, name: str, program: str, broker: str) -> str:
    """Let a worker analyse for a hub; return its token, which replaces one that it had.

    Parameters
    ----------
    program
        What its jobs are for, as `programs` of reports call it.
    broker
        Where the worker finds the broker; a login in it is left out.

    Raises
    ------
    ParameterError
        If it cannot be called that.
    """
    check_name(name, "a worker", "acoupi hub add-worker shed --program birds")
    if not re.fullmatch(PROGRAM, program):
        raise ParameterError(
            "--program",
            f'no program is called "{program}".',
            "--program acoupi.programs.demo",
            why="it is the name of a module, and of a class behind a colon.",
        )
    token, salt = secrets.token_urlsafe(32), secrets.token_bytes(SALT_BYTES)
    password = broker_password(token).encode()
    values = {
        "name": name,
        "program": program,
        "token": digest_of(token),
        "broker": broker_address(broker),
        "plain": hashlib.sha256(password).digest(),
        "salted": salt + hashlib.sha256(salt + password).digest(),
        "now": to_microseconds(data.utc_now()),
    }
    with database.writing() as connection:
        connection.execute(_ADD, values)
    return token


def withdraw_worker(database: HubDatabase, name: str) -> None:
    """Let a worker work no longer; what it has in hand is given to others.

    Raises
    ------
    HubError
        If the hub does not know it.
    """
    with database.writing() as connection:
        found = connection.execute(
            "UPDATE worker SET token_sha256 = NULL WHERE name = :name RETURNING row", {"name": name}
        ).fetchone()
    if found is None:
        raise HubError(
            f'this hub does not know the worker "{name}".',
            "acoupi hub workers",
            why="nobody has added it.",
        )


def get_workers(database: HubDatabase) -> list[Worker]:
    """Return the workers that a hub knows, by name."""
    with database.reading() as connection:
        return [
            Worker(name, program, has_token, on and from_microseconds(on), running, done)
            for name, program, has_token, on, running, done in connection.execute(_WORKERS)
        ]


def get_work(database: HubDatabase) -> list[ProgramWork]:
    """Return how far the work for each program is."""
    since = to_microseconds(data.utc_now() - SILENT)
    with database.reading() as connection:
        return [ProgramWork(*row) for row in connection.execute(_WORK, {"since": since})]


def programs_without_workers(database: HubDatabase) -> list[str]:
    """Return the programs for which recordings wait, and that no worker has."""
    since = to_microseconds(data.utc_now() - SILENT)
    with database.reading() as connection:
        return [str(one) for (one,) in connection.execute(_LEFT_ALONE, {"since": since})]


def get_broker_users(database: HubDatabase) -> list[BrokerUser]:
    """Return the users that the broker is to have."""
    statement = """
        SELECT name, program, password_sha256, password_salted FROM worker
        WHERE token_sha256 IS NOT NULL ORDER BY name
    """
    with database.reading() as connection:
        return [BrokerUser(broker_user(name), *rest) for name, *rest in
                connection.execute(statement)]  # fmt: skip


def broker_of(database: HubDatabase, worker: Caller) -> str:
    """Return where a worker finds the broker."""
    with database.writing() as connection:
        statement = "SELECT broker FROM worker WHERE row = :row"
        return str(connection.one(statement, {"row": worker.row})[0])


def note_alive(database: HubDatabase, worker: Caller) -> None:
    """Note that a worker gives a sign of life."""
    values = {"row": worker.row, "now": to_microseconds(data.utc_now())}
    with database.writing() as connection:
        connection.execute("UPDATE worker SET seen_on_us = :now WHERE row = :row", values)


def broker_user(worker: str) -> str:
    """Return the user of a worker at the broker."""
    return f"acoupi-worker-{worker}"


def broker_password(token: str) -> str:
    """Return the password of a worker at the broker, which tells nothing of its token."""
    digest = hmac.digest(token.encode(), b"acoupi broker", "sha256")
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def broker_address(url: str) -> str:
    """Return the URL of a broker without the login in it.

    Examples
    --------
    >>> broker_address("redis://admin:secret@hub.example.org:6379/0")
    'redis://hub.example.org:6379/0'
    """
    try:
        parts = urlsplit(url)
        is_address = bool(parts.scheme and parts.hostname)
    except ValueError:
        is_address = False
    if not is_address:
        raise ParameterError(
            "--broker",
            "this is not the address of a broker.",
            "--broker redis://localhost:6379/0",
            why="it must begin with redis://, rediss://, amqp:// or amqps:// and name a host.",
        )
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def login_url(address: str, user: str, password: str) -> str:
    """Return the URL of a broker with a login."""
    parts = urlsplit(address)
    return urlunsplit(parts._replace(netloc=f"{quote(user)}:{quote(password)}@{parts.netloc}"))
