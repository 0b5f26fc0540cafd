"""One thread for calls that may hang: in order, one at a time, and nobody has to wait for the end of one.

Takes: functions. Gives: futures. Unlike those of ``concurrent.futures`` the thread is not waited for when the
process ends. Knows nothing of what it calls.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST_WAITING = 256


class Worker(Executor):
    """At most ``MOST_WAITING`` calls wait; one more is answered with ``queue.Full``."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: queue.Queue[Callable[[], None]] = queue.Queue(MOST_WAITING)
        self._thread: threading.Thread | None = None

    def submit(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()

        def call() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as error:  # carried to whoever waits, whatever it is
                future.set_exception(error)

        self._calls.put_nowait(call)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()
        return future

    def _run(self) -> Any:
        while True:
            self._calls.get()()
