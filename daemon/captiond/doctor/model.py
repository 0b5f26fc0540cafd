"""Checks of what computes: the device, the model's files, its compiled graphs and, when asked, one decode."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
from captiond_engine import models
from captiond_engine.engine import Engine
from captiond_engine.errors import CaptiondError, ModelNotFoundError
from captiond_engine.types import SAMPLE_RATE_HZ
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.folder import weight_files
from captiond_engine.whisper.graph_store import GraphStore
from captiond_engine.whisper.graphs import estimate_s, origin_of
from captiond_engine.whisper.loading import choose_device, kinds_of
from captiond_engine.whisper.safetensors_file import read_safetensors
from captiond_engine.whisper.torch_file import read_torch_file
from captiond_engine.whisper.weights import read_settings

from captiond.config import Config
from captiond.doctor.finding import Finding, failed, ok, warn
from captiond.doctor.machine import nearest
from captiond.loading import load_engine
from captiond.progress import StartDisplay

NVIDIA = Path("/proc/driver/nvidia/version")
MIB = 2**20
CLIP_S = 5.0


def device(config: Config) -> list[Finding]:
    try:
        chosen = choose_device(config.model.device)
    except CaptiondError as error:
        return [failed("device", error)]
    wanted = f"model.device = {config.model.device}"
    if not chosen.is_host:
        return [ok("device", f"GPU ({chosen.label}), as {wanted}.")]
    if NVIDIA.exists() and config.model.device == "auto":
        advice = "Look at nvidia-smi, and whether this user may open /dev/nvidia*."
        return [warn("device", "CPU: there is a driver of NVIDIA, but MAX sees no GPU.", advice)]
    return [ok("device", f"CPU, as {wanted}.")]


def model(config: Config) -> list[Finding]:
    """Whether the model is here and whole; its weights are not read."""
    name = config.model.name
    try:
        path = models.find(name)
        parts = _weights(path)
        models.read_card(path)
    except ModelNotFoundError as error:
        if "pull" in error.advice:  # a known name: `serve` fetches it
            advice = f"Fetch it now with 'captiond models pull {name}', or use --model demo-en."
            return [warn("model", f"{name} is not on this machine; the first start downloads it.", advice)]
        return [failed("model", error)]
    except CaptiondError as error:
        return [failed("model", error)]
    size = sum(part.stat().st_size for part in parts) / MIB
    card = ", with a card" if path.is_dir() and (path / "captiond.json").exists() else ""
    return [ok("model", f"{name}: {size:.0f} MiB of weights in {path}{card}.")]


def _weights(path: Path) -> list[Path]:
    """The files of weights, each of them seen to be whole. Raises ModelError."""
    if not path.is_dir():
        read_torch_file(path)
        return [path]
    dimensions(path)
    found = weight_files(path)
    for file in found:
        (read_torch_file if file.suffix == ".bin" else read_safetensors)(file)
    return found


def dimensions(path: Path) -> WhisperConfig:
    """Of the model at ``path``. Raises ModelError."""
    if path.is_dir():
        return read_settings(path)[0]
    dims = read_torch_file(path)["dims"]
    return WhisperConfig.from_openai(dims if isinstance(dims, dict) else {})


def graphs(config: Config) -> list[Finding]:
    """Whether the next start must compile, and can keep what it has compiled."""
    store = GraphStore()
    try:
        shape = dimensions(models.find(config.model.name))
        chosen = choose_device(config.model.device)
    except CaptiondError:
        return []  # told by the model's or the device's own check
    wanted = kinds_of(chosen, config.model.precision)
    origins = {kind: origin_of(kind, shape, chosen, store) for kind in wanted}
    missing = [kind for kind, origin in origins.items() if origin == "compiled"]
    if missing and not os.access(nearest(store.folder), os.W_OK):
        advice = "Give this user the folder, or another one with CAPTIOND_CACHE_DIR."
        return [warn("graphs", f"{store.folder} cannot be written: every start compiles anew.", advice)]
    if missing:
        minutes = sum(estimate_s(kind, shape) for kind in missing) / 60
        text = f"Not compiled for this machine and MAX yet; the first start takes about {minutes:.0f} min."
        return [warn("graphs", text, f"Compile them now: captiond models compile {config.model.name}")]
    if "shipped" in origins.values():
        return [ok("graphs", "Those that came with captiond; 'captiond models compile' makes its own.")]
    size = sum(facts.size_bytes for _, facts in store.entries()) / MIB
    return [ok("graphs", f"Compiled for this machine and MAX; {size:.0f} MiB in {store.folder}.")]


def inference(config: Config) -> list[Finding]:
    """Load the model as ``serve`` does, and time one decode."""
    with StartDisplay() as display:
        try:
            engine: Engine = load_engine(config, display)
        except CaptiondError as error:
            return [failed("inference", error)]
    try:
        noise = np.random.default_rng(0).standard_normal(round(CLIP_S * SAMPLE_RATE_HZ)) * 0.01
        began = time.monotonic()
        engine.decode_clip(noise.astype(np.float32))
        took_s = time.monotonic() - began
    except CaptiondError as error:
        return [failed("inference", error)]
    finally:
        engine.close()
    text = f"{CLIP_S:g} s of audio took {took_s:.2f} s on {engine.info.get('device', 'this machine')}"
    if took_s > CLIP_S / 2:
        return [warn("inference", f"{text}; captions will fall behind.", "Use a smaller model, or a GPU.")]
    return [ok("inference", f"{text}.")]
