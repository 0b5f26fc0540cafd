"""Keeps the last two lines of what is being said in a text file, as OBS reads one ("Text", "Read from file").

Usage: python to_obs.py FILE [ADDRESS] [STREAM]
"""

import asyncio
import sys
import textwrap
from contextlib import suppress
from pathlib import Path

from captiond_clients import Final, Partial, listen


def show(file: Path, text: str) -> None:
    lines = textwrap.wrap(text, 42)[-2:]
    beside = file.with_name(file.name + ".new")
    beside.write_text("\n".join(lines), encoding="utf-8")
    beside.replace(file)  # OBS never reads half of it


async def main(file: str, address: str = "http://127.0.0.1:8765", stream: str = "*") -> None:
    async with listen(address, stream=stream, history=0) as events:
        async for event in events:
            if isinstance(event, Partial):
                show(Path(file), event.committed + event.tentative)
            elif isinstance(event, Final):
                show(Path(file), event.text)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
