"""A USB microphone on the board that hears a tone: `usb_microphone.py HERTZ DBFS`, while it runs.

The kernel's own USB/IP host (vhci_hcd) has it on its bus, so that snd-usb-audio is its driver; it
is plugged in when this starts, and pulled out when this ends. The gadgets of the kernel cannot
be it: neither dummy_hcd nor usbip-vudc carries sound (isochronous transfers).

Of USB Audio Class 1.0: one channel of 16 bits at 48 kHz, a packet each millisecond.
"""

import math
import select
import socket
import struct
import sys
import time
from collections import deque
from pathlib import Path
from typing import NamedTuple

NAME = "Board Microphone"
RATE, PACKET = 48_000, 96
"""Samples a second; bytes a packet."""
FULL_SPEED = 2
SUBMIT, UNLINK, SUBMITTED, UNLINKED = 1, 2, 3, 4
NOT_KNOWN = -32
"""EPIPE: the device has no such thing."""
TAKEN_BACK = -104
"""ECONNRESET: the transfer was not made."""
HEADER = struct.Struct(">5I")
ASKED = struct.Struct(">I4i8s")
DONE = struct.Struct(">5i8x")
PLACE = struct.Struct(">4I")
HOST = "/sys/devices/platform/vhci_hcd.0"
SILENCE = 0.3
"""Seconds without a transfer after which a stream is a new one. A late one is caught up with."""

DEVICE = struct.pack("<BBHBBBBHHHBBBB", 18, 1, 0x0110, 0, 0, 0, 64, 0x1209, 1, 0x0100, 1, 2, 3, 1)
INTERFACES = b"".join((
    bytes((9, 4, 0, 0, 0, 1, 1, 0, 0)),  # audio control
    bytes((9, 36, 1, 0, 1, 30, 0, 1, 1)),
    bytes((12, 36, 2, 1, 1, 2, 0, 1, 0, 0, 0, 0)),  # a microphone
    bytes((9, 36, 3, 2, 1, 1, 0, 1, 0)),  # to USB
    bytes((9, 4, 1, 0, 0, 1, 2, 0, 0)),  # it is silent
    bytes((9, 4, 1, 1, 1, 1, 2, 0, 0)),  # it streams
    bytes((7, 36, 1, 2, 1, 1, 0)),
    bytes((11, 36, 2, 1, 1, 2, 16, 1, *RATE.to_bytes(3, "little"))),
    bytes((9, 5, 0x81, 5, PACKET, 0, 1, 0, 0)),
    bytes((7, 37, 1, 0, 0, 0, 0)),
))  # fmt: skip
CONFIGURATION = struct.pack("<BBHBBBBB", 9, 2, 9 + len(INTERFACES), 2, 1, 0, 0x80, 50) + INTERFACES
STRINGS = ("Acoupi", NAME, "0001")


def described(kind: int, number: int) -> bytes | None:
    """Return a descriptor."""
    if kind == 1:
        return DEVICE
    if kind == 2:
        return CONFIGURATION
    if kind != 3 or number > len(STRINGS):
        return None
    text = STRINGS[number - 1].encode("utf-16-le") if number else b"\x09\x04"
    return bytes((2 + len(text), 3)) + text


def controlled(setup: bytes) -> tuple[int, bytes]:
    """Return the status and the answer of a request to the device itself."""
    kind, request, value, _, length = struct.unpack("<BBHHH", setup)
    if (kind, request) == (0x80, 6):
        found = described(value >> 8, value & 0xFF)
        return (NOT_KNOWN, b"") if found is None else (0, found[:length])
    if kind & 0x60:  # of the class: it has nothing that can be set
        return NOT_KNOWN, b""
    return 0, bytes(length) if kind & 0x80 else b""


class Transfer(NamedTuple):
    """Packets that the host waits for, and when they are full."""

    number: int
    packets: int
    due: float


class Microphone:
    """The device, at its end of the cable."""

    def __init__(self, cable: socket.socket, hertz: int, dbfs: float) -> None:
        self._cable = cable
        peak = 32767 * 10 ** (dbfs / 20)
        turn = (peak * math.sin(2 * math.pi * hertz * one / RATE) for one in range(RATE))
        self._sound = struct.pack(f"<{RATE}h", *map(round, turn)) * 2
        self._at = 0
        self._waiting: deque[Transfer] = deque()
        self._full = 0.0
        """When the last packet that was asked for is full."""

    def serve(self) -> None:
        """Answer until the cable is pulled."""
        while True:
            patience = max(self._waiting[0].due - time.monotonic(), 0) if self._waiting else None
            if select.select([self._cable], [], [], patience)[0]:
                self._take(*HEADER.unpack(self._read(HEADER.size)))
            while self._waiting and self._waiting[0].due <= time.monotonic():
                self._give(self._waiting.popleft())

    def _read(self, size: int) -> bytes:
        found = self._cable.recv(size, socket.MSG_WAITALL) if size else b""
        if len(found) < size:
            raise SystemExit
        return found

    def _take(self, kind: int, number: int, _: int, is_in: int, endpoint: int) -> None:
        other, length, _, packets, _, setup = ASKED.unpack(self._read(ASKED.size))
        if kind == UNLINK:
            found = [one for one in self._waiting if one.number == other]
            for one in found:
                self._waiting.remove(one)
            self._send(UNLINKED, number, DONE.pack(TAKEN_BACK if found else 0, 0, 0, 0, 0))
            return
        self._read(0 if is_in else length)
        if endpoint:
            self._read(PLACE.size * packets)
            now = time.monotonic()
            is_new = now - self._full > SILENCE
            self._full = (now if is_new else self._full) + packets / 1000
            self._waiting.append(Transfer(number, packets, self._full))
            return
        status, answer = controlled(setup)
        self._send(SUBMITTED, number, DONE.pack(status, len(answer), 0, 0, 0), answer)

    def _give(self, transfer: Transfer) -> None:
        size = transfer.packets * PACKET
        sound = self._sound[self._at : self._at + size]
        self._at = (self._at + size) % (RATE * 2)
        places = range(0, size, PACKET)
        answer = sound + b"".join(PLACE.pack(place, PACKET, PACKET, 0) for place in places)
        self._send(SUBMITTED, transfer.number, DONE.pack(0, size, 0, len(places), 0), answer)

    def _send(self, kind: int, number: int, done: bytes, answer: bytes = b"") -> None:
        self._cable.sendall(HEADER.pack(kind, number, 0, 0, 0) + done + answer)


def plugged_in() -> socket.socket:
    """Put a device on the kernel's bus; return its end of the cable."""
    device, host = socket.socketpair()
    Path(HOST, "attach").write_text(f"0 {host.fileno()} {1 << 16 | 2} {FULL_SPEED}")
    host.close()
    return device


if __name__ == "__main__":
    Microphone(plugged_in(), int(sys.argv[1]), float(sys.argv[2])).serve()
