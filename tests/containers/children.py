"""The children of this process, as the kernel sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def children() -> list[int]:
    """Numbers of the processes that this one started and that were not reaped yet."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found


@contextmanager
def no_child_left() -> Iterator[None]:
    """Every process and every descriptor that was opened within is gone at the end."""
    before, opened = children(), len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert children() == before
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened
