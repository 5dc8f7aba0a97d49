"""A second machine: a network namespace of its own, and in it a Docker engine of its own."""

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from tests.docker.bundles import Done, docker
from tests.services import eventually, require, require_program

__all__ = ["OtherMachine", "other_machine"]

DEADLINE = 60.0
FIRST = IPv4Address("10.213.0.0")
"""Each process of the tests has four addresses from here on."""
OPTIONS = ("--bip", "172.31.77.1/24", "--log-level", "warn")
"""Of the engine; its containers' network is seen by nobody outside."""


class OtherMachine:
    """An engine that reaches this machine by one address, as over a cable.

    Parameters
    ----------
    folder
        Of the engine; its path must be short enough for a socket.
    host
        The address of this machine by which the other one reaches it.
    """

    def __init__(self, folder: Path, host: str) -> None:
        self.folder, self.host = folder, host

    def docker(self, *words: str, check: bool = True, timeout: float = 60) -> Done:
        """Run docker with its engine."""
        return docker("-H", f"unix://{self.folder}/engine.sock", *words, check=check,
                      timeout=timeout)  # fmt: skip

    def load(self, image: str) -> None:
        """Bring it an image, as from a stick."""
        file = self.folder / "image.tar"
        docker("save", "--output", str(file), image, timeout=300)
        self.docker("load", "--quiet", "--input", str(file), timeout=300)
        file.unlink()


@contextmanager
def other_machine(folder: Path) -> Iterator[OtherMachine]:
    """Run one; nothing of it is left behind."""
    require("a second machine needs root", os.geteuid() == 0)
    for program in ("ip", "nsenter", "dockerd"):
        require_program(program)
    with ExitStack() as stack:
        folder.mkdir()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        machine = OtherMachine(folder, stack.enter_context(_cable(os.getpid())))
        stack.enter_context(_engine(machine, f"acoupi-{os.getpid()}"))
        yield machine


@contextmanager
def _cable(number: int) -> Iterator[str]:
    """Make the namespace, with a link to it; provide this machine's address on that."""
    space, near, far = f"acoupi-{number}", f"ac{number}a", f"ac{number}b"
    first = FIRST + 4 * (number % 2**14)
    here, there = str(first + 1), str(first + 2)
    _ip("netns", "add", space)
    try:
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", space)
        _ip("address", "add", f"{here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", space, "address", "add", f"{there}/30", "dev", far)
        for one in ("lo", far):
            _ip("-n", space, "link", "set", one, "up")
        _ip("-n", space, "route", "add", "default", "via", here)
        yield here
    finally:
        _ip("netns", "delete", space)  # and the link with it


def _ip(*words: str) -> None:
    done = subprocess.run(
        [require_program("ip"), *words], capture_output=True, text=True, timeout=DEADLINE,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@contextmanager
def _engine(machine: OtherMachine, space: str) -> Iterator[None]:
    places = {"data-root": "data", "exec-root": "run", "pidfile": "pid"}
    own = [word for name, at in places.items() for word in (f"--{name}", f"{machine.folder}/{at}")]
    socket = ["--host", f"unix://{machine.folder}/engine.sock"]
    inside = [require_program("nsenter"), f"--net=/run/netns/{space}"]
    log_file = machine.folder / "log"
    with log_file.open("wb") as log:
        engine = subprocess.Popen(
            [*inside, require_program("dockerd"), *own, *socket, *OPTIONS],
            stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(_answers(machine, engine), "the second engine", DEADLINE, log_file.read_text)
        yield
    finally:
        running = machine.docker("ps", "--quiet", check=False).stdout.split()
        if running:
            machine.docker("rm", "--force", *running, check=False)
        engine.send_signal(signal.SIGTERM)
        engine.wait(DEADLINE)


def _answers(machine: OtherMachine, engine: "subprocess.Popen[bytes]") -> Callable[[], bool]:
    def ask() -> bool:
        if engine.poll() is not None:
            pytest.fail(f"the second engine ended: {(machine.folder / 'log').read_text()[-2000:]}")
        return machine.docker("version", check=False).returncode == 0

    return ask
