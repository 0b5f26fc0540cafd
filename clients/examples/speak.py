"""Speaks into a daemon and prints what it hears: a sound file, or the default microphone until Ctrl-C.

Usage: python speak.py [FILE|-] [ADDRESS]
"""

import asyncio
import sys
from contextlib import suppress

import sounddevice
import soundfile
from captiond_clients import Final, Speaker, speak


async def print_captions(speaker: Speaker) -> None:
    async for event in speaker:
        if isinstance(event, Final):
            print(event.text, flush=True)


async def main(source: str = "-", address: str = "http://127.0.0.1:8765") -> None:
    file = None if source == "-" else soundfile.SoundFile(source)
    rate, channels = (file.samplerate, file.channels) if file else (16_000, 1)
    async with speak(address, rate=rate, channels=channels) as speaker, asyncio.TaskGroup() as tasks:
        tasks.create_task(print_captions(speaker))
        if file:  # as fast as the daemon reads; it resamples
            for block in file.blocks(rate // 10, dtype="int16"):
                await speaker.send(block.tobytes())
        else:
            with sounddevice.RawInputStream(rate, rate // 10, dtype="int16", channels=1) as microphone:
                while microphone.active:
                    piece, _ = await asyncio.to_thread(microphone.read, rate // 10)
                    await speaker.send(bytes(piece))
        await speaker.end()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
