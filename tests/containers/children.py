"""The children of this process, as the kernel sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def children() -> list[int]:
    """Numbers of the decoders that this process started and that were not reaped yet.

    A decoder is a Python that leads a session of its own. A browser that other tests share is none, nor is
    the tracker that `multiprocessing` leaves running behind its first process.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        _, parent, _, session, *_ = rest.split()
        number = int(entry.parent.name)
        if name.startswith("python") and int(parent) == os.getpid() and int(session) == number:
            found.append(number)
    return found


@contextmanager
def no_child_left() -> Iterator[None]:
    """Every process and every descriptor that was opened within is gone at the end."""
    before, opened = children(), len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert children() == before
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened
