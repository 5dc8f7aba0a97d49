"""The USB microphone of the board, asked as the kernel's USB/IP host asks."""

import contextlib
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

BOARD = Path(__file__).parents[2] / "scripts" / "board.d"
sys.path.insert(0, str(BOARD))
import usb_microphone  # noqa: E402

sys.path.remove(str(BOARD))

HERTZ, DBFS, PATIENCE = 3000, -20, 60


class Host:
    """The other end of the cable."""

    def __init__(self, cable: socket.socket) -> None:
        self._cable = cable

    def send(self, kind: int, number: int, endpoint: int, *words: int, setup: bytes = b"") -> None:
        header = struct.pack(">5I", kind, number, 0x10002, 1, endpoint)
        self._cable.sendall(header + struct.pack(">I4i8s", *words, setup))

    def ask_for_sound(self, number: int, packets: int) -> None:
        self.send(usb_microphone.SUBMIT, number, 1, 0, 96 * packets, 0, packets, 1)
        places = (struct.pack(">4I", 96 * one, 96, 0, 0) for one in range(packets))
        self._cable.sendall(b"".join(places))

    def receive(self) -> tuple[int, int, int, bytes]:
        """Return what an answer is, to what, its status and what it holds."""
        kind, number = struct.unpack(">2I12x", self._read(20))
        status, size, _, packets = struct.unpack(">4i12x", self._read(28))
        content = self._read(size)
        self._read(16 * packets)
        return kind, number, status, content

    def described(self, kind: int, number: int = 0, length: int = 255) -> tuple[int, bytes]:
        setup = struct.pack("<BBBBHH", 0x80, 6, number, kind, 0, length)
        self.send(usb_microphone.SUBMIT, 1, 0, 0, length, 0, 0, 0, setup=setup)
        return self.receive()[2:]

    def _read(self, size: int) -> bytes:
        return self._cable.recv(size, socket.MSG_WAITALL) if size else b""


@pytest.fixture
def host() -> Iterator[Host]:
    device, cable = socket.socketpair()
    cable.settimeout(PATIENCE)

    def serve() -> None:
        with contextlib.suppress(SystemExit):
            usb_microphone.Microphone(device, HERTZ, DBFS).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    with device:
        with cable:
            yield Host(cable)
        thread.join(PATIENCE)
        assert not thread.is_alive()  # it has ended with the cable


def test_it_is_described_as_a_microphone(host: Host) -> None:
    status, device = host.described(1)
    assert (status, len(device), device[0]) == (0, 18, 18)
    _, short = host.described(2, length=9)
    _, whole = host.described(2)
    assert short == whole[:9]
    assert int.from_bytes(whole[2:4], "little") == len(whole)
    at, kinds = 0, []
    while at < len(whole):
        kinds.append(whole[at + 1])
        at += whole[at]
    assert (at, kinds[:2], kinds[-2:]) == (len(whole), [2, 4], [5, 37])
    assert host.described(3, 2)[1][2:].decode("utf-16-le") == usb_microphone.NAME
    assert host.described(6)[0] == usb_microphone.NOT_KNOWN  # that of faster devices


def test_its_sound_is_the_tone_without_a_gap(host: Host) -> None:
    for number in range(10):
        host.ask_for_sound(number, packets=8)
    answers = [host.receive() for _ in range(10)]

    assert [one[:3] for one in answers] == [(usb_microphone.SUBMITTED, n, 0) for n in range(10)]
    heard = np.frombuffer(b"".join(one[3] for one in answers), "<i2")
    angle = 2 * np.pi * HERTZ * np.arange(10 * 8 * 48) / 48_000
    assert np.abs(heard - 32767 * 10 ** (DBFS / 20) * np.sin(angle)).max() <= 1


def test_a_transfer_that_is_taken_back_is_not_made(host: Host) -> None:
    host.ask_for_sound(1, packets=1_000_000)
    host.send(usb_microphone.UNLINK, 2, 0, 1, 0, 0, 0, 0)
    host.send(usb_microphone.UNLINK, 3, 0, 1, 0, 0, 0, 0)

    answers = [host.receive()[:3] for _ in range(2)]

    unlinked = usb_microphone.UNLINKED
    assert answers == [(unlinked, 2, usb_microphone.TAKEN_BACK), (unlinked, 3, 0)]
