"""Compiles the graphs of a GPU for a virtual one (sm_90: H100, H200), on a machine that has none.

Run: ``python -m engine.bench.compile_sm90 --model demo-en --precision bfloat16 encode step listen decode``.
Takes minutes a graph, and shows that MAX has kernels for all of it; computes nothing.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

from captiond_engine.models import BUNDLED
from captiond_engine.whisper.graphs import BUILDERS, PLAIN_BUILDS, PLAIN_TYPES, plain
from captiond_engine.whisper.weights import read_checkpoint
from max._mlir_context import ensure_default_mlir_context
from max.driver import (
    Accelerator,
    set_virtual_device_api,
    set_virtual_device_count,
    set_virtual_device_target_arch,
)
from max.engine import InferenceSession
from max.graph import DeviceRef


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("graphs", nargs="+", choices=list(PLAIN_BUILDS))
    parser.add_argument("--precision", choices=list(PLAIN_TYPES), default="bfloat16")
    parser.add_argument("--model", default="demo-en", help="a bundled model, whose dimensions are taken")
    parser.add_argument("--architecture", default="sm_90")
    parser.add_argument("--layers", type=int, help="take only so many: all kinds of kernels, in less time")
    options = parser.parse_args()
    set_virtual_device_api("cuda")
    set_virtual_device_target_arch(options.architecture)
    set_virtual_device_count(1)
    device = Accelerator()
    checkpoint = read_checkpoint(BUNDLED / options.model)
    config = checkpoint.config
    if options.layers:
        config = replace(config, n_audio_layer=options.layers, n_text_layer=options.layers)
    failed = False
    with ensure_default_mlir_context():
        session = InferenceSession(devices=[device])
        for name in options.graphs:
            kind, began = plain(name, options.precision), time.monotonic()
            graph, _ = BUILDERS[kind](config, checkpoint.tensors, DeviceRef.from_device(device))
            try:
                session.compile(graph)
                outcome = "compiled"
            except (RuntimeError, ValueError) as error:
                outcome, failed = f"refused: {error}", True
            print(
                f"{kind} for {options.architecture}: {outcome} in {time.monotonic() - began:.0f} s",
                flush=True,
            )
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
