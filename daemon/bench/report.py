"""Figures of a run by group, as one JSON object and as a table for people.

Takes recordings and offline texts; gives plain dictionaries. WER is taken after Whisper's English normalizer.
"""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from whisper_normalizer.english import EnglishTextNormalizer

from daemon.bench import metrics
from daemon.bench.cuts import torn_sentences
from daemon.bench.feeding import Recording
from daemon.bench.timeline import Timeline, read_timeline

Figures = dict[str, Any]
COUNTS = ("segments", "finals", "suppressed", "ended_by_silence", "cut_early", "sentences_torn", "too_long")
PACKAGES = ("captiond", "max", "numpy", "websockets", "webrtcvad-wheels", "jiwer", "whisper-normalizer")
LATENCIES = {
    "first_partial": "first partial",
    "word_tentative": "word, tentative",
    "word_committed": "word, committed",
    "laal": "LAAL, committed",
    "finalization": "finalization",
    "endpoint_delay": "  endpoint delay",
    "compute_finalization": "  compute finalization",
}

_normalise = EnglishTextNormalizer()


def group_figures(recordings: Sequence[Recording], offline: Mapping[Path, str]) -> dict[str, Figures]:
    """By group in the order in which groups first appear, speech and non-speech clips apart."""
    groups: dict[str, list[Recording]] = {}
    for recording in recordings:
        clip = recording.clip
        name = clip.group if clip.is_speech else f"{clip.group} (no speech)"
        groups.setdefault(name, []).append(recording)
    return {
        name: (speech_figures if own[0].clip.is_speech else silence_figures)(own, offline)
        for name, own in groups.items()
    }


def speech_figures(recordings: Sequence[Recording], offline: Mapping[Path, str]) -> Figures:
    """Latency, stability and WER of clips that hold speech."""
    latencies: dict[str, list[float]] = {name: [] for name in LATENCIES}
    flicker = metrics.Flicker()
    counts = dict.fromkeys(COUNTS, 0)
    server_ms: list[float] = []
    for recording in recordings:
        clip, segments = recording.clip, read_timeline(recording.received).segments
        matches = metrics.match_segments(segments, clip.utterances)
        latencies["first_partial"] += metrics.first_partials(matches)
        latencies["finalization"] += metrics.finalizations(matches)
        latencies["endpoint_delay"] += metrics.endpoint_delays(matches)
        latencies["laal"] += [found for found in map(metrics.lagging, matches) if found is not None]
        latencies["compute_finalization"] += metrics.compute_finalizations(segments)
        if clip.word_ends != "unknown":
            shown, committed = metrics.word_latencies(segments, clip.utterances)
            latencies["word_tentative"] += shown
            latencies["word_committed"] += committed
        for segment in segments:
            flicker.add(metrics.flicker(segment))
            counts["finals"] += segment.final_text is not None
            counts["suppressed"] += segment.suppressed is not None
            counts["ended_by_silence"] += segment.end_reason == "silence"
            counts["too_long"] += segment.end_reason == "max_length"
            if segment.endpoint_to_final_ms is not None:
                server_ms.append(segment.endpoint_to_final_ms / 1000)
        counts["segments"] += len(segments)
        counts["cut_early"] += metrics.cut_early(matches)
        counts["sentences_torn"] += torn_sentences(matches, clip.utterances)
    return {
        **_common(recordings),
        "bounds": sorted({r.clip.bounds for r in recordings}),
        "word_ends": sorted({r.clip.word_ends for r in recordings}),
        "latency_ms": {name: asdict(metrics.summarise(values)) for name, values in latencies.items()},
        "quantiles_ms": {name: metrics.quantiles(values) for name, values in latencies.items()},
        "server_endpoint_to_final_ms": asdict(metrics.summarise(server_ms)),
        "flicker": {
            "upwr_tentative": _ratio(flicker.tentative, flicker.final_words),
            "upwr_tentative_exact": _ratio(flicker.tentative_exact, flicker.final_words),
            "upwr_committed": _ratio(flicker.committed, flicker.final_words),
            "final_words": flicker.final_words,
        },
        "segments": counts,
        "wer": error_rates(recordings, offline),
    }


