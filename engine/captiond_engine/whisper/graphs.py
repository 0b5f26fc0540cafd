"""The kinds of graphs that a model is made of, and how each becomes one that can be executed.

From the store where it is there, else from the graphs that came with captiond, else compiled. A graph's key
names everything that its compiled form depends on: the graph's text with the sources of our kernels, the
machine and the version of MAX. Weights are not part of it.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from max.driver import Buffer, Device
from max.dtype import DType
from max.engine import InferenceSession, Model
from max.engine.api import read
from max.graph import DeviceRef, Graph

from captiond_engine.models import BUNDLED
from captiond_engine.progress import Progress, ProgressEvent
from captiond_engine.types import Float32Array, Precision
from captiond_engine.whisper import cpu, decoder, encoder, row_decoder, row_encoder, step_decoder
from captiond_engine.whisper.compile_apart import compile_apart
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.graph_store import Facts, GraphStore, read_shipped, shipped_facts
from captiond_engine.whisper.kernels import Kernels, kernel_source
from captiond_engine.whisper.layers import WeightBank
from captiond_engine.whisper.packed import PRECISIONS
from captiond_engine.whisper.sketch import sketching, unless_sketched

Build = Callable[[WhisperConfig, dict[str, Float32Array], DeviceRef], tuple[Graph, WeightBank]]


ENCODER_HANDS = 4  # what is shared has many parts: they suit any number of processors up to some dozens


def _kernels(hands: int) -> Kernels:
    described = cpu.processor()
    return Kernels(
        unless_sketched(cpu.lanes(described)), hands, bool(unless_sketched(cpu.has_halves(described)))
    )


def _row_decoder(precision: Precision) -> Build:
    return lambda config, tensors, device: row_decoder.build(config, tensors, precision, _kernels(1))


def _row_encoder(precision: Precision) -> Build:
    kept = row_decoder.kept_type(precision)
    return lambda config, tensors, device: row_encoder.build(
        config, tensors, precision, _kernels(ENCODER_HANDS), kept
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


def machine_of(device: Device) -> str:
    """What a graph for ``device`` is compiled for, as far as it matters."""
    if device.label == "cpu":
        return cpu.processor()
    return f"{device.label} {getattr(device, 'architecture_name', '')}"


def sketch(
    kind: str, config: WhisperConfig, tensors: dict[str, Float32Array], device: Device
) -> tuple[bytes, WeightBank]:
    """A graph as text, the same on every machine, with our kernels' sources if it uses them; its weights."""
    with sketching():
        graph, bank = BUILDERS[kind](config, tensors, DeviceRef.from_device(device))
    text = re.sub(r"_kernel_library_paths = \[[^\]]*\]", "", str(graph))
    return text.encode() + (kernel_source() if "mo.custom" in text else b""), bank


def facts_of(kind: str, config: WhisperConfig, text: bytes, machine: str) -> Facts:
    """What is known of a graph before it is compiled, its key included."""
    known = config.dimensions if kind.startswith("encode") else config.facts
    facts = Facts("", kind, known, machine, version("max"), hashlib.sha256(text).hexdigest())
    key = hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]
    return msgspec.structs.replace(facts, key=key)


def estimate_s(kind: str, config: WhisperConfig) -> float:
    """Rough seconds of a cold compile."""
    fixed, each = _SECONDS[kind]
    return fixed + each * (config.n_audio_layer if kind.startswith("encode") else config.n_text_layer)


