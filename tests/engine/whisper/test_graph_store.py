"""The folder of compiled graphs: whole or nothing, bounded, shared by processes, never worse than empty."""

from __future__ import annotations

import json
import lzma
import multiprocessing
import os
import threading
import time
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from captiond_engine.whisper import graph_store
from captiond_engine.whisper.graph_store import (
    SUFFIX,
    Facts,
    GraphStore,
    cache_folder,
    pack,
    read_shipped,
    shipped_facts,
    unpack,
    work_folder,
)
from hypothesis import given
from hypothesis import strategies as st

from tests.daemon.small_disk import small_disk

KEY, OTHER = "0" * 32, "1" * 32
WHOLE = b"a compiled graph\nof two lines" * 40


def facts_of(key: str = KEY, **more: object) -> Facts:
    known = {
        "kind": "encode",
        "config": {"n_mels": 80},
        "machine": "x86_64",
        "max": "26.7.0",
        "source": "s",
        **more,
    }
    return Facts(key, **known)  # type: ignore[arg-type]


def loaded(store: GraphStore, key: str = KEY) -> bytes | None:
    found = store.load(key)
    return None if found is None else bytes(found)


@given(st.binary(max_size=300))
def test_bytes_come_back_as_they_were(artifact: bytes) -> None:
    facts, found = unpack(pack(facts_of(), artifact), KEY)
    assert (bytes(found), facts.size_bytes, facts.key) == (artifact, len(artifact), KEY)


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    store = GraphStore(tmp_path / "graphs")
    assert loaded(store) is None
    path = store.save(facts_of(took_s=7.0), WHOLE)
    again = GraphStore(tmp_path / "graphs")
    assert loaded(again) == WHOLE
    assert loaded(again, OTHER) is None
    assert path == again.path(KEY)
    assert [entry for entry, _ in again.entries()] == [path]
    known = again.facts(KEY)
    assert known is not None
    assert (known.took_s, known.size_bytes, known.kind) == (7.0, len(WHOLE), "encode")
    assert [file.name for file in store.folder.iterdir()] == [f"{KEY}{SUFFIX}"]  # nothing half written


def test_a_graph_is_known_by_what_it_is_for(tmp_path: Path) -> None:
    store = GraphStore(tmp_path)
    store.save(facts_of(), WHOLE)
    assert store.has(facts_of(OTHER))  # of other sources
    for change in (
        {"kind": "decode"},
        {"config": {"n_mels": 128}},
        {"machine": "aarch64"},
        {"max": "26.8.0"},
    ):
        assert not store.has(facts_of(**change))


@pytest.mark.parametrize("end", [0, 1, 40, -len(WHOLE), -len(WHOLE) + 1, -1])
def test_a_graph_that_is_cut_short_is_none_and_is_forgotten(tmp_path: Path, end: int) -> None:
    store = GraphStore(tmp_path)
    path = store.save(facts_of(), WHOLE)
    assert path is not None
    path.write_bytes(path.read_bytes()[:end])
    assert loaded(store) is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", ["one bit", "other facts", "no facts", "more behind", "random", "another"])
def test_a_damaged_graph_is_none_and_can_be_made_anew(tmp_path: Path, damage: str) -> None:
    store = GraphStore(tmp_path)
    path = store.save(facts_of(), WHOLE)
    assert path is not None
    content = path.read_bytes()
    match damage:
        case "one bit":
            content = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
        case "other facts":
            line, _, rest = content.partition(b"\n")
            content = json.dumps({**json.loads(line), "sha256": "0" * 64}).encode() + b"\n" + rest
        case "no facts":
            content = WHOLE
        case "more behind":
            content += b"x"
        case "random":
            content = os.urandom(len(content))
        case "another":  # whole, of this store, but under another name
            content = pack(facts_of(OTHER), WHOLE)
    path.write_bytes(content)
    assert loaded(store) is None
    assert not path.exists()
    store.save(facts_of(), WHOLE)
    assert loaded(store) == WHOLE


def test_a_folder_that_cannot_be_used_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/none")):
        store = GraphStore(folder)
        assert loaded(store) is None
        assert store.save(facts_of(), WHOLE) is None
        store.forget(KEY)
        store.prune()
        assert store.entries() == []
        with store.turn(KEY, lambda _: pytest.fail("nobody else is there")):
            pass


def test_a_graph_that_cannot_be_removed_is_still_not_used(tmp_path: Path) -> None:
    store = GraphStore(tmp_path)
    store.path(KEY).mkdir()  # neither readable nor removable as a file
    assert loaded(store) is None
    assert store.save(facts_of(), WHOLE) is None
    assert store.path(KEY).is_dir()


