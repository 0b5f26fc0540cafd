"""Whisper on MAX. The only part of captiond that imports MAX.

MAX tells its maker how it is used unless it is told not to before it is loaded. With version 26.7 a process
that loads a graph looks up a telemetry host; with the first of these variables at 0 it opens no connection.
The second is the same switch for its crash reports, which would hold memory, and so what was said. captiond
keeps to itself; whoever wants to tell Modular sets them to 1.
"""

import os

os.environ.setdefault("MODULAR_TELEMETRY_ENABLED", "0")
os.environ.setdefault("MODULAR_CRASH_REPORTING_ENABLED", "0")
