"""Compiles one graph in a process of its own, and gives its bytes.

Apart, because a compiler takes a gigabyte that a daemon would never give back, cannot be interrupted, and
knows one target for the whole process; and with a cache of its own, because MAX 26.7 copies whole objects of
earlier graphs out of a shared one into a new graph. Weights are not needed: a graph knows only their shapes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

import captiond_engine
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.cpu import TARGETS, Target, pretend
from captiond_engine.whisper.graph_store import GraphStore, work_folder
from captiond_engine.whisper.weights import expected_shapes

LEAST_BYTES = 384 << 20  # what MAX writes: 62 MB for demo-en's encoder, more for larger ones
_NAME = "captiond_engine.whisper.compile_apart"


class CompileError(RuntimeError):
    """A graph did not compile; the message is the compiler's last word."""


class Request(msgspec.Struct, frozen=True):
    """What to compile: for the GPU or this CPU, or for a class of CPUs by its name."""

    kind: str
    config: dict[str, Any]
    on_gpu: bool
    into: str
    target: str | None = None


def compile_apart(
    kind: str, config: WhisperConfig, store: GraphStore, *, on_gpu: bool = False, target: Target | None = None
) -> bytes:
    """The exported graph. Blocks for a minute or two. Raises CompileError."""
    try:
        folder = work_folder(store, LEAST_BYTES)
    except OSError as error:
        raise CompileError(f"{error}") from error
    try:
        into = folder / "graph.mef"
        request = Request(kind, config.facts, on_gpu, str(into), target.name if target else None)
        _run(request, folder)
        return into.read_bytes()
    except OSError as error:
        raise CompileError(f"the compiler could not be run: {error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(request: Request, folder: Path) -> None:
    """The child, and what it has to say where it fails. It ends with us, as its standard input then does."""
    ours = str(Path(str(captiond_engine.__file__)).parents[1])
    paths = os.pathsep.join([ours, *filter(None, [os.environ.get("PYTHONPATH")])])
    settings = {"PYTHONPATH": paths, "MODULAR_CACHE_DIR": str(folder / "cache"), "TMPDIR": str(folder)}
    with subprocess.Popen(
        [sys.executable, "-m", _NAME],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, **settings},
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        try:
            child.stdin.write(msgspec.json.encode(request) + b"\n")
            child.stdin.flush()
            said = child.stderr.read().decode(errors="replace")
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise CompileError(_last_word(said, child.returncode))


def _last_word(said: str, code: int) -> str:
    """The line that says most: the compiler's error, else the exception, else how the process ended."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "error:" in line.lower()]
    if code < 0:
        return f"the compiler was ended by signal {-code} (9: is there enough memory?)"
    return (errors or lines or [f"the compiler ended with {code}"])[-1]


def main() -> None:
    """The child: a request on standard input, a graph in a file."""
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=Request)
    folder = Path(request.into).parent
    threading.Thread(target=_end_with_parent, args=(folder,), daemon=True).start()
    _compile(request)
    os._exit(0)  # nothing is left to be done, and MAX takes a second to take leave


def _end_with_parent(folder: Path) -> None:
    """Whoever was to remove ``folder`` is gone, or waits for us no more."""
    sys.stdin.buffer.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _compile(request: Request) -> None:
    from max.driver import CPU, Accelerator, set_virtual_cpu_target
    from max.engine import InferenceSession
    from max.graph import DeviceRef

    from captiond_engine.whisper.graphs import BUILDERS

    for target in TARGETS:
        if target.name == request.target:
            set_virtual_cpu_target(target.name)
            pretend(target)
    config = WhisperConfig(**request.config)
    device = Accelerator() if request.on_gpu else CPU()
    zero = np.zeros((), np.float32)
    tensors = {name: np.broadcast_to(zero, shape) for name, shape in expected_shapes(config).items()}
    graph, _ = BUILDERS[request.kind](config, tensors, DeviceRef.from_device(device))
    InferenceSession(devices=[device]).compile(graph).export_mef(request.into)


if __name__ == "__main__":
    main()
