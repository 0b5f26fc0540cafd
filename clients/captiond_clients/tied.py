"""Runs another program in this process, tied to the life of the process that started it.

    python -m captiond_clients.tied PARENT_PID PROGRAM ARGUMENT…

When the parent ends in whatever way, also by SIGKILL, the kernel sends the program SIGTERM
(prctl(2), PR_SET_PDEATHSIG: it is kept over execve). Where there is no such thing, the program just runs.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def tie_to(parent: int) -> bool:
    """From now on this process gets SIGTERM when its parent ends; False where ``parent`` is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    return os.getppid() == parent


def main() -> None:
    if tie_to(int(sys.argv[1])):
        os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
