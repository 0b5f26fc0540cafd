"""The children of this process, as the kernel sees them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def children() -> list[int]:
    """Numbers of the Pythons that this process started and that were not reaped yet.

    A browser that other tests share is no decoder.
    """
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:  # it ended meanwhile
            continue
        if name.startswith("python") and int(rest.split()[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found


@contextmanager
def no_child_left() -> Iterator[None]:
    """Every process and every descriptor that was opened within is gone at the end."""
    before, opened = children(), len(list(Path("/proc/self/fd").iterdir()))
    yield
    assert children() == before
    assert len(list(Path("/proc/self/fd").iterdir())) <= opened
