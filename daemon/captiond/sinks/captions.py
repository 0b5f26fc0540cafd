"""Events to a websocket: ``/v1/captions``, and the writing half of every other conversation.

Takes: a mailbox. Gives: its messages, in order, to one client; a client that reads too slowly is closed
with 1013 and forgotten. Knows no audio.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from captiond import wire
from captiond.context import Context
from captiond.hub import Missed
from captiond.mailbox import Mailbox, SlowReaderError
from captiond.messages import ClientError
from captiond.query import parse_captions

log = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 2.0
TOO_SLOW = "too slow a reader"


async def watch(connection: ServerConnection, context: Context) -> None:
    """One listener, from hello to goodbye."""
    try:
        query = parse_captions(connection.request.path if connection.request else "")
    except ClientError as error:
        await refuse(connection, error)
        return
    hub, limits = context.hub, context.config.limits
    box = hub.mailbox(query.view)
    hub.subscribe(query.stream, box, hub.hello(), Missed(query.history, query.epoch, query.since))
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver(connection, box, limits.stall_ms / 1000), name="captions writing")
            pulse = tasks.create_task(keep_alive(connection, limits.ping_ms / 1000), name="captions pulse")
            await _read(connection, box)
            pulse.cancel()
    finally:
        hub.unsubscribe(query.stream, box)


async def _read(connection: ServerConnection, box: Mailbox) -> None:
    """A listener has nothing to say: text is ignored, audio is in the wrong place."""
    try:
        async for message in connection:
            if isinstance(message, bytes):
                box.finish(wire.CLOSE_WRONG_KIND, "audio goes to /v1/speak")
    except ConnectionClosed:
        pass
    finally:
        box.finish(wire.CLOSE_DONE)


async def deliver(connection: ServerConnection, box: Mailbox, stall_s: float) -> None:
    """Write the box's messages until it is finished, then close as it says."""
    try:
        while (message := await box.get()) is not None:
            async with asyncio.timeout(stall_s):
                await connection.send(message, text=True)
        code, reason = box.close_code
    except (SlowReaderError, TimeoutError):
        code, reason = wire.CLOSE_OVERLOADED, TOO_SLOW
        log.info("closing a client that reads too slowly")
    except ConnectionClosed:
        return
    await close(connection, code, reason)


async def close(connection: ServerConnection, code: int, reason: str = "") -> None:
    """Close with ``code``; a peer that does not answer in time is cut off."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.close(code, reason)
    except TimeoutError:
        connection.transport.abort()


async def refuse(connection: ServerConnection, error: ClientError) -> None:
    """Say why in an ``error`` event, then close."""
    overloaded = error.code in ("capacity", "overloaded", "shutting_down")
    told = wire.Error(code=error.code, message=error.message, fatal=True)
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await connection.send(wire.encode(told), text=True)
    except (ConnectionClosed, TimeoutError):
        pass
    await close(connection, wire.CLOSE_OVERLOADED if overloaded else wire.CLOSE_POLICY, error.code)


async def keep_alive(
    connection: ServerConnection, ping_s: float, heard_at: Callable[[], float] = lambda: float("-inf")
) -> None:
    """Ping every ``ping_s``; a peer that has not answered after as long again is gone.

    An answer may wait behind audio that we have not read yet. So a peer of which something was read since
    (``heard_at``, the loop's time) is there, and while nothing is read its silence proves nothing.
    """
    loop = asyncio.get_running_loop()
    try:
        while True:
            await asyncio.sleep(ping_s)
            asked = loop.time()
            answer = await connection.ping()
            try:
                async with asyncio.timeout(ping_s):
                    await answer
            except TimeoutError:
                if connection.recv_messages.paused or heard_at() > asked:
                    continue
                log.info("closing a client that does not answer pings")
                await close(connection, wire.CLOSE_INTERNAL, "no answer to ping")
                return
    except ConnectionClosed:
        return
