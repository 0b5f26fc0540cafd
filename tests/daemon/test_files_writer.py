"""Which files there are: named, rotated and swept as configured."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from captiond.config_file import load
from captiond.files.names import iso_time
from captiond.files.writer import MB
from captiond_engine.errors import ConfigError

from tests.daemon.subtitle_files import read_srt, read_vtt
from tests.daemon.written import DAY_S, FORMATS, NOON, fact, names, opening, said, write, writer_to


def test_each_opening_of_a_stream_has_a_file_of_each_format_named_by_its_beginning(tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there yet"
    writer = writer_to(folder)
    first, again, other = opening(), opening(at=NOON + 1.5), opening("porch", NOON + 1.5)
    write(
        writer, fact(first, "One."), fact(first, "Two.", 2_000), fact(again, "Three."), fact(other, "Four.")
    )
    stems = ("20261118T120000.000Z_hall", "20261118T120001.500Z_hall", "20261118T120001.500Z_porch")
    assert names(folder) == sorted(f"{stem}.{form}" for stem in stems for form in FORMATS)
    assert said(folder / f"{stems[0]}.jsonl") == ["One.", "Two."]
    assert [cue[:2] for cue in read_srt((folder / f"{stems[0]}.srt").read_text())] == [
        (500, 900),
        (2_000, 2_400),
    ]
    assert (folder / f"{stems[0]}.txt").read_text() == "One.\nTwo.\n"
    assert read_vtt((folder / f"{stems[1]}.vtt").read_text())[0].lines == ("Three.",)


def test_a_stream_that_says_nothing_has_no_file(tmp_path: Path) -> None:
    write(writer_to(tmp_path, formats=["srt", "vtt", "txt"]), fact(opening(), " \n"))
    assert names(tmp_path) == []


def test_a_name_that_is_taken_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "20261118T120000.000Z_hall.txt").write_text("mine")
    (tmp_path / "20261118T120000.001Z_hall.txt").symlink_to(tmp_path / "elsewhere")
    write(writer_to(tmp_path, formats=["txt"]), fact(opening(), "One."))
    assert (tmp_path / "20261118T120000.000Z_hall.txt").read_text() == "mine"
    assert (tmp_path / "20261118T120000.002Z_hall.txt").read_text() == "One.\n"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("mode", "of_file", "of_folder"), [("0640", 0o640, 0o750), ("600", 0o600, 0o700)])
def test_who_may_read(tmp_path: Path, mode: str, of_file: int, of_folder: int) -> None:
    folder = tmp_path / "log"
    before = os.umask(0o022)
    try:
        write(writer_to(folder, mode=mode), fact(opening(), "One."))
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {of_file}
    assert folder.stat().st_mode & 0o777 == of_folder


@pytest.mark.parametrize("mode", ["0444", "0777", "640x", "rw"])
def test_permissions_that_could_not_be_worked_with_are_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"files\.mode"):
        load(None, [f"files.mode='{mode}'"])


def test_a_file_that_would_grow_too_large_is_followed_by_another(tmp_path: Path) -> None:
    writer = writer_to(tmp_path, rotate_mb=1, formats=["srt", "vtt"])
    opened, text = opening(), "word " * 2_000
    for number in range(130):
        write(writer, fact(opened, text, 1_000 * number))
    for form, read in (("srt", read_srt), ("vtt", read_vtt)):
        files = sorted(tmp_path.glob(f"*.{form}"))
        assert len(files) == 2
        assert all(path.stat().st_size <= MB for path in files)
        assert files[1].stat().st_size > MB // 10
        read_cues = [read(path.read_text()) for path in files]
        assert "".join("".join(cue.lines) for cues in read_cues for cue in cues).count("word") == 130 * 2_000
        begins_ms = read_cues[0][-1].end_ms // 1_000 * 1_000 + 1_000
        assert read_cues[1][0].start_ms == 0, "a later file begins with its first segment"
        assert (
            files[1].name
            == f"{iso_time(NOON + begins_ms / 1000).replace('-', '').replace(':', '')}_hall.{form}"
        )


@pytest.mark.parametrize(
    ("daily", "zone", "days"), [("utc", "UTC", 2), ("local", "Asia/Tokyo", 1), ("off", "UTC", 1)]
)
def test_a_day_has_its_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, daily: str, zone: str, days: int
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        writer = writer_to(tmp_path, rotate_daily=daily, formats=["srt"])
        opened = opening(at=NOON + DAY_S / 2 - 60)  # a minute before midnight, UTC; nine o'clock in Tokyo
        write(
            writer,
            fact(opened, "Late.", 30_000),
            fact(opened, "Early.", 90_000),
            fact(opened, "Next.", 92_000),
        )
    finally:
        monkeypatch.undo()
        time.tzset()
    files = sorted(tmp_path.iterdir())
    assert len(files) == days
    assert files[0].name.startswith("20261118T235900.000Z")
    if days == 2:
        assert files[1].name.startswith("20261119T000030.000Z")
        assert [cue[:2] for cue in read_srt(files[1].read_text())] == [(0, 400), (2_000, 2_400)]


def test_a_stream_opened_yesterday_begins_today_with_its_first_words(tmp_path: Path) -> None:
    writer = writer_to(tmp_path, rotate_daily="utc", formats=["srt"])
    write(writer, fact(opening(at=NOON - DAY_S), "Good morning.", 86_400_000))
    assert names(tmp_path) == ["20261118T120000.000Z_hall.srt"]
    assert read_srt(next(tmp_path.iterdir()).read_text())[0].start_ms == 0


def test_only_so_many_files_are_kept_and_none_that_grows_is_deleted(tmp_path: Path) -> None:
    for name in ("notes.txt", "20261118T115959.999Z_hall.md", "x20261118T115959.999Z_hall.txt"):
        (tmp_path / name).write_text("not ours")
    writer = writer_to(tmp_path, keep_files=2, formats=["txt", "srt"])
    oldest = opening("oldest", NOON - 100)
    write(writer, fact(oldest, "Still talking."))
    for number in range(4):
        each = fact(opening(f"s{number}", NOON + number), f"{number}.")
        assert writer.write([each], {oldest, each.opening}).error is None
    stems = {
        name.partition("_")[2] for name in names(tmp_path) if name.startswith("2026") and "md" not in name
    }
    assert stems == {f"{stem}.{form}" for stem in ("oldest", "s2", "s3") for form in ("txt", "srt")}
    assert len([name for name in names(tmp_path) if "hall" in name or "notes" in name]) == 3


def test_files_that_are_too_old_go(tmp_path: Path) -> None:
    writer = writer_to(tmp_path, keep_days=7, formats=["txt"], clock=time.time())
    for days in (6, 8):
        path = tmp_path / f"2020010{days}T000000.000Z_hall.txt"
        path.write_text("old")
        os.utime(path, (0, time.time() - days * DAY_S))
    assert writer.prepare() is None
    assert names(tmp_path) == ["20200106T000000.000Z_hall.txt"]


def test_a_stream_that_could_not_have_that_name_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"files\.streams"):
        load(None, ["files.streams=['the hall']"])
