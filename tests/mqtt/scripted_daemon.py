"""A daemon of its own process with a scripted device: ``python -m tests.mqtt.scripted_daemon PORT WORDS``.

Prints its address when it is ready. WORDS are said by whoever speaks into it, one second after the start.
"""

from __future__ import annotations

import asyncio
import sys

from captiond.app import App
from captiond.serve import stop_on_signal

from tests.daemon.house import configured, scripted_engine
from tests.sim.scripted import say


async def run(port: int, words: str) -> None:
    config = configured(mqtt={"host": "127.0.0.1", "port": port, "node": "n"})
    engine = scripted_engine(say(words))
    address: list[str] = []
    app = App(
        config,
        lambda progress: engine,
        on_bound=address.append,
        on_ready=lambda: print(address[0], flush=True),
    )
    await app.run(stop_on_signal())


if __name__ == "__main__":
    asyncio.run(run(int(sys.argv[1]), sys.argv[2]))
