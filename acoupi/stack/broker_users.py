"""The users of the broker of a bundle, with their rights and passwords.

A service that can write to the recording queue can order recordings. So each
service has its own redis user, which may read only its own queues and keys, and
may send to every queue except the recorder's; only beat may send to that. A model
may send to where results go that are not recordings.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath

from acoupi.stack.doors import only_runs_models
from acoupi.stack.stack import BEAT, Service, Stack
from acoupi.writing import PRIVATE, RenderedFile, disk_error

__all__ = [
    "BROKER_FOLDER",
    "HOST_USER",
    "USERS_FILE",
    "broker_rules",
    "broker_secrets",
    "broker_user",
    "known_password",
    "users_text",
]

BROKER_FOLDER = PurePath("secrets/broker")
USERS_FILE = BROKER_FOLDER / "users.acl"
HOST_USER = "_host"
"""The user for commands on the host; no service can have that name."""

COMMANDS = (
    "resetchannels -@all +auth +select +ping +lpush +rpush +rpop +brpop +llen +exists "
    "+hset +hdel +hgetall +multi +exec"
)
"""The commands that `acoupi.services` uses, and no others; with keys, for the own keys only."""
SENDING = "+lpush +llen +exists"
"""Those for queues of others."""
HOST_COMMANDS = "resetchannels -@all +auth +ping +llen +del"
PASSWORD_BYTES = 32


def broker_user(service: str) -> str:
    """Return the redis user of a service. Not its bare name: redis has a user "default".

    Examples
    --------
    >>> broker_user("recording")
    'acoupi-recording'
    """
    return f"acoupi-{service}"


def broker_rules(stack: Stack) -> dict[str, str]:
    """Return the rights of each service and of HOST_USER as redis ACL rules, without passwords."""
    queues = list(dict.fromkeys(queue for one in stack.services for queue in one.queues))
    recorders = set(stack.recorder.queues if stack.recorder else ())
    others = {queue for one in stack.workers if one is not stack.recorder for queue in one.queues}
    only_beat_sends = recorders - others if len(stack.workers) > 1 else set()
    usual = [queue for queue in queues if queue not in only_beat_sends]
    results = usual if stack.result_queues is None else stack.result_queues
    rules = {
        one.name: _service_rules(one, results if only_runs_models(one) else usual)
        for one in stack.workers
    }
    rules[BEAT] = _service_rules(stack.beat, queues)
    rules[HOST_USER] = " ".join([*(f"~{_literal(queue)}" for queue in queues), HOST_COMMANDS])
    return rules


def _service_rules(service: Service, reached: Sequence[str]) -> str:
    """Return the rights of a service: all in what is its own, and sending to some others."""
    own = [f"~{_literal(queue)}" for queue in service.queues]
    if service.is_worker:
        own.append(f"~unacked:{service.name}")
    others = [f"~{_literal(queue)}" for queue in reached if queue not in service.queues]
    return " ".join([*own, COMMANDS, *([f"( {SENDING}", *others, ")"] if others else [])])


def _literal(queue: str) -> str:
    """Escape the wildcards of redis; no queue name has any so far."""
    return "".join(f"\\{one}" if one in "*?[]\\" else one for one in queue)


def broker_secrets(stack: Stack, home: Path) -> Mapping[PurePath, RenderedFile]:
    """Return the file of users, and one password file for each, by path below the home.

    An existing password is kept.

    Raises
    ------
    DeviceError
        If one cannot be read.
    """
    rules = broker_rules(stack)
    passwords = {name: known_password(home / BROKER_FOLDER / name) for name in rules}
    files = {
        BROKER_FOLDER / name: RenderedFile(f"{text}\n", PRIVATE) for name, text in passwords.items()
    }
    return {**files, USERS_FILE: RenderedFile(users_text(rules, passwords), PRIVATE)}


def users_text(rules: Mapping[str, str], passwords: Mapping[str, str]) -> str:
    """Return the redis ACL file, with digests of the passwords."""
    lines = ["user default off"]
    for name, rights in rules.items():
        digest = hashlib.sha256(passwords[name].encode()).hexdigest()
        user = name if name == HOST_USER else broker_user(name)
        lines.append(f"user {user} on #{digest} {rights}")
    return "".join(f"{line}\n" for line in lines)


def known_password(path: Path) -> str:
    """Return the password in a file, or a new one if there is none.

    Raises
    ------
    DeviceError
        If it cannot be read.
    """
    try:
        known = path.read_text().strip()
    except FileNotFoundError:
        known = ""
    except OSError as error:
        raise disk_error("read", path, error) from error
    return known or secrets.token_urlsafe(PASSWORD_BYTES)
