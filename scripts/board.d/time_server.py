"""A time server (SNTP) on the board: `time_server.py SECONDS`, the true time since 1970."""

import socket
import struct
import sys
import time

EPOCH = 2_208_988_800
"""Seconds from 1900, when NTP begins to count, to 1970."""
ahead = float(sys.argv[1]) - time.monotonic()


def stamp() -> bytes:
    seconds, rest = divmod(time.monotonic() + ahead + EPOCH, 1)
    return struct.pack(">II", int(seconds), int(rest * 2**32))


with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.1", 123))
    while True:
        asked, client = server.recvfrom(512)
        now = stamp()
        head = struct.pack(">BBbbII4s", 0x24, 1, 6, -20, 0, 0, b"LOCL")
        server.sendto(head + now + asked[40:48] + now + stamp(), client)
