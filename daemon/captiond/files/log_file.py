"""One file on the disk that only grows: made, and appended to by whole lines.

Takes: bytes. Gives: a file that holds all of them or, where the disk refuses, none of them. Between writes
no descriptor is held, so a folder that is removed or a file that is taken away is noticed at the next
write. Blocking; every failure is an ``OSError``. Knows no format and no stream.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG

# A name that is there already is somebody else's file; a pipe or a link in place of ours is not followed.
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class TakenAwayError(OSError):
    """The file is no longer as it was left: gone, replaced, grown or cut by somebody else, or full."""


class LogFile:
    """A file of ours. ``size``: its length in bytes as it was left."""

    def __init__(self, path: Path, *, mode: int, fsync: bool) -> None:
        self.path = path
        self.size = 0
        self._mode = mode
        self._fsync = fsync
        self._identity = (0, 0)

    def create(self, data: bytes) -> None:
        """Make the file with ``data`` in it. Raises FileExistsError; after any failure there is no file."""
        descriptor = os.open(self.path, _MAKE, 0o600)
        try:
            try:
                os.fchmod(descriptor, self._mode)
                self._write(descriptor, data)
                found = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        except OSError:
            with suppress(OSError):
                self.path.unlink()
            raise
        self._identity = (found.st_dev, found.st_ino)

    def append(self, data: bytes) -> None:
        """``data`` at the end. Raises TakenAwayError where another file must be begun."""
        try:
            descriptor = os.open(self.path, _APPEND)
        except OSError as error:
            raise TakenAwayError(error.errno, error.strerror, str(self.path)) from error
        try:
            found = os.fstat(descriptor)
            if (found.st_dev, found.st_ino, found.st_size) != (*self._identity, self.size) or not S_ISREG(
                found.st_mode
            ):
                raise TakenAwayError(errno.ESTALE, "somebody else has changed it", str(self.path))
            try:
                self._write(descriptor, data)
            except OSError as error:
                os.ftruncate(descriptor, self.size)
                if error.errno == errno.EFBIG:  # this file may not grow; another one may
                    raise TakenAwayError(error.errno, error.strerror, str(self.path)) from error
                raise
        finally:
            os.close(descriptor)

    def _write(self, descriptor: int, data: bytes) -> None:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        if self._fsync:
            os.fsync(descriptor)
        self.size += len(data)
