"""What the daemon and a decoding child say to each other: one byte of kind, four of length, a body.

Takes and gives bytes. Both sides refuse a body longer than MOST_BYTES, so that neither can make the other
hold more. The child's side reads and writes plain descriptors; nothing here waits for a loop.
"""

from __future__ import annotations

import os
from enum import IntEnum
from struct import Struct

HEADER = Struct("<BI")
SAMPLES = Struct("<Q")
MOST_BYTES = 65_536


class Kind(IntEnum):
    """To the child: the first is OPEN. From the child: the first is READY, the last FAILED or DONE."""

    OPEN = 1  # JSON: what to open, and how
    DATA = 2  # bytes of the container
    MARK = 3  # sent back once everything before it is decoded; the body is the asker's
    READY = 11  # JSON: what confines the child
    OPENED = 12  # JSON: what was found
    AUDIO = 13  # 16 kHz mono s16le
    GAP = 14  # so many samples of time without sound, u64
    FAILED = 15  # JSON: code and message
    DONE = 16  # the end of the container


def pack(kind: Kind, body: bytes | memoryview = b"") -> bytes:
    """One message. Raises ValueError for a body that the other side would refuse."""
    if len(body) > MOST_BYTES:
        raise ValueError(f"{len(body)} bytes do not go into one message")
    return HEADER.pack(kind, len(body)) + body


def write_all(descriptor: int, data: bytes) -> None:
    """Write to a blocking descriptor until nothing is left."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def read_exactly(descriptor: int, size: int) -> bytes:
    """``size`` bytes of a blocking descriptor. Raises EOFError where it ends before."""
    data = b""
    while len(data) < size:
        piece = os.read(descriptor, size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