class GraphCompiler:
    """Makes executable graphs for one device, compiling only where nothing ready fits.

    ``shipped``: folder of models that may bring graphs; None to have this machine's own ones in any case.
    ``origins``: by kind, where the graph made last is from: "stored", "shipped" or "compiled".
    """

    def __init__(
        self, device: Device, store: GraphStore, progress: Progress, shipped: Path | None = BUNDLED
    ) -> None:
        self.device, self.store, self.progress, self.shipped = device, store, progress, shipped
        self.session = InferenceSession(devices=[device])
        self.origins: dict[str, str] = {}
        self.facts: dict[str, Facts] = {}
        self._refused: set[tuple[str, str]] = set()

    def make(
        self, kind: str, config: WhisperConfig, tensors: dict[str, Float32Array]
    ) -> tuple[Model, WeightBank]:
        """One executable graph and its weights, which must live as long as it does. Raises CompileError."""
        text, bank = sketch(kind, config, tensors, self.device)
        self.facts[kind] = facts = facts_of(kind, config, text, machine_of(self.device))
        registry = {name: self._on_device(array) for name, array in bank.registry.items()}
        for origin, found in self._ready(facts, text):
            model = self._init(origin, facts, found, registry)
            if model is not None:
                return model, bank
        with self.store.turn(facts.key, lambda waited_s: self._wait(kind, config, waited_s)):
            model = self._init("stored", facts, self._stored(facts), registry)  # by somebody else, just now
            return model or self._compile(facts, registry), bank

    def distrust(self, kind: str) -> bool:
        """The graph of ``kind`` made last computes wrong numbers; whether another one may be better."""
        if self.origins[kind] == "stored":
            self.store.forget(self.facts[kind].key)
        self._refused.add((kind, self.origins[kind]))
        return self.origins[kind] != "compiled"

    def _stored(self, facts: Facts) -> memoryview | None:
        """A graph that was wrong is not read again, even where it could not be removed."""
        return None if (facts.kind, "stored") in self._refused else self.store.load(facts.key)

    def _ready(self, facts: Facts, text: bytes) -> Iterator[tuple[str, memoryview | None]]:
        """Artifacts that need no compiler, in the order in which they are tried."""
        yield "stored", self._stored(facts)
        if self.shipped is None or self.device.label != "cpu" or (facts.kind, "shipped") in self._refused:
            return
        for target in cpu.TARGETS:
            if target.has(cpu.this_processor()):
                key = facts_of(facts.kind, WhisperConfig(**facts.config), text, target.description).key
                for model in sorted(self.shipped.iterdir()):
                    yield "shipped", read_shipped(shipped_path(model, target, facts.kind), key)

    def _init(
        self, origin: str, facts: Facts, artifact: memoryview | None, registry: dict[str, Any]
    ) -> Model | None:
        """The graph with its weights, or None where there is none or it is something else."""
        if artifact is None:
            return None
        try:
            model = self.session.init(read(io.BytesIO(artifact)), weights_registry=registry)
        except (ValueError, RuntimeError):  # a whole file, but not of this graph, or none of MAX
            if origin == "stored":
                self.store.forget(facts.key)
            return None
        self.origins[facts.kind] = origin
        return model

    def _on_device(self, array: np.ndarray[Any, Any] | Buffer) -> np.ndarray[Any, Any] | Buffer:
        """A weight where the graph wants it: MAX refuses one of the host for a graph of a GPU."""
        if self.device.is_host:
            return array
        return (array if isinstance(array, Buffer) else Buffer.from_numpy(array)).to(self.device)

    def _compile(self, facts: Facts, registry: dict[str, Any]) -> Model:
        config = WhisperConfig(**facts.config)
        expected_s = estimate_s(facts.kind, config)
        began = time.monotonic()
        name = f"the {_coder(facts.kind)} graph"
        with telling(self.progress, f"compiling {name} for this machine, once", expected_s):
            artifact = compile_apart(facts.kind, config, self.store, on_gpu=self.device.label != "cpu")
        took_s = time.monotonic() - began
        self.facts[facts.kind] = kept = msgspec.structs.replace(facts, took_s=round(took_s, 1))
        self.store.save(kept, artifact)
        self.progress(ProgressEvent("compile", f"compiled {name} in {took_s:.0f} s", 1.0, expected_s))
        self.origins[facts.kind] = "compiled"
        return self.session.init(read(io.BytesIO(artifact)), weights_registry=registry)

    def _wait(self, kind: str, config: WhisperConfig, waited_s: float) -> None:
        expected_s = estimate_s(kind, config)
        message = f"waiting for another captiond that compiles the {_coder(kind)} graph"
        share = min(0.99, (1 + waited_s) / expected_s)
        self.progress(ProgressEvent("compile", message, share, expected_s))


def origin_of(kind: str, config: WhisperConfig, device: Device, store: GraphStore) -> str:
    """How a start will have a graph, as far as can be told without weights: as ``GraphCompiler.origins``."""
    wanted = facts_of(kind, config, b"", machine_of(device))
    if store.has(wanted):
        return "stored"
    if device.label == "cpu":
        for target in cpu.TARGETS:
            like = msgspec.structs.replace(wanted, machine=target.description)
            found = [shipped_facts(shipped_path(model, target, kind)) for model in BUNDLED.iterdir()]
            if target.has(cpu.this_processor()) and any(facts and facts.is_like(like) for facts in found):
                return "shipped"
    return "compiled"


def shipped_path(model: Path, target: cpu.Target, kind: str) -> Path:
    """Where a graph that comes with a model lies in its folder."""
    return model / "graphs" / target.name / f"{kind}.graph.xz"


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
