"""Attacks on the broker and the doors of the stores: as `inside`, run within a container."""

import json
import os
import socket
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.docker.attacks.attempts import Here, every, written

# --- the broker ---

REDIS = "/run/broker/redis.sock"
RULE = """EVAL return_1 0|EVALSHA 0 0|SCRIPT LOAD x|FUNCTION LIST|MODULE LIST|MODULE LOAD /tmp/x
CONFIG GET *|CONFIG SET dir /tmp|CONFIG REWRITE|DEBUG SLEEP 9|MONITOR|KEYS *|SCAN 0|RANDOMKEY|DBSIZE
MIGRATE h 1 k 0 9|FLUSHALL|FLUSHDB|ACL LIST|ACL WHOAMI|ACL SETUSER x on|CLIENT LIST|CLIENT KILL 1:1
CLIENT PAUSE 9|SUBSCRIBE x|PSUBSCRIBE *|PUBLISH x y|RESTORE celery 0 x|COPY celery x|MOVE celery 1
LMOVE celery x LEFT LEFT|RPOPLPUSH celery x|SWAPDB 0 1|DEL celery|UNLINK celery|RENAME celery x
EXPIRE celery 1|PERSIST celery|DUMP celery|OBJECT ENCODING celery|TYPE celery|TOUCH celery
SHUTDOWN|SAVE|BGSAVE|BGREWRITEAOF|LASTSAVE|REPLICAOF h 1|SLAVEOF h 1|PSYNC x 1|SYNC|FAILOVER
CLUSTER INFO|INFO|TIME|ROLE|SLOWLOG GET|LATENCY DOCTOR|MEMORY DOCTOR|COMMAND COUNT|LOLWUT
LTRIM celery 0 0|LSET celery 0 x|LREM celery 0 x|LINSERT celery BEFORE x y|LRANGE celery 0 1
LINDEX celery 0|SADD celery x|SET celery x|GET celery|APPEND celery x|ZADD celery 1 x
XADD celery * a b
SORT celery|BITOP NOT a celery|PFADD celery x|GEOADD celery 1 1 x|WAIT 1 1|WATCH celery
HSCAN unacked:x 0|HRANDFIELD unacked:x|READONLY|ASKING"""
"""Commands that nobody but the owner of a redis needs."""
TAKE = """LPUSH recording {}|RPUSH recording {}|RPOP recording|BRPOP recording 1|LLEN recording
HGETALL unacked:recording|HSET unacked:recording a b|HDEL unacked:recording a|EXISTS recording
HGETALL unacked:beat|LPUSH elsewhere x|HSET elsewhere a b"""


def rule_the_broker(_: Here) -> list[str]:
    """Some 90 commands of redis that change or show what is not its own."""
    return _commands(RULE)


def order_recordings(_: Here) -> list[str]:
    """Send to the recorder's queue, read it, or touch what others have in hand."""
    return _commands(TAKE)


OWN_QUEUES = {"default": "celery", "detection": "detection", "recording": "recording"}


def orders_of_others(here: Here) -> list[str]:
    """Take away orders of other workers, or put some before them; as a model, order at all."""
    words = ["RPUSH {} x", "RPOP {}", "DEL {}"]
    words += ["LPUSH {} x", "LLEN {}"] if here.service == "detection" else []
    queues = {*OWN_QUEUES.values()} - {OWN_QUEUES.get(here.service)}
    return _commands("|".join(one.replace("{}", str(queue)) for queue in queues for one in words))


def _commands(text: str) -> list[str]:
    client = _redis()
    words = [one.split() for line in text.splitlines() for one in line.split("|")]
    return sorted({_refused(client, one) for one in words})


def _refused(client: Any, words: list[str]) -> str:
    try:
        client.execute_command(*words)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what was got
        said = str(error).lower()
        if type(error).__name__ == "NoPermissionError" or "command not allowed" in said:
            return "NOPERM"
        return "UNKNOWN" if "unknown command" in said else f"{words}: {error}"
    return f"{' '.join(words)} was done"


def _redis() -> Any:
    import redis  # noqa: PLC0415 - only where it is attacked

    user, password = _login()
    return redis.Redis(unix_socket_path=REDIS, username=user, password=password)


def _login() -> tuple[str, str]:
    password = Path(os.environ["ACOUPI_BROKER_PASSWORD_FILE"]).read_text().strip()
    return os.environ["ACOUPI_BROKER_USER"], password


def enter_without_password(_: Here) -> list[str]:
    """Talk to redis with no password, an empty one, or another name with the own one."""
    own = _login()[1]
    logins = (("default", '""'), ("default", own), ("acoupi-beat", "x"), ("_host", own), ("", ""))
    return sorted({_answer_to(*login) for login in logins})


def _answer_to(user: str, password: str) -> str:
    command = f"AUTH {user} {password}" if user else "PING"
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.settimeout(10)
        one.connect(REDIS)
        one.sendall(f"{command}\r\n".encode())
        return one.recv(200).decode().split()[0]


# --- its door ---

MODEL_MAY = {
    "metadata": {"begin_analysis", "begin_newest_analysis", "end_analysis", "store_model_output",
                 "get_analyses", "get_recording_model_outputs", "get_recordings",
                 "get_recordings_by_path", "get_recordings_info_by_path",
                 "get_recordings_model_outputs"},
    "messages": {"store_message"},
}  # fmt: skip
"""All that a model may call. What changes anything changes its own outputs and messages."""


