"""Where the time goes, part by part, beside what arithmetic and memory would allow.

Work is counted from dimensions: a product of m, k and n is 2 m k n operations; a step reads all decoder
weights once, and of each row what it hears and what it said. Peaks are NVIDIA's for the H200 SXM: 989 TFLOP/s
in bfloat16, dense, and 4.8 TB/s (its data sheet).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from captiond_engine.types import Precision
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.step_passes import HEARD_STEP, TEXT_STEP
from captiond_engine.whisper.step_state import rounded_up

from engine.bench.gpu.cases import mels
from engine.bench.gpu.running import NEW_TOKENS, Lab, median_ms, wait

PEAK_FLOPS, PEAK_BYTES_S = 989e12, 4.8e12
BYTES = {"float32": 4, "bfloat16": 2}


def encoder_flops(config: WhisperConfig, rows: int) -> float:
    """Of ``rows`` windows of 30 s, the decoder's cross K/V included."""
    hops, places, width = config.max_hops, config.n_audio_ctx, config.n_audio_state
    convolutions = 2 * 3 * (hops * config.n_mels * width + places * width * width)
    layer = 2 * places * 12 * width * width + 2 * 2 * places * places * width
    cross = config.n_text_layer * 2 * 2 * places * width * width
    return float(rows * (convolutions + config.n_audio_layer * layer + cross))


def step_bytes(config: WhisperConfig, rows: int, precision: Precision, context: int, heard: int) -> float:
    """Read and written by one pass of one token a row: weights, logits' table in float32, what is heard, and
    caches, which are read by their places' update, written, and read by attention."""
    each, width, depth = BYTES[precision], config.n_text_state, config.n_text_layer
    weights = depth * 14 * width * width * each + config.n_vocab * width * 4
    cross = rows * depth * 2 * heard * width * each
    caches = rows * depth * 2 * context * width * each * 3
    return float(weights + cross + caches)


def of_size(lab: Lab, size: str, precision: Precision, rows: int, rounds: int) -> dict[str, Any]:
    """Milliseconds of encoder, prompt, step and of copies to the device; shares of the peaks."""
    subject = lab.subject(size, precision)
    config, sound = subject.case.config, mels(subject.case.config, rows)
    encode_ms = median_ms(lambda: subject.encode(sound), rounds)
    found: dict[str, Any] = {"rows": rows, "encode_ms": encode_ms}
    flops = encoder_flops(config, rows)
    found["encode_tflops"] = round(flops / encode_ms / 1e9, 2)
    found["encode_share_of_peak"] = round(flops / (encode_ms / 1000) / PEAK_FLOPS, 4)
    found["mel_to_device_ms"] = median_ms(lambda: _copied(lab, subject, sound), rounds)
    encoding = subject.encode(sound)
    found["loop_of_one_token_ms"] = median_ms(lambda: subject.loop(encoding, 1), rounds)
    found["loop_ms_a_token"] = _slope(median_ms(lambda: subject.loop(encoding), rounds), found, "loop_of_one")
    found["steps_of_one_token_ms"] = median_ms(lambda: subject.step_by_step(encoding, 1), rounds)
    whole = median_ms(lambda: subject.step_by_step(encoding, look_every=NEW_TOKENS), rounds)
    step_ms = found["step_ms"] = _slope(whole, found, "steps_of_one")
    context = rounded_up(len(subject.case.prompt) + NEW_TOKENS, TEXT_STEP, config.n_text_ctx)
    size_bytes = step_bytes(
        config, rows, precision, context, rounded_up(config.n_audio_ctx, HEARD_STEP, config.n_audio_ctx)
    )
    found["step_bytes"] = int(size_bytes)
    found["step_floor_ms"] = round(size_bytes / PEAK_BYTES_S * 1000, 4)
    found["step_share_of_peak"] = round(found["step_floor_ms"] / max(step_ms, 1e-6), 4)
    found["bound"] = _verdict(found)
    found["launches_a_step"] = _launches(lab, subject, encoding)
    return found


def _slope(whole_ms: float, found: dict[str, Any], first: str) -> float:
    """Milliseconds of each token after the first."""
    return round((whole_ms - float(found[f"{first}_token_ms"])) / (NEW_TOKENS - 1), 4)


def _copied(lab: Lab, subject: Any, sound: Any) -> None:
    subject.model._to_device(sound)
    wait(lab.device)


def _verdict(found: dict[str, Any]) -> str:
    encoder = "arithmetic" if found["encode_share_of_peak"] > 0.4 else "neither peak: launches or kernels"
    step = "memory" if found["step_share_of_peak"] > 0.4 else "neither peak: launches, kernels or the host"
    return f"encoder by {encoder}; step by {step}"


def _launches(lab: Lab, subject: Any, encoding: Any) -> Any:
    """Kernels of one pass, the ten most frequent by name; what MAX tells."""
    if lab.device.is_host:
        return None
    try:
        from max.driver import begin_launch_trace, take_launch_trace
    except ImportError:
        try:
            from max._core.driver import begin_launch_trace, take_launch_trace
        except ImportError:
            return "not told by this version of MAX"
    try:
        begin_launch_trace()
        recording, subject.steps.record = subject.steps.record, False
        subject.step_by_step(encoding, 2)
        subject.steps.record = recording
        names = [entry.name for entry in take_launch_trace()]
        counted = {name: names.count(name) for name in set(names)}
        return {"all": len(names), "most": sorted(counted.items(), key=lambda item: -item[1])[:10]}
    except Exception as trouble:
        return f"{type(trouble).__name__}: {trouble}"[:300]


def memory(lab: Lab, size: str, precision: Precision) -> dict[str, Any]:
    """GiB in use on the device, by nvidia-smi and by MAX, with one model and one encoding of a row."""
    import subprocess

    subject = lab.subject(size, precision)
    subject.loop(subject.encode(mels(subject.case.config, 1)), 1)
    found: dict[str, Any] = {
        "weights_gib": round(
            sum(np.size(a) for a in subject.case.tensors.values()) * BYTES[precision] / 2**30, 3
        )
    }
    asked = [
        "nvidia-smi",
        "--query-gpu=memory.used,memory.total,name,driver_version",
        "--format=csv,noheader",
    ]
    try:
        found["nvidia_smi"] = subprocess.run(
            asked, capture_output=True, text=True, timeout=20, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as trouble:
        found["nvidia_smi"] = f"{type(trouble).__name__}"
    try:
        found["max"] = {key: str(value) for key, value in dict(lab.device.stats).items()}
    except Exception as trouble:
        found["max"] = f"{type(trouble).__name__}: {trouble}"[:200]
    return found
