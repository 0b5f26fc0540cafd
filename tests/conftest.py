"""What holds for every test."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("captiond", deadline=None)  # a busy machine is no fault
settings.load_profile("captiond")

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every program they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
