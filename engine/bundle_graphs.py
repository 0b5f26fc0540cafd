"""Compiles the graphs that come with captiond: ``python -m engine.bundle_graphs [MODEL]``.

Takes a bundled model, gives a graph for each class of processors (``cpu.TARGETS``) and each part of the model
in float32, compressed, in its folder. Needs a machine with x86-64 and a few minutes for each graph that is
not up to date; weights and other machines have no part in it. Run it when ``test_shipped_graphs`` says so.
"""

from __future__ import annotations

import lzma
import sys
import time

from captiond_engine.models import BUNDLED
from captiond_engine.progress import ProgressEvent
from captiond_engine.whisper.compile_apart import compile_apart
from captiond_engine.whisper.cpu import TARGETS
from captiond_engine.whisper.graph_store import GraphStore, pack, read_shipped
from captiond_engine.whisper.graphs import estimate_s, facts_of, shipped_path, sketch, telling
from captiond_engine.whisper.loading import kinds_of
from captiond_engine.whisper.weights import read_checkpoint
from max.driver import CPU


def tell(event: ProgressEvent) -> None:
    if event.done in (None, 0.0, 1.0):
        print(event.message, file=sys.stderr)


def main(model: str = "demo-en") -> None:
    """Bring all graphs of ``model`` up to date."""
    checkpoint = read_checkpoint(BUNDLED / model)
    config = checkpoint.config
    for kind in kinds_of(CPU(), "float32"):
        text, _ = sketch(kind, config, checkpoint.tensors, CPU())
        for target in TARGETS:
            facts = facts_of(kind, config, text, target.description)
            path = shipped_path(BUNDLED / model, target, kind)
            if read_shipped(path, facts.key) is None:
                began = time.monotonic()
                with telling(tell, f"compiling {kind} for {target.name}", estimate_s(kind, config)):
                    artifact = compile_apart(kind, config, GraphStore(), target=target)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(lzma.compress(pack(facts, artifact), preset=9))
                tell(ProgressEvent("compile", f"took {time.monotonic() - began:.0f} s"))
            print(f"{path.relative_to(BUNDLED)}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(*sys.argv[1:])
