"""``python -m tests.contract.record``: write down anew what the daemon says in every conversation."""

from __future__ import annotations

from pathlib import Path

from tests.contract.conversation import play, read, write
from tests.sim.clock import run_jumping


def main() -> None:
    for path in sorted(Path(__file__).parent.glob("*.jsonl")):
        path.write_text(write(run_jumping(play(read(path.read_text(encoding="utf-8"))))), encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
