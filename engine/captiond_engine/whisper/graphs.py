"""Builds, compiles and stores a model's two graphs, and tells how long that takes.

A compiled graph is kept on disk under a key of everything that it depends on: dimensions, device, MAX
version, processor features and the source of the graph itself. Weights are not part of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.engine.api import read
from max.graph import DeviceRef, Graph

from captiond_engine.progress import Progress, ProgressEvent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import (
    decoder,
    encoder,
    kernels,
    layers,
    packed,
    packed_weights,
    row_decoder,
    row_encoder,
    step_decoder,
)
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.cpu import hands, has_halves, lanes
from captiond_engine.whisper.cpu import processor as _processor
from captiond_engine.whisper.kernels import Kernels
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.packed import PRECISIONS

Build = Callable[[WhisperConfig, dict[str, Float32Array], DeviceRef], tuple[Graph, WeightBank]]


def _row_decoder(precision: Precision) -> Build:
    return lambda config, tensors, device: row_decoder.build(
        config, tensors, precision, Kernels(lanes(_processor()), hands=1)
    )


def _row_encoder(precision: Precision) -> Build:
    kept = row_decoder.kept_type(precision)
    return lambda config, tensors, device: row_encoder.build(
        config, tensors, precision, Kernels(lanes(_processor()), hands(), has_halves(_processor())), kept
    )


# Kinds of graphs: encoder and decoder of MAX's own operations, for any device, or of kernels over rows.
ROW_DECODERS: dict[Precision, str] = {precision: f"decode_{precision}" for precision in PRECISIONS}
ROW_ENCODERS: dict[Precision, str] = {precision: f"encode_{precision}" for precision in PRECISIONS}
# The plain ones in the precisions that a GPU has; what it computes them in, it keeps K/V in as well.
PLAIN_TYPES: dict[Precision, DType] = {"float32": DType.float32, "bfloat16": DType.bfloat16}


def plain(kind: str, precision: Precision) -> str:
    """The kind of a plain graph: ``encode``, ``decode``, ``step`` or ``listen``, in ``precision``."""
    return kind if precision == "float32" else f"{kind}_plain_{precision}"


def _plain(build: Callable[..., tuple[Graph, WeightBank]], kept: DType) -> Build:
    return lambda config, tensors, device: build(config, tensors, device, kept)


PLAIN_BUILDS = {
    "encode": encoder.build,
    "decode": decoder.build,
    "step": step_decoder.build,
    "listen": step_decoder.build_listen,
}
BUILDERS: dict[str, Build] = {
    **{
        plain(kind, precision): _plain(build, kept)
        for kind, build in PLAIN_BUILDS.items()
        for precision, kept in PLAIN_TYPES.items()
    },
    **{kind: _row_decoder(precision) for precision, kind in ROW_DECODERS.items()},
    **{kind: _row_encoder(precision) for precision, kind in ROW_ENCODERS.items()},
}

# Seconds on two AVX-512 cores, cold: a fixed part and one for each layer (measured 2026-11).
_SECONDS = {
    **{plain("encode", precision): (45.0, 5.5) for precision in PLAIN_TYPES},
    **dict.fromkeys(ROW_ENCODERS.values(), (30.0, 2.0)),
    **{plain("decode", precision): (90.0, 6.0) for precision in PLAIN_TYPES},
    **{plain("step", precision): (60.0, 4.0) for precision in PLAIN_TYPES},
    **{plain("listen", precision): (15.0, 0.0) for precision in PLAIN_TYPES},
    **dict.fromkeys(ROW_DECODERS.values(), (24.0, 2.0)),
}


def cache_folder() -> Path:
    """``$CAPTIOND_CACHE_DIR``, else ``$XDG_CACHE_HOME/captiond``, else ``~/.cache/captiond``."""
    if chosen := os.environ.get("CAPTIOND_CACHE_DIR"):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "captiond"


def graph_key(kind: str, config: WhisperConfig, device: Device) -> str:
    """Hexadecimal name of a stored graph; changes with anything that the compiled form depends on."""
    by_rows = kind in {*ROW_DECODERS.values(), *ROW_ENCODERS.values()}
    own = (row_decoder, row_encoder, kernels, packed, packed_weights)
    steps = (step_decoder,) if kind.startswith(("step", "listen")) else ()
    modules = (layers, encoder, decoder, *(own if by_rows else ()), *steps)
    source = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    if by_rows:
        source += kernels.kernel_source()
    parts = {
        "kind": kind,
        "config": asdict(config),
        "device": str(device.label),
        "architecture": str(getattr(device, "architecture_name", ""))
        if device.label != "cpu"
        else _processor(),
        "max": version("max"),
        "source": hashlib.sha256(source).hexdigest(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


class GraphStore:
    """Compiled graphs on disk. A file that cannot be read is the same as none."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or cache_folder() / "graphs"

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.mef"

    def load(self, key: str) -> Any | None:
        """The compiled graph of ``key``, or None."""
        path, digest = self._path(key), self._path(key).with_suffix(".sha256")
        try:
            if hashlib.sha256(path.read_bytes()).hexdigest() != digest.read_text(encoding="ascii"):
                raise ValueError("the file is not the one that was stored")
            return read(path)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, RuntimeError):  # RuntimeError is what MAX raises for a foreign file
            self.forget(key)
            return None

    def save(self, key: str, compiled: Any) -> None:
        """Keep ``compiled``; a disk that refuses costs the next start its time, nothing else."""
        temporary = self.folder / f".{key}.{os.getpid()}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            compiled.export_mef(temporary)
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            temporary.replace(self._path(key))
            self._path(key).with_suffix(".sha256").write_text(digest, encoding="ascii")
        except (OSError, ValueError, RuntimeError):  # MAX raises ValueError for a disk that refuses
            _remove(temporary)

    def forget(self, key: str) -> None:
        """Remove what is stored under ``key``, where it can be removed."""
        _remove(self._path(key))
        _remove(self._path(key).with_suffix(".sha256"))


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink(missing_ok=True)


