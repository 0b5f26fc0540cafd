"""The library against a daemon that is a process: stopped or killed in the middle of speech, and back."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.request import urlopen

import pytest
from captiond_clients.client import Speaker, listen, speak
from captiond_clients.errors import ClientError
from captiond_clients.events import Final, Hello

from tests.daemon.daemon_process import DaemonProcess, daemon_process
from tests.daemon.house import s16
from tests.sim.audible import spoken

UTTERANCES = [[1, 12, 5], [9, 2, 16, 4], [7, 0], [14, 3, 3, 11]]
PCM, PLACED = spoken(*UTTERANCES)
AUDIO = s16(PCM)
SAID = [f"w{number}" for words in UTTERANCES for number in words]
MID_SPEECH = (PLACED[1][1].end + PLACED[1][2].start) // 2 * 2  # bytes: between two words of one utterance


class Heard:
    """The words of all finals that one client was told, and the epochs it lived through."""

    def __init__(self) -> None:
        self.finals: list[Final] = []
        self.epochs: list[str] = []
        self.news = asyncio.Condition()

    @property
    def words(self) -> list[str]:
        return [word for final in self.finals for word in final.text.split()]

    async def listen_to(self, events: AsyncIterator[object]) -> None:
        async for event in events:
            async with self.news:
                if isinstance(event, Final):
                    self.finals.append(event)
                elif isinstance(event, Hello):
                    self.epochs.append(str(event.epoch))
                self.news.notify_all()

    async def until(self, words: int) -> None:
        async with asyncio.timeout(120), self.news:
            await self.news.wait_for(lambda: len(self.words) >= words)


@asynccontextmanager
async def listener(url: str, stream: str) -> AsyncIterator[Heard]:
    heard = Heard()
    async with listen(url, stream=stream) as events, asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(heard.listen_to(events), name="listening")
        yield heard
        reading.cancel()


async def send(speaker: Speaker, audio: bytes) -> None:
    for at in range(0, len(audio), 6_400):
        await speaker.send(audio[at : at + 6_400])


async def daemon_has_heard(daemon: DaemonProcess, size: int) -> None:
    def heard_ms() -> int:
        with urlopen(f"{daemon.url}/v1/streams", timeout=5) as answer:
            return int(json.load(answer)[0]["heard_until_ms"])

    while await asyncio.to_thread(heard_ms) < size // 32:  # noqa: ASYNC110 (it is asked from outside)
        await asyncio.sleep(0.01)


async def over_a_restart(number: signal.Signals, *, after_end: bool = False) -> tuple[Heard, Heard, Heard]:
    """Speech in the middle of which (or after whose end) the daemon goes and comes back; what all heard."""
    cut = len(AUDIO) if after_end else MID_SPEECH
    async with (
        daemon_process() as daemon,
        listener(daemon.url, "*") as all_streams,
        listener(daemon.url, "hall") as hall,
        speak(daemon.url, stream="hall") as speaker,
        asyncio.TaskGroup() as tasks,
    ):
        own = Heard()
        reading = tasks.create_task(own.listen_to(speaker), name="hearing ourselves")
        await send(speaker, AUDIO[:cut])
        await daemon_has_heard(daemon, cut)
        for each in (own, all_streams, hall):
            await each.until(words=3)
        assert await daemon.end(number) == (0 if number == signal.SIGTERM else -number)
        await daemon.start()
        await send(speaker, AUDIO[cut:])
        await speaker.end()
        await reading
        for each in (own, all_streams, hall):
            await each.until(words=len(SAID))
        assert await daemon.end() == 0
    return own, all_streams, hall


@pytest.mark.parametrize("after_end", [False, True], ids=["in the middle of speech", "after the last word"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
async def test_over_a_restart_nothing_is_lost_and_nothing_told_twice(
    number: signal.Signals, after_end: bool
) -> None:
    for heard in await over_a_restart(number, after_end=after_end):
        assert heard.words == SAID
        assert after_end or len(set(heard.epochs)) == 2


@pytest.mark.parametrize("words", [1, 8])
async def test_a_speaker_hears_every_word_once_whenever_the_daemon_is_killed(words: int) -> None:
    """Faster than speech, so that much is on its way in both directions when it happens."""
    async with daemon_process() as daemon, speak(daemon.url, stream="hall") as speaker:
        heard = Heard()

        async def kill_once_it_has_said() -> None:
            await heard.until(words)
            await daemon.end(signal.SIGKILL)
            await daemon.start()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(heard.listen_to(speaker), name="hearing ourselves")
            tasks.create_task(kill_once_it_has_said(), name="killing")
            await send(speaker, AUDIO)
            await speaker.end()
    assert heard.words == SAID
    assert len(set(heard.epochs)) == 2


async def test_a_speaker_that_wants_no_captions_has_none_told_twice_either() -> None:
    async with daemon_process() as daemon, listener(daemon.url, "hall") as hall:
        async with speak(daemon.url, stream="hall", events="none") as speaker:
            await send(speaker, AUDIO[:MID_SPEECH])
            await daemon_has_heard(daemon, MID_SPEECH)
            await daemon.end()
            await daemon.start()
            await send(speaker, AUDIO[MID_SPEECH:])
            await speaker.end()
            told = [event.type async for event in speaker]
        await hall.until(words=len(SAID))
        await daemon.end()
    assert hall.words == SAID
    assert set(told) <= {"hello", "stream.closed"}


async def test_a_daemon_that_does_not_come_back_is_told_and_what_was_heard_stays() -> None:
    async with daemon_process() as daemon, speak(daemon.url, stream="hall", patience_s=0.5) as speaker:
        heard = Heard()

        async def lose_it() -> None:
            await heard.until(3)
            await daemon.end(signal.SIGKILL)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(lose_it(), name="losing it")
            await send(speaker, AUDIO[:MID_SPEECH])
            with pytest.raises(ClientError) as raised:
                await heard.listen_to(speaker)
    assert raised.value.code == "unreachable"
    assert heard.words == SAID[:3]
