"""What the edges share once the model is there: passed to every route, source and sink, owned by ``app``.

``config`` is another one after a reload: whoever wants to follow it asks for it each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from captiond_engine.engine import Engine
from captiond_engine.scheduler import Scheduler

from captiond import __version__
from captiond.config import Config
from captiond.hub import Hub
from captiond.metrics import Metrics
from captiond.sessions import Sessions


@dataclass(slots=True)
class Context:
    config: Config
    hub: Hub
    sessions: Sessions
    metrics: Metrics = field(default_factory=Metrics)

    def reconfigure(self, config: Config) -> None:
        """From now on ``config`` holds. Streams and listeners that are there keep what they came with."""
        self.config = config
        self.hub.reconfigure(config.history, config.limits)
        self.sessions.reconfigure(config)

    def summary(self) -> str:
        """Such as "2 streams, 3 listeners"."""
        streams, listeners = len(self.sessions.present()), self.hub.box_count()
        return f"{counted(streams, 'stream')}, {counted(listeners, 'listener')}"


def make_context(
    config: Config, engine: Engine, scheduler: Scheduler, metrics: Metrics | None = None
) -> Context:
    """Hub and sessions over ``engine``, as the edges see them."""
    hub = Hub(
        server=f"captiond/{__version__}",
        model=engine.traits.name,
        max_finals=config.history.finals,
        max_closed=config.history.streams,
        max_facts=config.limits.queue_facts,
        max_bytes=config.limits.queue_bytes,
    )
    return Context(config, hub, Sessions(config, engine, scheduler, hub), metrics or Metrics())


def counted(number: int, noun: str) -> str:
    """ "1 stream", "2 streams"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
