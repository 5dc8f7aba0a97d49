"""Attacks in a container of their own, where no sensor runs: this text is run within it.

A function returns "refused", or what it got.
"""

import os
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

REFUSED = "refused"


def homes() -> str:
    """Set a sensor up in folders of the system, and of others, as root."""
    others = Path("/srv/others")
    (others / "photos").mkdir(parents=True)
    (others / "thesis").touch()
    watched = [Path(one) for one in ("/etc", "/etc/shadow", "/etc/passwd", "/usr", "/home", others)]
    before = [one.lstat()[:6] for one in watched]
    words = ["acoupi", "setup", "--program", "default", "--no-prompt", "--target", "process",
             "--microphone.device_name", "x", "--microphone.samplerate", "48000"]  # fmt: skip
    taken = []
    for home in ("/etc", "/", "/home", "/srv/others/photos/.."):
        environ = {**os.environ, "ACOUPI_HOME": home}
        done = subprocess.run(words, env=environ, capture_output=True, text=True, check=False)
        if done.returncode == 0 or "ACOUPI_HOME" not in done.stderr:
            taken.append(f"{home}: {done.stderr[-300:]}")
    changed = [*map(str, watched)] if [one.lstat()[:6] for one in watched] != before else []
    return f"taken: {taken}, changed: {changed}" if taken or changed else REFUSED


def command(home: str, *writable: str) -> str:
    """Reach out of the container of a command, as a poisoned model would."""
    got = []

    def tries(what: str, act: Callable[[], object]) -> None:
        try:
            act()
        except OSError:
            return
        got.append(what)

    def write(name: str) -> None:
        os.close(os.open(Path(home, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND))

    for name in ("docker-compose.override.yml", ".env", "app.py", "config/program.json", "config/x",
                 "data/cache/model"):  # fmt: skip
        if name not in writable:
            tries(name, lambda name=name: write(name))  # type: ignore[misc]
    if "secrets of the broker" not in writable:
        tries("secrets of the broker", lambda: os.listdir(f"{home}/secrets/broker"))  # noqa: PTH208
    tries("a network", lambda: socket.create_connection(("1.1.1.1", 53), 2))
    if [name for _, name in socket.if_nameindex()] != ["lo"]:
        got.append("an interface")
    return f"got {got}" if got else REFUSED


# --- documents ---

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/yaml\r\n"
MOVED = b"HTTP/1.1 302 X\r\nLocation: "
ANSWERS = {
    "half": OK + b"Content-Length: 120\r\n\r\nrecording: {interval: 5}\n",
    "empty": OK + b"Content-Length: 0\r\n\r\n",
    "page": OK + b"\r\n<html>log in</html>",
    "ftp": MOVED + b"ftp://127.0.0.1/x\r\n\r\n",
    "elsewhere": MOVED + b"http://127.0.0.2/x\r\n\r\n",
    "digest": OK + b"Content-Length: 5\r\n\r\na: 1\n",
    "headers": b"HTTP/1.1 100 Continue\r\n\r\n",
    "large": OK + b"\r\n" + b"x" * 65536,
}
ENDLESS = ("headers", "large")


def _answer(connection: socket.socket) -> None:
    with connection:
        path = connection.recv(4096).split()[1].decode().strip("/")
        try:
            connection.sendall(ANSWERS[path])
            while path in ENDLESS:
                connection.sendall(ANSWERS[path][-65536:])
        except OSError:
            return


def _serve(listener: socket.socket) -> None:
    while True:
        threading.Thread(target=_answer, args=(listener.accept()[0],), daemon=True).start()


def documents() -> str:
    """Have half a document taken, one without end, one from elsewhere, one that unfolds."""
    from acoupi.config.documents import load_answers  # noqa: PLC0415 - in the image
    from acoupi.errors import AcoupiError  # noqa: PLC0415
    from acoupi.provisioning.fetching import fetch  # noqa: PLC0415

    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_serve, args=(listener,), daemon=True).start()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    taken = []
    for path in ANSWERS:
        digest = "#sha256=" + "0" * 64 if path == "digest" else ""
        try:
            fetch(f"{address}/{path}{digest}", patience=2)
        except AcoupiError:
            continue
        taken.append(path)
    for name, text in _files().items():
        Path("/tmp", name).write_text(text)
        try:
            load_answers(Path("/tmp", name))
        except AcoupiError:
            continue
        taken.append(name)
    return f"taken: {taken}" if taken else REFUSED


def _files() -> dict[str, str]:
    pairs = zip("abcdefgh", "bcdefghi", strict=True)
    bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"{new}: &{new} [{', '.join(['*' + old] * 9)}]\n" for old, new in pairs
    )
    return {
        "bomb.yaml": bomb, "deep.json": "[" * 100_000, "deep.yaml": "[" * 100_000,
        "large.yaml": "a: " + "x" * 60_000_000, "control.yaml": "a: '\x1b'",
    }  # fmt: skip


# --- servers that never end ---

HTTP = {9001: "a trickle of headers", 9002: "100 Continue without end", 9003: "endless headers",
        9004: "a trickle of an answer", 9005: "silence"}  # fmt: skip
MQTT = {9011: "a trickle", 9012: "a huge packet", 9013: "endless answers", 9014: "silence"}
PATIENCE = 60.0
MOST_MEMORY = 200
"""Mebibytes of this process; it has some 60 before."""


def servers(host: str) -> str:
    """Hold the sender, or fill its memory, as the server or broker that it sends to."""
    from acoupi import data  # noqa: PLC0415 - in the image
    from acoupi.components.messengers import HTTPMessenger, MQTTMessenger  # noqa: PLC0415
    from acoupi.errors import AcoupiError  # noqa: PLC0415

    def send(make: Callable[[], Any]) -> None:
        with suppress(AcoupiError):
            make().send_message(data.Message(content="{}"))

    senders = {
        **{f"HTTP: {words}": lambda port=port: HTTPMessenger(f"http://{host}:{port}", timeout=1)
           for port, words in HTTP.items()},
        **{f"MQTT: {words}": lambda port=port: MQTTMessenger(host, "acoupi", port=port, timeout=1)
           for port, words in MQTT.items()},
    }  # fmt: skip
    threads = {
        name: threading.Thread(target=send, args=(make,), daemon=True)
        for name, make in senders.items()
    }
    for thread in threads.values():
        thread.start()
    end = time.monotonic() + PATIENCE
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0))
    held = [name for name, thread in threads.items() if thread.is_alive()]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    return f"held by {held}, {memory} MiB" if held or memory > MOST_MEMORY else REFUSED


if __name__ == "__main__":
    sys.stdout.write(globals()[sys.argv[1]](*sys.argv[2:]))
    sys.stdout.flush()
    os._exit(0)  # whatever still waits
