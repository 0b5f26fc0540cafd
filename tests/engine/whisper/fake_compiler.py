"""Stands for the compiler's process: does what CAPTIOND_TEST_COMPILER says, and compiles nothing."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

PID_FILE = "CAPTIOND_TEST_PID_FILE"
CHOICE = "CAPTIOND_TEST_COMPILER"


def main() -> None:
    request = json.loads(sys.stdin.readline())
    match os.environ[CHOICE]:
        case "works":
            settings = {name: os.environ[name] for name in ("MODULAR_CACHE_DIR", "TMPDIR")}
            Path(request["into"]).write_text(json.dumps({"request": request, "settings": settings}))
        case "fails":
            print("note: here\nsomewhere: error: no such instruction\nplease report", file=sys.stderr)
            sys.exit(1)
        case "raises":
            raise ValueError("a graph that is none")
        case "is killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "writes nothing":
            pass
        case "hangs":
            Path(os.environ[PID_FILE]).write_text(str(os.getpid()))
            sys.stdin.read()
            Path(os.environ[PID_FILE]).write_text("its input has ended")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
