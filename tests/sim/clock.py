"""An asyncio event loop whose clock jumps to the next timer as soon as nothing else is ready.

Takes: coroutines. Gives: their result after any number of simulated seconds, in almost no real time.
Sockets, threads of the default executor and child processes stay real: the clock stands still while a
thread works, and real input is always looked for before a jump. Knows nothing of captiond.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Executor
from typing import Any, TypeVar

T = TypeVar("T")

START_S = 1_000.0  # not zero, so that code which confuses a length with a time is caught
GRACE_S = 0.002  # real wait for sockets before a jump, where sockets are registered
THREAD_WAIT_S = 0.05  # real wait while a thread works; the clock stands still
STALLED_S = 5.0  # real wait for a foreign thread or a signal before the loop is called stalled


class StalledError(RuntimeError):
    """Nothing is ready, no timer runs and no socket is open: the loop would wait for ever."""


class _JumpingSelector(selectors.BaseSelector):
    """A real selector that, where it would wait, moves the simulated clock instead."""

    def __init__(self) -> None:
        self._real = selectors.DefaultSelector()
        self.now = START_S
        self.threads = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if self.threads:
            return self._real.select(THREAD_WAIT_S)
        only_wakeup = len(self._real.get_map()) <= 1  # the loop's own self-pipe
        if timeout is None:
            ready = self._real.select(STALLED_S if only_wakeup else None)
            if only_wakeup and not ready:
                raise StalledError("every task waits for something that cannot happen")
            return ready
        if not only_wakeup:
            ready = self._real.select(GRACE_S)
        if not ready:
            self.now += timeout
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def close(self) -> None:
        self._real.close()

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._real.get_map()


class JumpingLoop(asyncio.SelectorEventLoop):
    """``loop.time()`` is simulated seconds; it moves only when every task waits for a timer."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, func: Callable[..., T], *args: Any
    ) -> asyncio.Future[T]:
        """As asyncio's; the clock does not move until the thread has answered."""
        future: asyncio.Future[T] = super().run_in_executor(executor, func, *args)
        self._jumping.threads += 1

        def finished(_: asyncio.Future[T]) -> None:
            self._jumping.threads -= 1

        future.add_done_callback(finished)
        return future

    async def shutdown_default_executor(self, *limit: float | None) -> None:
        """As asyncio's, which waits for a thread of its own making."""
        self._jumping.threads += 1
        try:
            await super().shutdown_default_executor(*limit)
        finally:
            self._jumping.threads -= 1


def run_jumping(main: Coroutine[Any, Any, T]) -> T:
    """``asyncio.run`` under a clock-jumping loop."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return runner.run(main)
