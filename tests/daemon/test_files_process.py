"""Files of a daemon that is killed, and what is left nowhere of a daemon that was not asked to write."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path

import pytest
from captiond_clients.client import speak
from captiond_clients.errors import ClientError
from captiond_clients.events import Final, Suppressed

from tests.daemon.daemon_process import daemon_process
from tests.daemon.house import s16
from tests.daemon.subtitle_files import read_srt, read_vtt
from tests.sim.audible import spoken

UTTERANCES = [[number % 20, (number * 7) % 20] for number in range(14)]
TEXTS = [" ".join(f"w{number}" for number in words) for words in UTTERANCES]


async def say_until(url: str, pcm: bytes, count: int) -> list[str]:
    """Speak as fast as it goes; the finals until there are ``count``, or the daemon is gone."""
    heard: list[str] = []
    async with speak(url, stream="hall", patience_s=0) as speaker, asyncio.TaskGroup() as tasks:

        async def send() -> None:
            for at in range(0, len(pcm), 32_000):
                await speaker.send(pcm[at : at + 32_000])
            await speaker.end()

        sending = tasks.create_task(send(), name="sending")
        async for event in speaker:
            if isinstance(event, Final):
                heard.append(event.text)
                if len(heard) == count:
                    break
        sending.cancel()
    return heard


def read_all(folder: Path, form: str) -> list[str]:
    """The captions of every file of ``form``; fails where one of them is not whole."""
    texts = []
    for path in sorted(folder.glob(f"*.{form}")):
        content = path.read_text()
        if form == "jsonl":
            assert content.endswith("\n")
            texts += [json.loads(line)["text"] for line in content.splitlines()]
        elif form == "txt":
            assert content.endswith("\n")
            texts += content.splitlines()
        else:
            texts += [" ".join(cue.lines) for cue in (read_srt if form == "srt" else read_vtt)(content)]
    return texts


@pytest.mark.parametrize("count", [1, 5, 11])
def test_a_daemon_killed_while_it_writes_leaves_whole_files(tmp_path: Path, count: int) -> None:
    asyncio.run(kill_while_it_writes(tmp_path, count))


async def kill_while_it_writes(tmp_path: Path, count: int) -> None:
    pcm = s16(spoken(*UTTERANCES)[0])
    folder = tmp_path / "log"
    formats = ["jsonl", "srt", "vtt", "txt"]
    async with daemon_process(f"files.folder={folder}", f"files.formats={json.dumps(formats)}") as daemon:
        heard = await say_until(daemon.url, pcm, count)
        await daemon.end(signal.SIGKILL)
        killed = {form: read_all(folder, form) for form in formats}
        await daemon.start()
        again = await say_until(daemon.url, s16(spoken(*UTTERANCES[:2])[0]), len(TEXTS))
        assert await daemon.end() == 0
    assert (heard, again) == (TEXTS[:count], TEXTS[:2])
    for form in formats:
        assert killed[form] == TEXTS[: len(killed[form])]
        assert read_all(folder, form) == killed[form] + again, "the next start begins files of its own"


# --- [privacy] ----------------------------------------------------------------------------------------------


def traces(folder: Path, words: list[str]) -> list[str]:
    """Files under ``folder`` in which any of ``words`` stands, in whatever they are written."""
    wanted = [form for word in words for form in (word.encode(), word.encode("utf-16-le"))]
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(word in path.read_bytes() for word in wanted)
    ]


@pytest.mark.parametrize("asked", [False, True], ids=["not asked to write", "asked to write"])
def test_what_is_said_is_written_nowhere_unless_it_is_asked_for(tmp_path: Path, asked: bool) -> None:
    asyncio.run(look_for_what_was_said(tmp_path, asked))


async def look_for_what_was_said(tmp_path: Path, asked: bool) -> None:
    """Everything that a daemon can be told to tell of itself, and everything that it could write to."""
    places = {
        name: tmp_path / name.lower() for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_STATE_HOME")
    }
    cwd, folder = tmp_path / "cwd", tmp_path / "asked for"
    for place in (cwd, *places.values()):
        place.mkdir()
    settings = ["log.level=debug", "segment.partial_step_ms=100"]
    settings += [f"files.folder={folder}"] if asked else []
    environment = {name: str(place) for name, place in places.items()} | {"PYTHONASYNCIODEBUG": "1"}
    async with daemon_process(*settings, cwd=cwd, environment=environment) as daemon:
        async with speak(daemon.url, stream="hall", words=True, timings=True, prompt="canaryhint") as speaker:
            await speaker.send(s16(spoken([17, 13, 11], [19])[0]))
            await speaker.flush()
            await asyncio.sleep(0)
            await speaker.send(s16(spoken([1])[0])[:32_000])  # and something that is left in the middle
            await speaker.end()
            heard = [event async for event in speaker]
        with pytest.raises(ClientError):  # a mistake of a client is told to it, with its own words in it
            async with speak(daemon.url, stream="hall", language="w17canary"):
                pass
        assert await daemon.end() == 0
    assert [event.text for event in heard if isinstance(event, Final)][:2] == ["w17 w13 w11", "w19"]
    assert any(isinstance(event, Final | Suppressed) for event in heard)
    words = ["w17", "w13", "w11", "w19", "canaryhint"]
    assert [word for word in words if word in daemon.said] == []
    assert daemon.said.count("DEBUG") > 0, "the log did tell what it can"
    assert [name.partition("/")[0] for name in traces(tmp_path, words)] == (["asked for"] if asked else [])
