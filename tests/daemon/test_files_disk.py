"""Files on a disk that refuses, is full, or is changed by somebody else: whole lines, each once."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tests.daemon.small_disk import small_disk
from tests.daemon.subtitle_files import read_srt, read_vtt
from tests.daemon.written import fact, names, opening, said, write, writer_to


def test_a_write_that_is_cut_short_leaves_whole_lines_and_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, opened, real = writer_to(tmp_path, fsync=True), opening(), os.write
    write(writer, fact(opened, "One."))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full(descriptor: int, data: bytes) -> int:
        if len(data) <= 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data[:4])

    second, other = fact(opened, "Two.", 2_000), fact(opening("porch"), "New.")
    monkeypatch.setattr("os.write", full)
    for _ in range(3):
        outcome = writer.write([second, other], {opened, other.opening})
        assert (outcome.written, outcome.error and outcome.error.errno) == (0, errno.ENOSPC)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.undo()
    write(writer, second, other)
    for form, read in (("srt", read_srt), ("vtt", read_vtt)):
        assert [c.lines for c in read((tmp_path / f"20261118T120000.000Z_hall.{form}").read_text())] == [
            ("One.",),
            ("Two.",),
        ]


def test_a_format_that_was_written_is_not_written_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, opened, real = writer_to(tmp_path), opening(), os.write

    def only_first(descriptor: int, data: bytes) -> int:
        if bytes(data[:1]) == b"{":
            return real(descriptor, data)
        raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))

    told = fact(opened, "One.")
    monkeypatch.setattr("os.write", only_first)
    assert writer.write([told], {opened}).error is not None
    assert names(tmp_path) == ["20261118T120000.000Z_hall.jsonl"]
    monkeypatch.undo()
    write(writer, told)
    assert said(tmp_path / "20261118T120000.000Z_hall.jsonl") == ["One."]
    assert len(names(tmp_path)) == 4


def taken_away(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_text("")


def replaced(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def moved(path: Path) -> None:
    path.rename(path.with_suffix(".old"))


@pytest.mark.parametrize("harm", [taken_away, cut, replaced, moved])
def test_a_file_that_somebody_else_changes_is_left_and_another_begun(tmp_path: Path, harm: Any) -> None:
    writer, opened = writer_to(tmp_path, formats=["vtt"]), opening()
    write(writer, fact(opened, "One."))
    harm(tmp_path / "20261118T120000.000Z_hall.vtt")
    write(writer, fact(opened, "Two.", 2_000), fact(opened, "Three.", 3_000))
    found = read_vtt((tmp_path / "20261118T120002.000Z_hall.vtt").read_text())
    assert [(cue.start_ms, cue.lines) for cue in found] == [(0, ("Two.",)), (1_000, ("Three.",))]


def test_a_folder_that_is_removed_is_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    writer, opened = writer_to(folder, formats=["txt"]), opening()
    write(writer, fact(opened, "One."))
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    write(writer, fact(opened, "Two.", 2_000))
    assert [path.read_text() for path in folder.iterdir()] == ["Two.\n"]


@pytest.mark.parametrize("what", ["a file", "a link to nowhere"])
def test_a_folder_that_is_none_is_told(tmp_path: Path, what: str) -> None:
    place = tmp_path / "log"
    place.write_text("") if what == "a file" else place.symlink_to(tmp_path / "nowhere")
    writer = writer_to(place)
    error = writer.prepare()
    assert isinstance(error, NotADirectoryError)
    assert isinstance(writer.write([fact(opening(), "One.")], set()).error, NotADirectoryError)


def test_a_full_disk_costs_nothing_that_was_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        writer, opened = writer_to(disk.folder), opening()
        write(writer, fact(opened, "One. " * 100))
        disk.fill()
        second = fact(opened, "Two. " * 2_000, 2_000)
        outcome = writer.write([second], {opened})
        assert outcome.error is not None
        assert outcome.error.errno == errno.ENOSPC
        assert len(said(disk.folder / "20261118T120000.000Z_hall.jsonl")) == 1
        assert len(read_srt((disk.folder / "20261118T120000.000Z_hall.srt").read_text())) == 7
        disk.remount("ro")
        outcome = writer.write([second], {opened})
        assert outcome.error is not None
        assert outcome.error.errno == errno.EROFS
        assert writer.prepare() is not None
        disk.remount("rw")
        disk.free()
        write(writer, second)
        assert len(said(disk.folder / "20261118T120000.000Z_hall.jsonl")) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere; run as a user to test permissions")
def test_a_folder_in_which_we_may_not_write_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir(mode=0o500)
    assert isinstance(writer_to(folder).prepare(), PermissionError)
