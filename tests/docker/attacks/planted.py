"""What a service that was taken over leaves for others to find: run within its container.

A function does it and returns a word; a generator does it, yields a word, and takes it away
when the attack is over. Nothing here is imported from elsewhere in the tests.
"""

import base64
import inspect
import json
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

SOCKET = "/run/broker/redis.sock"


def broker() -> Any:
    import redis  # noqa: PLC0415 - only where it is attacked

    password = pathlib.Path(os.environ["ACOUPI_BROKER_PASSWORD_FILE"]).read_text().strip()
    user = os.environ["ACOUPI_BROKER_USER"]
    return redis.Redis(unix_socket_path=SOCKET, username=user, password=password)


def many_files(folder: str) -> str:
    path = pathlib.Path(folder)
    path.mkdir()
    for name in (*map(str, range(50)), "shadow"):
        (path / name).touch()
    return "made"


def swap(code: str, *args: str) -> Iterator[str]:
    """Run a program that swaps a folder for a link."""
    with subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield "swapping"
        process.kill()


def link(path: str, target: str) -> Iterator[str]:
    """Let a link be in place of a file."""
    place = pathlib.Path(path)
    aside = place.rename(f"{path}.aside")
    place.symlink_to(target)
    yield "linked"
    aside.rename(place)


def pulse(place: str, kind: str, secret: str) -> Iterator[str]:
    """Stop the worker, and let its pulse be something else: fifo, link, text."""
    path = pathlib.Path(place)
    workers = _workers()
    for pid in workers:
        os.kill(pid, signal.SIGSTOP)
    said = json.loads(path.read_bytes().rstrip(b"\0 \n"))
    said["last_error"] = said["message"] = "E\x1b]0;PWNED\x07\x1b[31m\u202e"
    said["failed"], said["pulse_on"] = 3, datetime.now(UTC).isoformat()
    if kind == "text":
        path.write_text(json.dumps(said))  # in place: a model can make no other file
    else:
        path.unlink()
        os.mkfifo(path) if kind == "fifo" else path.symlink_to(secret)
    yield "forged"
    if kind != "text":
        path.unlink()
    for pid in workers:
        os.kill(pid, signal.SIGCONT)


def _workers() -> list[int]:
    """The processes of the worker; not its init, and nothing that was run beside it."""
    own = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            text = (folder / "cmdline").read_bytes()
            if b"app.py" in text or b"acoupi" in text:
                own.append(int(folder.name))
    return [pid for pid in own if pid not in (1, os.getpid())]


def recording(spool: str, secret: str) -> str:
    """Replace a recording that waits by a link, and put a FIFO beside it."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for one in pathlib.Path(spool).glob("[!.]*.wav"):
            part = one.with_name(".swap")
            part.symlink_to(secret)
            part.replace(one)
            os.mkfifo(one.with_name("fifo.wav"))
            return one.name
    return ""


def calls(folder: str, secret: str, database: str) -> str:
    """Leave what is no call where calls wait for the door."""

    def name(number: int) -> pathlib.Path:
        return pathlib.Path(folder) / f"{number:012}-aaaaaaaa.call"

    forbidden = {"store": "metadata", "path": database, "method": "settle_deployments",
                 "arguments": {}}  # fmt: skip
    name(1).symlink_to(secret)
    os.mkfifo(name(2))
    name(3).write_text('{"store":' + "[" * 200_000)
    name(4).mkdir()
    name(5).write_text(json.dumps(forbidden))
    name(6).write_text("x" * 9_000_000)
    other = pathlib.Path(folder) / "other"  # of a call it may be taken away at any moment
    other.write_text("{}")
    os.link(other, name(7))
    return "left"


def messages(task: str) -> str:
    """Send orders to record, and what is no message, to another worker."""
    from acoupi.services.task_messages import task_message  # noqa: PLC0415 - in the image

    order = task_message(task, expires=600).in_list("celery")
    body = base64.b64encode(pickle.dumps(os.getpid)).decode()
    pickled = {**order, "content-type": "application/x-python-serialize", "body": body}
    texts = [json.dumps(order), json.dumps(pickled), "[" * 200_000, "{", "x" * 900_000, "null"]
    client = broker()
    for text in texts:
        client.lpush("celery", text)
    return str(len(texts))


def in_hand() -> str:
    """Note as messages in hand what are none."""
    client, key = broker(), f"unacked:{os.environ['ACOUPI_SERVICE']}"
    for number, text in enumerate(("x", "[" * 100_000, "[1]", "null", '[{}, "", "recording"]')):
        client.hset(key, number, text)
    return "noted"


def full_broker() -> Iterator[str]:
    """Fill redis, and keep it full."""
    import redis  # noqa: PLC0415 - only where it is attacked

    client, key = broker(), f"unacked:{os.environ['ACOUPI_SERVICE']}"
    done, full = threading.Event(), threading.Event()
    names: list[str] = []

    def fill() -> None:
        size = 1 << 20
        while not done.is_set():
            try:
                client.hset(key, f"fill{len(names)}", "x" * size)
                names.append(f"fill{len(names)}")
            except redis.RedisError:
                if size > 64:
                    size //= 4
                else:
                    full.set()
                    done.wait(0.2)

    thread = threading.Thread(target=fill)
    thread.start()
    yield "full" if full.wait(60) else "never full"
    done.set()
    thread.join()
    for name in names:
        with suppress(redis.RedisError):
            client.hdel(key, name)


def processes() -> Iterator[str]:
    """Fork until the kernel says no."""
    children: list[int] = []
    said = "5000 processes"
    try:
        while len(children) < 5000:
            child = os.fork()
            if child == 0:
                time.sleep(300)
                os._exit(0)
            children.append(child)
    except OSError:
        said = f"{len(children)} processes"
    yield said
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def scratch(folder: str = "/tmp") -> Iterator[str]:
    """Fill the scratch of the service."""
    path = pathlib.Path(folder, "filled")
    size = 0
    try:
        with path.open("wb") as file:
            while size < 1 << 32:
                size += file.write(b"x" * (1 << 20))
                file.flush()
    except OSError:
        pass
    yield f"{size >> 20} MiB"
    path.unlink()


def memory() -> Iterator[str]:
    """Take memory in processes of its own until each is ended; then again, and again."""
    code = "import time\nx = []\nwhile True: x.append(bytearray(1 << 24))"
    done, ended = threading.Event(), threading.Event()

    def hog() -> None:
        while not done.is_set():
            subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL)
            ended.set()

    threading.Thread(target=hog, daemon=True).start()
    yield "bounded" if ended.wait(60) else "unbounded"
    done.set()


def main() -> None:
    """Leave what is named."""
    done = globals()[sys.argv[1]](*sys.argv[2:])
    if not inspect.isgenerator(done):
        sys.stdout.write(done)
        return
    sys.stdout.write(f"{next(done)}\n")
    sys.stdout.flush()
    sys.stdin.read()
    next(done, None)
    os._exit(0)


if __name__ == "__main__":
    main()
