"""From a configuration to a running engine, in a thread that nobody has to wait for.

Takes: the configuration, and whoever wants to know how it goes. Gives: an engine, or the error that says why
not. Knows no socket.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from captiond_engine.engine import Engine
from captiond_engine.progress import Progress, ProgressEvent

from captiond.config import Config, ModelConfig
from captiond.decoding_config import no_translation
from captiond.progress import describe
from captiond.readiness import Readiness
from captiond.systemd import Notifier

T = TypeVar("T")

# The threads' names. Neither a compilation nor a device that hangs can be interrupted: a process that ends
# does not wait for them.
LOADING = "loading the model"
CLOSING = "closing the engine"
EXTEND_S = 180.0  # asked of systemd with each news; the longest step that tells nothing is reading weights
# Passes in one batch, unless configured. On a CPU four rows are decoded for 1.3 times the cost of one, eight
# for 1.6: further rows save little, and each is encoded by itself. On a GPU a batch costs little more than
# one row. Either way a batch stays within its time (captiond_engine.turns).
BATCH_CPU, BATCH_GPU = 4, 16
LONGEST_STEP_S = 3_600.0  # for a step that tells no progress, only that time passes


def load_engine(config: Config, progress: Progress) -> Engine:
    """The engine that ``config`` asks for; blocking. A model that is not here is downloaded.

    Raises ConfigError where it cannot do what is asked of it, and as ``Engine.load``.
    """
    model = config.model
    engine = Engine.load(model.name, device=model.device, precision=model.precision, progress=progress)
    if config.decoding.task == "translate" and len(engine.traits.languages) == 1:
        engine.close()
        raise no_translation(model.name, "the configuration")
    return with_windows(engine, model)


def with_windows(engine: Engine, model: ModelConfig) -> Engine:
    """The engine with the windows that are configured, else those of the model's card."""
    return engine.with_windows(
        None if model.window_partial == "auto" else model.window_partial,
        None if model.window_final == "auto" else model.window_final,
    )


def batch_limit(model: ModelConfig, engine: Engine) -> int:
    """Most passes in one batch: as configured, or what suits the device."""
    if model.batch:
        return model.batch
    return BATCH_CPU if engine.info.get("device", "cpu") == "cpu" else BATCH_GPU


class StartNews:
    """Tells ``/readyz``, systemd and whoever started the daemon how loading goes; from the loading thread.

    systemd would otherwise end a start that takes minutes.
    """

    def __init__(
        self,
        readiness: Readiness,
        notifier: Notifier,
        progress: Progress,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._readiness = readiness
        self._notifier = notifier
        self._progress = progress
        self._clock = clock
        self._step: tuple[str, float | None] = ("", None)
        self._moved_at = clock()

    def __call__(self, event: ProgressEvent) -> None:
        now = self._clock()
        step = (event.stage, event.done)
        if step != self._step:
            self._step, self._moved_at = step, now
        sentence = describe(event)
        self._readiness.block("model", sentence)
        self._progress(event)
        self._notifier.status(sentence)
        if now - self._moved_at < LONGEST_STEP_S:
            self._notifier.extend(EXTEND_S)


async def in_thread(work: Callable[[], T], name: str) -> T:
    """``work()`` in a thread that a stopping process does not wait for; compiling cannot be interrupted."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(result)  # type: ignore[arg-type]  # None only where T is

    def run() -> None:
        result: T | None = None
        failure: Exception | None = None
        try:
            result = work()
        except Exception as error:  # carried to the task that waits, whatever it is
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await answer


def still_running() -> bool:
    """Whether one of these threads is at work, which ``sys.exit`` would wait for or stumble over."""
    return any(thread.name in (LOADING, CLOSING) for thread in threading.enumerate())
