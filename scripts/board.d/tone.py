"""Writes a pure tone without end: `tone.py HERTZ DBFS`, 16 bits, mono, 48 kHz."""

import math
import struct
import sys

RATE = 48_000
frequency, peak = int(sys.argv[1]), 10 ** (float(sys.argv[2]) / 20)
block = b"".join(
    struct.pack("<h", round(32767 * peak * math.sin(2 * math.pi * frequency * frame / RATE)))
    for frame in range(RATE)
)
while True:
    sys.stdout.buffer.write(block)
