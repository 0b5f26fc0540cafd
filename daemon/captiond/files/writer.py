"""Which file a fact goes to: one of each format for each opening of a stream, rotated and swept.

Takes: facts in order. Gives: how many of them stand in all of their files, and what stopped it. A fact that
could not be written is left as it is and may be given again; it never stands twice in a file. Blocking; one
thread at a time. Knows no event loop and no hub.
"""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from captiond.config import FileFormat, FilesConfig
from captiond.files.facts import Fact, Opening
from captiond.files.formats import Lines, Place, head, lines
from captiond.files.log_file import LogFile, TakenAwayError
from captiond.files.names import day_of, file_name, outdated
from captiond.wire import Final

log = logging.getLogger(__name__)

MB = 1_000_000
SAME_NAMES = 1_000  # of streams opened in the same millisecond: more than there can be
READ_BITS, TO_SEARCH = 0o444, 2  # who may read a file may search a folder that is made for it


@dataclass(frozen=True, slots=True)
class Outcome:
    """``written``: how many facts, from the first, are done with. ``error``: why not all."""

    written: int
    error: OSError | None = None


@dataclass(slots=True)
class _Current:
    """The file that one format of one opening grows in now."""

    file: LogFile
    place: Place
    day: str


@dataclass(slots=True)
class _Opened:
    current: dict[FileFormat, _Current] = field(default_factory=dict)
    begun: set[FileFormat] = field(default_factory=set)  # formats that have had a file


class FileWriter:
    """The files of one folder."""

    def __init__(self, config: FilesConfig, clock: Callable[[], float] = time.time) -> None:
        self.folder = Path(config.folder).expanduser()
        self.formats: tuple[FileFormat, ...] = tuple(dict.fromkeys(config.formats))
        self._config = config
        self._mode = int(config.mode, 8)
        self._clock = clock
        self._openings: dict[Opening, _Opened] = {}

    @property
    def sweeps(self) -> bool:
        """Whether files become too old."""
        return bool(self._config.keep_days)

    def prepare(self) -> OSError | None:
        """Make the folder and see whether files can be made in it, before a caption depends on it."""
        try:
            self._make_folder()
            with tempfile.TemporaryFile(dir=self.folder):
                pass
        except OSError as error:
            return error
        self.sweep()
        return None

    def write(self, facts: Sequence[Fact], alive: Collection[Opening]) -> Outcome:
        """Write ``facts`` in order, up to one that cannot be. ``alive``: openings that may have more."""
        for number, fact in enumerate(facts):
            opened = self._openings.setdefault(fact.opening, _Opened())
            try:
                for form in self.formats[fact.written :]:
                    self._write(fact, form, opened)
                    fact.written += 1
            except OSError as error:
                return Outcome(number, error)
        for opening in self._openings.keys() - set(alive):
            del self._openings[opening]
        return Outcome(len(facts))

    def sweep(self) -> None:
        """Delete what the configuration does not want kept. What cannot be deleted is told and left."""
        keep_files, keep_days = self._config.keep_files, self._config.keep_days
        if not (keep_files or keep_days):
            return
        in_use = {now.file.path for opened in self._openings.values() for now in opened.current.values()}
        try:
            for path in outdated(
                self.folder, keep_files=keep_files, keep_days=keep_days, now=self._clock(), in_use=in_use
            ):
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("old caption files cannot be deleted: %s", error)

    def _write(self, fact: Fact, form: FileFormat, opened: _Opened) -> None:
        now = opened.current.get(form)
        if now is not None and now.day == self._day(fact):
            added = self._lines(fact, form, now.place)
            if not added.data:
                return
            if self._fits(now.file.size + len(added.data)):
                try:
                    now.file.append(added.data)
                except TakenAwayError as error:
                    log.warning("%s is left, and another one begun: %s", now.file.path, error.strerror)
                else:
                    now.place = Place(now.place.cues + added.cues, now.place.zero_ms)
                    return
        self._begin(fact, form, opened)

    def _begin(self, fact: Fact, form: FileFormat, opened: _Opened) -> None:
        """A new file with ``fact`` in it, unless the format has no place for it.

        The first file of an opening begins when the stream was opened, a later one with its first segment.
        """
        opening = fact.opening
        first = form not in opened.begun and self._day(fact) == self._day_of(opening.opened_at)
        at, zero_ms = opening.opened_at, 0
        if not first:
            at, zero_ms = fact.at, fact.event.start_ms if isinstance(fact.event, Final) else 0
        place = Place(0, zero_ms)
        added = self._lines(fact, form, place)
        if not added.data:
            return
        file = self._create(at, opening.stream, form, head(form) + added.data)
        opened.current[form] = _Current(file, Place(added.cues, zero_ms), self._day(fact))
        opened.begun.add(form)
        self.sweep()

    def _create(self, at: float, stream: str, form: FileFormat, data: bytes) -> LogFile:
        for later_ms in range(SAME_NAMES):
            path = self.folder / file_name(at + later_ms / 1000, stream, form)
            file = LogFile(path, mode=self._mode, fsync=self._config.fsync)
            try:
                try:
                    file.create(data)
                except FileNotFoundError:
                    self._make_folder()
                    file.create(data)
                return file
            except FileExistsError:
                continue
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.folder))

    def _make_folder(self) -> None:
        mode = self._mode | 0o100 | (self._mode & READ_BITS) >> TO_SEARCH
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=mode, exist_ok=True)
        except FileExistsError as error:  # a link that leads nowhere, or a file
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(self.folder)) from error

    def _lines(self, fact: Fact, form: FileFormat, place: Place) -> Lines:
        return lines(fact, form, place, words=self._config.words)

    def _fits(self, size: int) -> bool:
        return not self._config.rotate_mb or size <= self._config.rotate_mb * MB

    def _day(self, fact: Fact) -> str:
        return self._day_of(fact.at)

    def _day_of(self, at: float) -> str:
        """The day that a file is for; always the same where files are not rotated by days."""
        daily = self._config.rotate_daily
        return "" if daily == "off" else day_of(at, local=daily == "local")
