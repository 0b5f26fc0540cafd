"""Prints the captions of a daemon as they become final.

    python listen.py [ADDRESS] [STREAM]

A daemon that goes away is waited for; nothing is missed or told twice.
"""

import asyncio
import sys
from contextlib import suppress

from captiond_clients import Final, listen


async def main(address: str = "http://127.0.0.1:8765", stream: str = "*") -> None:
    async with listen(address, stream=stream, on_trouble=print) as events:
        async for event in events:
            if isinstance(event, Final):
                print(f"{event.stream}: {event.text}", flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
