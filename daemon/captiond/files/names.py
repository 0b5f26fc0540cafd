"""Names of the files, and which of them are old enough to go.

``20261121T110928.417Z_hall.srt``: the moment (UTC) at which the file's time begins, the stream, the format.
So a folder sorts by time. Only names of this form are ever read or deleted. Knows no open file.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from stat import S_ISREG
from typing import get_args

from captiond.config import STREAM_NAME, FileFormat

DAY_S = 86_400.0
NAME = re.compile(
    rf"(?P<moment>\d{{8}}T\d{{6}}\.\d{{3}}Z)_{STREAM_NAME.pattern}\.(?P<form>{'|'.join(get_args(FileFormat))})"
)


def iso_time(at: float) -> str:
    """ISO 8601 in UTC, with milliseconds; ``at`` in seconds since 1970."""
    moment = datetime.fromtimestamp(at, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def file_name(at: float, stream: str, form: str) -> str:
    """The name of the file of ``stream`` whose time begins ``at``, in seconds since 1970."""
    return f"{iso_time(at).replace('-', '').replace(':', '')}_{stream}.{form}"


def day_of(at: float, *, local: bool) -> str:
    """The day in which ``at`` lies, in the machine's time zone or in UTC."""
    moment = datetime.fromtimestamp(at, UTC)
    return str((moment.astimezone() if local else moment).date())


def outdated(
    folder: Path, *, keep_files: int, keep_days: int, now: float, in_use: Collection[Path]
) -> list[Path]:
    """Files of ``folder`` that are beyond ``keep_files`` of their format or not written for ``keep_days``.

    0 keeps all. A file that is still written to is never among them. Raises OSError.
    """
    by_form: dict[str, list[Path]] = defaultdict(list)
    for path in folder.iterdir():
        if found := NAME.fullmatch(path.name):
            by_form[found["form"]].append(path)
    old: set[Path] = set()
    for paths in by_form.values():
        paths.sort()
        if keep_files:
            old.update(paths[:-keep_files])
        if keep_days:
            old.update(path for path in paths if _written_before(path, now - keep_days * DAY_S))
    return sorted(old - set(in_use))


def _written_before(path: Path, moment: float) -> bool:
    with suppress(FileNotFoundError):  # somebody else was faster
        found = path.lstat()
        return S_ISREG(found.st_mode) and found.st_mtime < moment
    return False