def test_a_full_disk_keeps_what_it_had_and_nothing_half_written(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = GraphStore(disk.folder)
        store.save(facts_of(), WHOLE)
        disk.fill()
        assert store.save(facts_of(OTHER), WHOLE * 9) is None
        assert loaded(store) == WHOLE
        assert {file.name for file in disk.folder.iterdir()} == {f"{KEY}{SUFFIX}", "filler"}
        disk.free()
        assert store.save(facts_of(OTHER), WHOLE * 9) is not None


def test_a_disk_that_may_only_be_read_is_read(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        store = GraphStore(disk.folder)
        store.save(facts_of(), WHOLE)
        disk.remount("ro")
        assert loaded(store) == WHOLE
        assert store.save(facts_of(OTHER), WHOLE) is None
        store.forget(KEY)
        assert loaded(store) == WHOLE
        with store.turn(KEY, lambda _: pytest.fail("nobody can hold a lock here")):
            pass


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("CAPTIOND_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert cache_folder() == tmp_path / ".cache" / "captiond"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "captiond"
    monkeypatch.setenv("CAPTIOND_CACHE_DIR", str(tmp_path / "own"))
    assert GraphStore().folder == tmp_path / "own" / "graphs"


# --- bounds ------------------------------------------------------------------------------------------


def keys(count: int) -> list[str]:
    return [f"{number:032}" for number in range(count)]


def test_the_graphs_that_were_used_least_recently_go_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, now = GraphStore(tmp_path), time.time()
    for number, key in enumerate(keys(4)):
        path = store.save(facts_of(key), WHOLE)
        assert path is not None
        os.utime(path, (now, now - 1_000 + number))
    assert loaded(store, keys(4)[0]) == WHOLE  # used just now
    monkeypatch.setattr(graph_store, "MOST_BYTES", 3 * len(pack(facts_of(), WHOLE)))
    store.save(facts_of(KEY[:-1] + "x"), WHOLE)
    left = {path.stem for path, _ in store.entries()}
    assert left == {keys(4)[0], keys(4)[3], KEY[:-1] + "x"}


def test_the_graph_that_was_just_saved_stays_however_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GraphStore(tmp_path)
    store.save(facts_of(OTHER), b"small")
    monkeypatch.setattr(graph_store, "MOST_BYTES", 10)
    store.save(facts_of(), WHOLE)
    assert [facts.key for _, facts in store.entries()] == [KEY]


def test_what_nobody_uses_any_more_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    store, long_ago = GraphStore(tmp_path), time.time() - graph_store.UNUSED_S - 60
    store.save(facts_of(OTHER), WHOLE)
    strange, hidden = tmp_path / "notes.txt", tmp_path / ".nfs0001"
    strange.write_text("mine")
    hidden.write_text("the system's")
    (tmp_path / ".compiling.left").mkdir()
    (tmp_path / ".compiling.left" / "graph.mef").write_bytes(b"half")
    (tmp_path / f".{OTHER}.77").write_bytes(b"half")
    (tmp_path / ".compiling.now").mkdir()
    for path in (store.path(OTHER), strange, hidden, tmp_path / ".compiling.left", tmp_path / f".{OTHER}.77"):
        os.utime(path, (long_ago, long_ago))
    store.save(facts_of(), WHOLE)
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{KEY}{SUFFIX}",
        "notes.txt",
        ".nfs0001",
        ".compiling.now",
    }


# --- several processes -------------------------------------------------------------------------------


def _save_often(folder: Path, content: bytes, rounds: int) -> None:
    store = GraphStore(folder)
    for _ in range(rounds):
        assert store.save(facts_of(), content) is not None


def test_two_that_save_at_once_leave_one_of_the_two(tmp_path: Path) -> None:
    store = GraphStore(tmp_path)
    contents = {b"a" * 90_000, b"b" * 70_000}
    savers = [multiprocessing.Process(target=_save_often, args=(tmp_path, c, 60)) for c in contents]
    store.save(facts_of(), next(iter(contents)))
    for saver in savers:
        saver.start()
    while any(saver.is_alive() for saver in savers):
        assert loaded(store) in contents  # at every moment
    for saver in savers:
        saver.join()
        assert saver.exitcode == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"{KEY}{SUFFIX}"}


def _hold(folder: Path, holding: Event) -> None:
    with GraphStore(folder).turn(KEY, lambda _: None):
        holding.set()
        time.sleep(3_600)


def test_a_turn_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    holding = multiprocessing.Event()
    holder = multiprocessing.Process(target=_hold, args=(tmp_path, holding))
    holder.start()
    assert holding.wait(60)
    waited: list[int] = []

    def waiting(waited_s: float) -> None:
        assert waited_s >= 0
        waited.append(1)
        holder.kill()

    with GraphStore(tmp_path).turn(OTHER, lambda _: pytest.fail("another graph")):
        pass
    with GraphStore(tmp_path).turn(KEY, waiting):
        assert waited
    holder.join()


def test_a_turn_that_never_ends_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    waited: list[int] = []
    with GraphStore(tmp_path).turn(KEY, lambda _: None):
        thread = threading.Thread(target=_take, args=(tmp_path, waited))
        thread.start()
        thread.join()
    assert waited == [0, 1]


def _take(folder: Path, waited: list[int]) -> None:
    with GraphStore(folder).turn(KEY, lambda _: waited.append(0), longest_s=0.5):
        waited.append(1)


# --- graphs that came with captiond, and room for the compiler ---------------------------------------


def test_a_shipped_graph_is_read_only_under_its_own_key(tmp_path: Path) -> None:
    path = tmp_path / "encode.graph.xz"
    assert (read_shipped(path, KEY), shipped_facts(path)) == (None, None)
    whole = lzma.compress(pack(facts_of(), WHOLE))
    path.write_bytes(whole)
    found, facts = read_shipped(path, KEY), shipped_facts(path)
    assert found is not None
    assert bytes(found) == WHOLE
    assert facts is not None
    assert facts.is_like(facts_of(OTHER))
    assert read_shipped(path, OTHER) is None
    for spoilt in (whole[:-20], b"", WHOLE, lzma.compress(WHOLE)):
        path.write_bytes(spoilt)
        assert read_shipped(path, KEY) is None
    assert path.exists()  # it is not ours to remove


def test_the_compiler_works_where_there_is_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph_store.tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    first = work_folder(GraphStore(tmp_path / "graphs"), 1)
    assert first.parent == tmp_path / "graphs"
    (tmp_path / "file").write_text("")
    assert work_folder(GraphStore(tmp_path / "file"), 1).parent == tmp_path / "temporary"
    with pytest.raises(OSError, match="no room") as caught:
        work_folder(GraphStore(tmp_path / "file"), 1 << 60)
    assert "MiB free" in str(caught.value)
    assert str(tmp_path / "file") in str(caught.value)
