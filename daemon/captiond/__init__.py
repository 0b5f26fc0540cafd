"""captiond: the daemon. Edges, wiring and configuration; the engine does the listening."""

__version__ = "0.1.0"
