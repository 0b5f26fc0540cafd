"""Where on the broker everything of this daemon lies.

Takes: the base and the node's name. Gives: topics. Names of streams are topic levels as they are: they hold
neither wildcards nor slashes (``config.STREAM_NAME``). Knows no broker.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from captiond.config import MqttConfig

_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")
LONGEST_NODE = 64


@dataclass(frozen=True, slots=True)
class Topics:
    """``status``, ``speech`` and ``lag`` are the node's; each stream has its own beside them."""

    base: str
    node: str

    @property
    def status(self) -> str:
        """``online`` or ``offline``, retained."""
        return f"{self.base}/{self.node}/status"

    @property
    def speech(self) -> str:
        """``ON`` while anybody speaks into any stream, retained."""
        return f"{self.base}/{self.node}/speech"

    @property
    def lag(self) -> str:
        """The ``lag`` event of the stream that is furthest behind, retained."""
        return f"{self.base}/{self.node}/lag"

    def of(self, stream: str, what: str) -> str:
        """``what``: ``partial``, ``final`` or ``speech``; stream ``+`` stands for all of them."""
        return f"{self.base}/{self.node}/{stream}/{what}"


def topics_of(mqtt: MqttConfig) -> Topics:
    return Topics(mqtt.base, mqtt.node or host_name())


def host_name() -> str:
    """This machine's name as one level of a topic."""
    return _NOT_IN_A_NAME.sub("-", socket.gethostname())[:LONGEST_NODE].strip("-") or "captiond"
