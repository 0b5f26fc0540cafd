"""Compiles the graphs of the bundled model that tests want and that do not come with it, ahead of them.

    nice -n 19 python -m tests.warm

For a machine that has a core to spare while the tests before those run: a graph that is asked for while it is
being compiled is waited for, not compiled twice.
"""

from __future__ import annotations

from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import ROW_DECODERS, ROW_ENCODERS, GraphCompiler
from max._mlir_context import ensure_default_mlir_context
from max.driver import CPU

from tests.parity import models

KINDS = (
    "encode",
    "decode",
    *(kinds[precision] for precision in models.PRECISIONS for kinds in (ROW_ENCODERS, ROW_DECODERS)),
    "step",
    "listen",
)


def main() -> None:
    checkpoint, compiler = models.bundled_checkpoint(), GraphCompiler(CPU(), GraphStore(), models.tell)
    with ensure_default_mlir_context():
        for kind in KINDS:
            compiler.make(kind, checkpoint.config, checkpoint.tensors)


if __name__ == "__main__":
    main()
