"""Tried in a container with the profile: `tries.py forbidden|needed all-done|all-refused`."""

import ctypes
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)


def mount() -> None:
    if LIBC.mount(b"none", b"/mnt", b"tmpfs", 0, None):
        raise OSError(ctypes.get_errno(), "mount")


def run_own_program() -> None:
    path = Path("/tmp/program")
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    subprocess.run([path], check=True)


def packets() -> None:
    socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()


def kernel_setting() -> None:
    path = Path("/proc/sys/net/ipv4/ip_forward")
    path.write_text(path.read_text())


def another_user() -> None:
    if os.fork() == 0:
        try:
            os.setuid(4321)
        except OSError:
            os._exit(1)
        os._exit(0)
    if os.wait()[1]:
        raise PermissionError(1, "setuid")


def run_program_of_image() -> None:
    subprocess.run(["acoupi", "--version"], check=True, stdout=subprocess.DEVNULL)


def load_libraries() -> None:
    import numpy as np  # noqa: PLC0415 - it is tried here
    import sounddevice  # noqa: F401, PLC0415

    assert np.ones(3).sum() == 3


def own_files() -> None:
    with tempfile.NamedTemporaryFile() as file:
        os.link(file.name, file.name + ".second")
        Path(file.name + ".second").rename(file.name + ".third")
        Path(file.name + ".third").unlink()


def talk() -> None:
    for family, address in ((socket.AF_UNIX, "/tmp/socket"), (socket.AF_INET, ("127.0.0.1", 0))):
        with socket.socket(family) as server, socket.socket(family) as client:
            server.bind(address)
            server.listen()
            client.connect(server.getsockname())
            server.accept()[0].close()


def end_a_child() -> None:
    child = subprocess.Popen(["sleep", "60"])
    child.terminate()
    child.wait(10)


KINDS: dict[str, tuple[Callable[[], None], ...]] = {
    "forbidden": (mount, run_own_program, packets, kernel_setting, another_user),
    "needed": (run_program_of_image, load_libraries, own_files, talk, end_a_child),
}


def tried(act: Callable[[], None]) -> str:
    try:
        act()
    except (OSError, ImportError, subprocess.SubprocessError) as error:
        return f"refused ({error})"
    return "done"


kind, expected = sys.argv[1:]
got = {act.__name__: tried(act) for act in KINDS[kind]}
for name, word in got.items():
    print(f"{name:22} {word}")
sys.exit(not all(word.startswith(expected.removeprefix("all-")) for word in got.values()))