def silence_figures(recordings: Sequence[Recording], _: Mapping[Path, str]) -> Figures:
    """Ghosts: finals and suppressed segments where nobody spoke. Strict: clips that hold no voices either."""
    strict = [r for r in recordings if not r.clip.voices]
    ghosts = {r.clip.id: _finals(read_timeline(r.received)) for r in recordings}
    hours = sum(r.clip.seconds for r in strict) / 3600
    strict_finals = sum(len(ghosts[r.clip.id]) for r in strict)
    segments = [s for r in strict for s in read_timeline(r.received).segments]
    return {
        **_common(recordings),
        "strict_clips": len(strict),
        "strict_finals": strict_finals,
        "strict_finals_per_hour": round(strict_finals / hours, 2) if hours else None,
        "strict_partials": sum(len(s.displays) for s in segments),
        "strict_segments": len(segments),
        "all_finals": sum(len(texts) for texts in ghosts.values()),
        "texts": {clip: texts for clip, texts in ghosts.items() if texts},
    }


def error_rates(recordings: Sequence[Recording], offline: Mapping[Path, str]) -> dict[str, Figures]:
    """Streaming and offline WER over all clips, by condition and by session; ``delta`` in points.

    ``plain``: without Whisper's normalizer, which makes one word of a string of digits.
    """
    named: dict[str, list[Recording]] = {}
    for recording in recordings:
        clip = recording.clip
        for name in dict.fromkeys(("all", clip.condition, clip.id if clip.is_session else clip.condition)):
            named.setdefault(name, []).append(recording)
    return {
        name: {
            **_rates(own, offline, _normalise),
            "plain": _rates(own, offline, lambda text: " ".join(metrics.plain_words(text))),
        }
        for name, own in named.items()
    }


def _rates(
    recordings: Sequence[Recording], offline: Mapping[Path, str], normalise: Callable[[str], str]
) -> Figures:
    streaming, whole = metrics.WordErrors(), metrics.WordErrors()
    for recording in recordings:
        clip = recording.clip
        reference = normalise(clip.text)
        streaming.add(reference, normalise(" ".join(_finals(read_timeline(recording.received)))))
        if clip.path in offline:
            whole.add(reference, normalise(offline[clip.path]))
    known = streaming.rate is not None and whole.rate is not None
    return {
        "clips": streaming.clips,
        "words": streaming.words,
        "streaming": streaming.rate,
        "offline": whole.rate,
        "delta": round((streaming.rate or 0.0) - (whole.rate or 0.0), 2) if known else None,
    }


def _common(recordings: Sequence[Recording]) -> Figures:
    timelines = [read_timeline(r.received) for r in recordings]
    return {
        "clips": len(recordings),
        "audio_s": round(sum(r.clip.seconds for r in recordings), 1),
        "lost_s": round(sum(t.lost_s for t in timelines), 3),
        "errors": sorted({code for t in timelines for code in t.faults}),
        "latest_frame_late_ms": round(max(r.late_s for r in recordings) * 1000, 1),
    }


def _finals(timeline: Timeline) -> list[str]:
    return [segment.final_text for segment in timeline.segments if segment.final_text is not None]


def _ratio(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


# --- what it ran on ------------------------------------------------------------------------------------


def provenance(root: Path) -> Figures:
    """Commit, machine and versions of this run."""
    return {
        "commit": _git(root, "rev-parse", "--short=12", "HEAD"),
        "changed": bool(_git(root, "status", "--porcelain", "--untracked-files=no")),
        "machine": {
            "cpu": _cpu_name(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **_versions()},
    }


def _versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
