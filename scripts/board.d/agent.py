"""Runs in the board, as root: reads commands from the host, a JSON line each, and answers so."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import IO

PORT = Path("/dev/virtio-ports/board")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def say(port: IO[bytes], **said: object) -> None:
    left = memoryview(json.dumps(said).encode() + b"\n")
    while left:
        left = left[port.write(left) :]


def run(command: str) -> tuple[int, str]:
    done = subprocess.run(
        ["sh", "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "PATH": PATH},
        check=False,
    )
    return done.returncode, done.stdout.decode(errors="replace")


while not PORT.exists():  # udev has yet to name it
    time.sleep(0.1)
with PORT.open("r+b", buffering=0) as port:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    say(port, booted=boot)
    received = b""
    while True:
        received += port.read(65536)
        while b"\n" in received:
            line, _, received = received.partition(b"\n")
            asked = json.loads(line)
            code, output = run(asked["command"])
            say(port, number=asked["number"], code=code, output=output)
