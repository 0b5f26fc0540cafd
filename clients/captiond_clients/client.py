"""The Python library: speak into a captiond daemon and listen to one.

    from captiond_clients import listen, speak

    async with speak("http://127.0.0.1:8765", stream="hall") as speaker:
        await speaker.send(pcm_bytes)
        await speaker.end()
        async for event in speaker: ...

    async with listen("http://127.0.0.1:8765", stream="*") as events:
        async for event in events: ...

Events are the frozen values of ``captiond_clients.events``. Both outlive a lost socket and a daemon that is
stopped and comes back: no final is lost or told twice. Of a daemon that is killed, a speaker hears again what
it had no final for, from up to a minute back; a listener misses finals that were on their way to it alone,
and hears words twice whose final had not reached their speaker. Knows no files, terminals or devices.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

from captiond_clients.audio_outbox import AudioShape, Encoding
from captiond_clients.connection import DEFAULT_URL
from captiond_clients.errors import ClientError
from captiond_clients.listener import Listener
from captiond_clients.speak_request import SpeakRequest
from captiond_clients.speaker import Speaker

Trouble = Callable[[ClientError], None]

__all__ = ["DEFAULT_URL", "Listener", "Speaker", "listen", "speak"]


@asynccontextmanager
async def speak(
    url: str = DEFAULT_URL,
    *,
    stream: str | None = None,
    encoding: Encoding = "pcm_s16le",
    rate: int = 16_000,
    channels: int = 1,
    language: str | None = None,
    prompt: str | None = None,
    words: bool = False,
    timings: bool = False,
    events: Literal["all", "final", "none"] = "all",
    token: str | None = None,
    patience_s: float = 30.0,
    on_trouble: Trouble | None = None,
) -> AsyncIterator[Speaker]:
    """A stream of our own: send audio, hear its events.

    ``rate``: Hz, 8000 to 192000; ``channels``: 1 to 8, interleaved. ``language``: ISO code or "auto", the
    daemon's setting by default; ``prompt``: names and words to be spelled like this. ``words`` and
    ``timings`` ask for these in the events, ``events`` for less of them. ``token``: where the daemon asks
    for one.

    A lost socket is replaced for up to ``patience_s`` (the daemon keeps a stream for 30 s); ``on_trouble``
    is called before each new try, with an error whose ``retry_in_s`` says when that is. Leaving without
    ``end()`` still gets the tail captioned for other listeners.

    Raises UnreachableError when no daemon answers (at once; only a loss is waited for), RefusedError when it
    does not want this stream, ProtocolError when something else answers.
    """
    request = SpeakRequest(
        url=url,
        stream=stream,
        shape=AudioShape(encoding, rate, channels),
        language=language,
        prompt=prompt,
        words=words,
        timings=timings,
        events=events,
        token=token,
        patience_s=patience_s,
    )
    speaker = Speaker(request, on_trouble)
    await speaker.open()
    failure: Exception | None = None
    async with asyncio.TaskGroup() as tasks:
        reading = tasks.create_task(speaker.read(), name=f"speaker {speaker.stream} reading")
        try:
            yield speaker
        except Exception as error:  # handed on as it is, not wrapped in the group's exception
            failure = error
        finally:
            reading.cancel()
            await speaker.close()
    if failure is not None:
        raise failure


@asynccontextmanager
async def listen(
    url: str = DEFAULT_URL,
    *,
    stream: str = "*",
    events: Literal["all", "final"] = "all",
    words: bool = False,
    timings: bool = False,
    history: int = 20,
    token: str | None = None,
    patience_s: float = math.inf,
    on_trouble: Trouble | None = None,
) -> AsyncIterator[Listener]:
    """The events of one stream, or of all (``"*"``): first ``history`` past finals, then live.

    Raises like ``speak``; a daemon that goes away later is waited for, ``patience_s`` at most.
    """
    listener = Listener(
        url,
        query={"stream": stream, "events": events, "words": int(words), "timings": int(timings)},
        history=history,
        token=token,
        patience_s=patience_s,
        on_trouble=on_trouble,
    )
    await listener.open()
    try:
        yield listener
    finally:
        await listener.close()
