"""``captiond`` and ``python -m captiond``: the command line, and how its errors end the process."""

from __future__ import annotations

import sys

from captiond_engine.errors import CaptiondError

from captiond.cli import main as commands


def main() -> None:
    """Run the command line. An expected error is one line on standard error and its exit code."""
    try:
        commands()
    except CaptiondError as error:
        print(f"captiond: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone; nothing more can be told to them.
        sys.stderr.close()
        sys.exit(1)


if __name__ == "__main__":
    main()
