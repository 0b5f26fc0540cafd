"""What the edges share once the model is there: passed to every route and source, owned by ``app``."""

from __future__ import annotations

from dataclasses import dataclass, field

from captiond.config import Config
from captiond.hub import Hub
from captiond.metrics import Metrics
from captiond.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Context:
    config: Config
    hub: Hub
    sessions: Sessions
    metrics: Metrics = field(default_factory=Metrics)
