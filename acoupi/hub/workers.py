"""The workers that analyse for a hub: their names, tokens and users at the broker.

A worker has one token. It identifies the worker to the hub over HTTP, and the password of the
worker's own user at the broker is derived from it; the hub keeps digests of both.
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
"""Time without a sign of life after which a worker counts as gone."""
SALT_BYTES = 4
"""Bytes of the salt in a password hash of RabbitMQ."""

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
    """A worker, as the hub sees it."""

    name: str
    program: str
    has_token: bool
    """Whether it has a token, so that it may work."""
    seen_on: datetime.datetime | None
    """When it last gave a sign of life; None: never."""
    running: int
    """Jobs that it is doing now."""
    done: int
    """Jobs that it did, including failed ones."""


@dataclass(frozen=True)
class ProgramWork:
    """The progress of the jobs of one program."""

    program: str
    waiting: int
    """Jobs with sound that are not sent yet."""
    without_sound: int
    """Jobs whose sound has not arrived yet."""
    sent: int
    running: int
    done: int
    failed: int
    workers: int
    """Workers with a recent sign of life."""
    last_failure: str | None
    """The reason of the latest failure."""

    @property
    def has_nobody(self) -> bool:
        """Whether there are jobs but no worker."""
        return not self.workers and bool(self.waiting or self.sent or self.running)


@dataclass(frozen=True)
class BrokerUser:
    """The user of a worker at the broker."""

    name: str
    program: str
    sha256: bytes
    """SHA-256 of its password."""
    salted: bytes
    """The same in RabbitMQ's form: salt, and SHA-256 of the salt and the password."""


def add_worker(database: HubDatabase, name: str, program: str, broker: str) -> str:
    """Let a worker analyse for a hub; return its token, which replaces an earlier one.

    Parameters
    ----------
    program
        The program of its jobs, named as in `programs` of reports.
    broker
        Where the worker finds the broker; a login in it is left out.

    Raises
    ------
    ParameterError
        If the name is not valid.
    """
    check_name(name, "a worker", "acoupi hub add-worker shed --program birds")
    if not re.fullmatch(PROGRAM, program):
        raise ParameterError(
            "--program",
            f'"{program}" cannot be a program.',
            "--program acoupi.programs.demo",
            why="it must be the name of a module, optionally with a colon and a class.",
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
    """Stop giving jobs to a worker; its current jobs go to others.

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
            f'this hub has no worker "{name}".',
            "acoupi hub workers",
            why="it has not been added.",
        )


def get_workers(database: HubDatabase) -> list[Worker]:
    """Return the workers of a hub, by name."""
    with database.reading() as connection:
        return [
            Worker(name, program, has_token, on and from_microseconds(on), running, done)
            for name, program, has_token, on, running, done in connection.execute(_WORKERS)
        ]


def get_work(database: HubDatabase) -> list[ProgramWork]:
    """Return the progress of the jobs of each program."""
    since = to_microseconds(data.utc_now() - SILENT)
    with database.reading() as connection:
        return [ProgramWork(*row) for row in connection.execute(_WORK, {"since": since})]


def programs_without_workers(database: HubDatabase) -> list[str]:
    """Return the programs with waiting recordings but no worker."""
    since = to_microseconds(data.utc_now() - SILENT)
    with database.reading() as connection:
        return [str(one) for (one,) in connection.execute(_LEFT_ALONE, {"since": since})]


def get_broker_users(database: HubDatabase) -> list[BrokerUser]:
    """Return the users that the broker should have."""
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
    """Note a sign of life of a worker."""
    values = {"row": worker.row, "now": to_microseconds(data.utc_now())}
    with database.writing() as connection:
        connection.execute("UPDATE worker SET seen_on_us = :now WHERE row = :row", values)


def broker_user(worker: str) -> str:
    """Return the user of a worker at the broker."""
    return f"acoupi-worker-{worker}"


def broker_password(token: str) -> str:
    """Return the password of a worker at the broker, which does not reveal its token."""
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