def estimate_s(kind: str, config: WhisperConfig) -> float:
    """Rough seconds of a cold compile."""
    fixed, each = _SECONDS[kind]
    return fixed + each * (config.n_audio_layer if kind.startswith("encode") else config.n_text_layer)


class GraphCompiler:
    """Makes executable graphs for one device, from the store where it can."""

    def __init__(self, device: Device, store: GraphStore, progress: Progress) -> None:
        self.device, self.store, self.progress = device, store, progress
        self.session = InferenceSession(devices=[device])
        self.from_store: set[str] = set()

    def make(
        self, kind: str, config: WhisperConfig, tensors: dict[str, Float32Array]
    ) -> tuple[Model, WeightBank]:
        """One executable graph and its weights, which must live as long as it does."""
        graph, bank = BUILDERS[kind](config, tensors, DeviceRef.from_device(self.device))
        key = graph_key(kind, config, self.device)
        registry = {name: self._on_device(array) for name, array in bank.registry.items()}
        compiled = self.store.load(key)
        if compiled is not None:
            try:
                model = self.session.init(compiled, weights_registry=registry)
            except (ValueError, RuntimeError):  # a whole graph, but of something else
                self.store.forget(key)
            else:
                self.from_store.add(kind)
                return model, bank
        self.from_store.discard(kind)
        compiled = self._compile(kind, key, graph, config)
        return self.session.init(compiled, weights_registry=registry), bank

    def _on_device(self, array: np.ndarray[Any, Any] | Buffer) -> np.ndarray[Any, Any] | Buffer:
        """A weight where the graph wants it: MAX refuses one of the host for a graph of a GPU."""
        if self.device.is_host:
            return array
        return (array if isinstance(array, Buffer) else Buffer.from_numpy(array)).to(self.device)

    def _compile(self, kind: str, key: str, graph: Graph, config: WhisperConfig) -> Any:
        expected_s = estimate_s(kind, config)
        began = time.monotonic()
        with telling(self.progress, f"compiling the {_coder(kind)} graph for this machine, once", expected_s):
            compiled = self.session.compile(graph)
        self.store.save(key, compiled)
        took = f"compiled the {_coder(kind)} graph in {time.monotonic() - began:.0f} s"
        self.progress(ProgressEvent("compile", took, 1.0, expected_s))
        return compiled


def _coder(kind: str) -> str:
    return "encoder" if kind.startswith("encode") else "decoder"


@contextmanager
def telling(progress: Progress, message: str, expected_s: float, every_s: float = 5.0) -> Iterator[None]:
    """Tell now and every few seconds how far a step is by the clock; MAX itself does not say."""
    finished = threading.Event()
    began = time.monotonic()

    def tick() -> None:
        while not finished.wait(every_s):
            passed_s = time.monotonic() - began
            share = min(0.99, passed_s / expected_s)
            progress(ProgressEvent("compile", f"{message}: {passed_s:.0f} s so far", share, expected_s))

    progress(ProgressEvent("compile", message, 0.0, expected_s))
    thread = threading.Thread(target=tick, name="captiond-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()