def calls_of_others(here: Here) -> list[str]:
    """Call at its door each other method of the stores, and the stores of other paths."""
    from acoupi.components import SqliteMessageStore, SqliteStore  # noqa: PLC0415 - in the image

    known = {
        "metadata": (SqliteStore, "metadata.db"),
        "messages": (SqliteMessageStore, "messages.db"),
    }
    calls = [
        (kind, here.home / "data" / name, method)
        for kind, (store, name) in known.items()
        for method in sorted({*dir(store)} - MODEL_MAY[kind])
    ]
    files = ("/etc/passwd", "", "../metadata.db", here.home / "secrets/config/secrets.env")
    calls += [("metadata", Path(path), "get_recordings") for path in files]
    return sorted({_asked(here, _call(*one)) for one in calls})


def calls_of_no_page(here: Here) -> list[str]:
    """Call at its door the stores, and what is not for the page of what answers it."""
    from acoupi.components import SqliteMessageStore, SqliteStore  # noqa: PLC0415
    from acoupi.components.stores import SqliteReader  # noqa: PLC0415
    from acoupi.services.doors import ROLES  # noqa: PLC0415

    data = here.home / "data"
    calls = [("metadata", data / "metadata.db", one) for one in dir(SqliteStore)]
    calls += [("messages", data / "messages.db", one) for one in dir(SqliteMessageStore)]
    calls += [("reader", Path(), one) for one in {*dir(SqliteReader)} - ROLES["web"]["reader"]]
    calls += [("sensor", Path(), one) for one in ("find", "close", "reader", "_files", "__init__")]
    return sorted({_asked(here, _call(*one)) for one in calls})


def files_by_the_door(here: Here) -> list[str]:
    """Read files by their paths, or by ids that are none."""
    ids = ("../../etc/passwd", "/etc/passwd", "", f"{here.home}/config/program.json", "0" * 32, 1)
    return sorted({
        _asked(here, _call("sensor", Path(), method, recording_id=one, **more))
        for one in ids
        for method, more in (("find_file", {}), ("read_file", {"offset": 0, "length": 9}))
    })  # fmt: skip


def secrets_by_the_door(here: Here) -> list[str]:
    """See a secret among the settings, replace it, or have it sent to another server."""
    shown = [
        _asked(here, _call("sensor", Path(), method), tells=here.secrets)
        for method in ("settings", "now", "health", "settings_schema")
    ]
    replaced = ({"messaging.http.token": "mine"}, {"messaging.http": {"token": "mine"}})
    for changes in (*replaced, {"messaging.http.base_url": "http://elsewhere.org/"}):
        call = _call("sensor", Path(), "apply_settings", changes=changes, by="nobody")
        shown.append(_asked(here, call))
    return sorted(set(shown))


def changes_of_nobody(here: Here) -> list[str]:
    """Change at its door what only the owner may, with all that the page knows of them."""
    known = json.loads((here.home / "config/page.json").read_text())
    return sorted({
        _asked(here, _call("sensor", Path(), method, key, **more))
        for key in (None, "", *known.values())
        for method, more in (
            ("apply_settings", {"changes": {"recording.interval": 9}, "by": "x"}),
            ("start_deployment", {"name": "x", "latitude": None, "longitude": None, "by": "x"}),
            ("stop_deployment", {"by": "x"}),
            ("set_password", {"salt": "", "password": ""}),
        )
    })  # fmt: skip


def door_of_a_model(here: Here) -> list[str]:
    """Connect to the door of the model, or make a call in its name."""
    place = here.home / "run/door/detection/door.sock"

    def connect() -> None:
        with closing(socket.socket(socket.AF_UNIX)) as one:
            one.connect(str(place))

    return every([connect, written(here.home / "waiting/detection/1.call")])


def _call(kind: str, path: Path, method: str, key: str | None = None, **arguments: object) -> bytes:
    asked = {"store": kind, "path": str(path), "method": method, "arguments": arguments}
    asked |= {"key": key} if key is not None else {}
    return json.dumps(asked).encode()


def malformed_calls(here: Here) -> list[str]:
    """Send to its door what is no call: nothing, too much, too deep, too long."""
    deep = b'{"store":' + b"[" * 100_000
    return sorted({
        _asked(here, b""), _asked(here, b"\xff" * 100), _asked(here, b"[]"), _asked(here, deep),
        _asked(here, b"x", length=2**32 - 1), _asked(here, b"{}", length=2),
    })  # fmt: skip


def _asked(
    here: Here,
    content: bytes,
    length: int | None = None,
    *,
    tells: Iterable[str] = (),
) -> str:
    """Return how a call at the door ended.

    An answer is as good as a refusal where it only must not tell something.
    """
    place = os.open(here.home / "run/door" / here.service, os.O_PATH)
    with closing(socket.socket(socket.AF_UNIX)) as one:
        one.settimeout(30)
        one.connect(f"/proc/self/fd/{place}/door.sock")
        try:
            one.sendall((len(content) if length is None else length).to_bytes(4, "big") + content)
            one.shutdown(socket.SHUT_WR)
            answer = _all_of(one)[4:]
        except (BrokenPipeError, ConnectionResetError):
            answer = b""
        finally:
            os.close(place)
    if not answer:
        return "CLOSED"
    said = json.loads(answer)
    if tells and not any(one.encode() in answer for one in tells):
        return "REFUSED"
    return "REFUSED" if said.get("error") else f"{content[:200]!r} was answered"


def _all_of(one: socket.socket) -> bytes:
    """Return the whole of a short answer."""
    found = b""
    while part := one.recv(1 << 16):
        found += part
    return found
