"""Replays a golden conversation against a running daemon, or records one.

Takes: the steps of a ``.jsonl`` file, one JSON object a line. Gives: the same steps with what was really
told, with ``<name>`` where a value differs from run to run (the same value keeps its name). Steps:

``{"given": {...}}``                      first line: script of words [text, start_ms, end_ms], and more
``{"open": NAME, "path": PATH}``          a websocket, called NAME from now on
``{"from": NAME, "audio_ms": [A, B]}``    the script's sound from A to B, as 16-bit PCM, at its own pace
``{"from": NAME, "message": {...}}``      a text message (a string is sent as it is)
``{"from": NAME, "bytes": N}``            N zero bytes
``{"from": NAME, "close": CODE}``         a goodbye; CODE 1006 cuts the connection without one
``{"wait_s": S}``                         time passes
``{"get": PATH}``                         a plain request
``{"to": NAME, "message": {...}}``        what the daemon says next to NAME
``{"to": NAME, "closed": CODE}``          how it closes
``{"answer": STATUS, "body": ...}``       how it answers the request before
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from captiond import __version__

from tests.daemon.house import Client, House, audio_of, configured, house
from tests.sim.scripted import ScriptWord

Step = dict[str, Any]
SETTLE_S = 1.0  # simulated; nothing is under way any more
SAMPLES_PER_MS = 16
TOLD_BY_DAEMON = ("to", "answer")
VARYING = ("epoch", "resume", "opened_at")


@dataclass
class Names:
    """Values that differ from run to run, and what they are called."""

    by_value: dict[str, str] = field(default_factory=dict)

    def hide(self, value: Any, key: str = "") -> Any:
        """``value`` with names in place of what varies."""
        if isinstance(value, dict):
            return {k: self.hide(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [self.hide(v) for v in value]
        if key in {"server", "version"}:
            return value.replace(__version__, "<version>")
        if key in VARYING:
            count = sum(name.startswith(f"<{key}") for name in self.by_value.values())
            return self.by_value.setdefault(value, f"<{key}{count or ''}>")
        return value

    def reveal(self, text: str) -> str:
        """``text`` with the real values in place of names."""
        for value, name in self.by_value.items():
            text = text.replace(name, value)
        return text


class Conversation:
    """One run of one file."""

    def __init__(self, home: House, script: tuple[ScriptWord, ...], sockets: AsyncExitStack) -> None:
        self._home = home
        self._pcm = audio_of(script, after_s=5.0)
        self._sockets = sockets
        self._clients: dict[str, Client] = {}
        self._seen: dict[str, int] = {}
        self._names = Names()

    async def act(self, step: Step) -> list[Step]:
        """Do what the client does in ``step``; the answer of a plain request."""
        match step:
            case {"open": name, "path": path}:
                address = self._home.client(self._names.reveal(path))
                self._clients[name] = await self._sockets.enter_async_context(address)
                self._seen[name] = 0
            case {"from": name, "audio_ms": [start_ms, end_ms]}:
                part = self._pcm[start_ms * SAMPLES_PER_MS : end_ms * SAMPLES_PER_MS]
                await self._clients[name].speak(part)
            case {"from": name, "message": message}:
                text = message if isinstance(message, str) else json.dumps(message)
                await self._clients[name].socket.send(text)
            case {"from": name, "bytes": count}:
                await self._clients[name].socket.send(bytes(count))
            case {"from": name, "close": 1006}:
                self._clients[name].socket.transport.abort()
                await self._clients[name].closed()
            case {"from": name, "close": code}:
                await self._clients[name].socket.close(code)
            case {"wait_s": seconds}:
                await asyncio.sleep(seconds)
            case {"get": path}:
                answer = await self._home.get(path)
                is_json = answer.headers["content-type"] == "application/json"
                body = self._names.hide(answer.json()) if is_json else answer.body.decode()
                return [{"answer": answer.status, "body": body}]
            case _:
                raise ValueError(f"no such step: {step}")
        return []

    async def told(self, leaving: str | None) -> list[Step]:
        """What the daemon has said since the last step, client by client."""
        await asyncio.sleep(SETTLE_S)
        steps: list[Step] = []
        for name, client in list(self._clients.items()):
            news = client.events[self._seen[name] :]
            self._seen[name] = len(client.events)
            steps += [{"to": name, "message": self._names.hide(event)} for event in news]
            if client.code is not None:
                if name != leaving:
                    steps.append({"to": name, "closed": client.code})
                del self._clients[name]
        return steps


@asynccontextmanager
async def opened(given: Step) -> AsyncIterator[Conversation]:
    script = tuple(
        ScriptWord(text, start_ms * SAMPLES_PER_MS, end_ms * SAMPLES_PER_MS)
        for text, start_ms, end_ms in given.get("script", [])
    )
    heard = script if given.get("understood", True) else ()
    device = given.get("device", {})
    config = configured(**given.get("config", {}))
    async with house(heard, config=config, **device) as home, AsyncExitStack() as sockets:
        yield Conversation(home, script, sockets)


async def play(steps: Iterable[Step]) -> list[Step]:
    """All steps, with what the daemon really said in place of what was expected."""
    first, *rest = steps
    played = [first]
    async with opened(first["given"]) as conversation:
        for step in rest:
            if any(key in step for key in TOLD_BY_DAEMON):
                continue
            played.append(step)
            played += await conversation.act(step)
            played += await conversation.told(step["from"] if "close" in step else None)
    return played


def read(text: str) -> list[Step]:
    return [json.loads(line) for line in text.splitlines() if line]


def write(steps: Iterable[Step]) -> str:
    return "".join(json.dumps(step, ensure_ascii=False) + "\n" for step in steps)
