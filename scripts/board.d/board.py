"""The board as a virtual machine: switched on, cut off, asked to run commands."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PATIENCE = float(os.environ.get("BOARD_PATIENCE", "1800"))
"""Seconds that any one thing may take: an emulated processor on a busy machine is slow."""
CONSOLE_LINES = 30


HERE = Path(__file__).parent


class BoardError(Exception):
    """The board did not do what it was asked."""


class Board:
    """A virtual machine with a disk of its own.

    Parameters
    ----------
    cache
        Where `scripts/board` made the kernel, the initrd and the disk.
    work
        Folder for the disk of this board, its console and its sockets.
    shared
        Folder that the board finds below /mnt.
    alsa
        Configuration of ALSA in which QEMU finds what its sound cards hear.
    """

    def __init__(self, cache: Path, work: Path, shared: Path, alsa: Path | None = None) -> None:
        self._cache, self._work = cache, work
        own = (
            {"ALSA_CONFIG_PATH": str(alsa), "PULSE_RUNTIME_PATH": f"{alsa.parent}/run"}
            if alsa
            else {}
        )
        self._environment = {**os.environ, **own}
        self._machine: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._received = b""
        self._number = 0
        self.booted = ""
        """What the kernel calls this boot."""
        disk = self._cache / "disk.img"
        subprocess.run(["cp", "--sparse=always", disk, work / "disk.img"], check=True)
        size = sum(one.lstat().st_size for one in shared.rglob("*")) * 5 // 4
        image = ["mke2fs", "-q", "-t", "ext4", "-d", shared, work / "shared.img"]
        subprocess.run([*image, f"{(size >> 20) + 256}M"], check=True, stdout=subprocess.DEVNULL)

    def switch_on(self, *devices: str, cache: str = "writeback") -> None:
        """Start the machine, with more options of QEMU; `cache` is that of the disk."""
        (self._work / "agent").unlink(missing_ok=True)
        fast = ["-accel", "tcg,thread=multi", "-cpu", "max"]
        if os.environ.get("BOARD_KVM"):
            fast = ["-accel", "kvm", "-cpu", "host"]
        append = (
            "root=/dev/vda rw console=ttyS0 quiet panic=1 mitigations=off sysrq_always_enabled=1"
            " no_timer_check"  # where it must wait for the processor it would find its timer broken
        )
        work = self._work
        command = [
            *("qemu-system-x86_64", *fast, "-smp", "2", "-m", "3072", "-nic", "none"),
            *("-display", "none", "-no-user-config", "-kernel", self._cache / "kernel"),
            *("-initrd", self._cache / "initrd", "-append", append),
            *("-serial", f"file:{work}/console", "-device", "virtio-serial"),
            *("-chardev", f"socket,id=agent,path={work}/agent,server=on,wait=off"),
            *("-device", "virtserialport,chardev=agent,name=board"),
            *("-drive", f"file={work}/disk.img,if=virtio,format=raw,cache={cache}"),
            *("-drive", f"file={work}/shared.img,if=virtio,format=raw,cache=unsafe"),
            *devices,
        ]
        self._machine = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            env=self._environment,
        )
        self._channel = self._connect()
        self._received = b""
        self.await_boot()

    def await_boot(self) -> None:
        """Wait until it is up, after it was switched on or has started again."""
        before = self.booted
        while self.booted in ("", before):
            self.booted = self._next().get("booted", self.booted)

    def run(self, command: str) -> tuple[int, str]:
        """Run a command as root; return its exit code and what it printed."""
        assert self._channel
        self._number += 1
        asked = json.dumps({"number": self._number, "command": command})
        self._channel.sendall(asked.encode() + b"\n")
        while (answer := self._next()).get("number") != self._number:
            pass
        return answer["code"], answer["output"]

    def start_again(self, how: str = "systemctl reboot") -> None:
        """Have the system start again, without waiting for an answer to that."""
        assert self._channel
        asked = json.dumps({"number": -1, "command": f"(sleep 1; {how}) >/dev/null 2>&1 &"})
        self._channel.sendall(asked.encode() + b"\n")
        self.await_boot()

    def pull_the_plug(self) -> None:
        """End the machine at once."""
        if self._machine and self._machine.poll() is None:
            self._machine.kill()
            self._machine.wait()
        if self._channel:
            self._channel.close()

    def console(self) -> str:
        """Return the end of what it wrote to its console."""
        lines = (self._work / "console").read_text(errors="replace").splitlines()
        return "\n".join(lines[-CONSOLE_LINES:])

    def _connect(self) -> socket.socket:
        channel = socket.socket(socket.AF_UNIX)
        channel.settimeout(PATIENCE)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                channel.connect(str(self._work / "agent"))
            except OSError:
                assert self._machine
                if self._machine.poll() is not None or time.monotonic() > deadline:
                    raise BoardError("QEMU did not start.") from None
                time.sleep(0.05)
            else:
                return channel

    def _next(self) -> dict[str, Any]:
        """Return the next line that the agent says."""
        assert self._channel
        while b"\n" not in self._received:
            try:
                part = self._channel.recv(65536)
            except TimeoutError:
                raise BoardError(f"no answer for {PATIENCE:g} s (BOARD_PATIENCE).") from None
            if not part:
                raise BoardError("QEMU has ended.")
            self._received += part
        line, _, self._received = self._received.partition(b"\n")
        said: dict[str, Any] = json.loads(line)
        return said


@contextmanager
def a_board(
    cache: Path, fill: Iterable[tuple[Path, str]], alsa: Path | None = None
) -> Iterator[Board]:
    """Make a board whose /mnt holds copies of files and folders; at the end nothing is left."""
    with tempfile.TemporaryDirectory(prefix="board-") as folder:
        work, shared = Path(folder), Path(folder, "shared")
        shared.mkdir()
        for source, name in (*fill, (HERE / "agent.py", "agent.py")):
            subprocess.run(["cp", "-a", source, shared / name], check=True)
        board = Board(cache, work, shared, alsa)
        shutil.rmtree(shared)
        try:
            yield board
        except BoardError as error:
            print(f"{board.console()}\nError: the board failed.\n  Why: {error}\n"
                  "  Try: BOARD_PATIENCE=3600 (seconds)", file=sys.stderr)  # fmt: skip
            raise SystemExit(2) from error
        finally:
            board.pull_the_plug()
