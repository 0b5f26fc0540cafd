"""Checks of the machine and of what is installed on it: nothing here depends on a running daemon."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import sys
from importlib import metadata
from pathlib import Path

from captiond_engine.whisper.graph_store import cache_folder
from packaging.requirements import Requirement

from captiond import __version__
from captiond.admission import SPARE, Admission
from captiond.config import Config, NetworkSource
from captiond.containers import media
from captiond.doctor.finding import Finding, fail, ok, warn

GIB = 2**30
LEAST_MEMORY = 2 * GIB  # demo-en and base.en, with the compiler's own needs at the first start
LEAST_DISK = 1 * GIB  # two compiled graphs of a base model take 0.3 GiB
OTHER_FILES = 128  # open files beside connections: model, logs, sinks, what libraries hold
CGROUP = Path("/sys/fs/cgroup")
NEWEST_PYTHON = (3, 13)  # that the classifiers name


def python(config: Config) -> list[Finding]:
    version = f"captiond {__version__} on Python {platform.python_version()}"
    if sys.version_info[:2] > NEWEST_PYTHON:
        tried = ".".join(map(str, NEWEST_PYTHON))
        return [warn("python", f"{version}, which is newer than what it was tried with.", f"Use {tried}.")]
    return [ok("python", f"{version}.")]


def packages(config: Config) -> list[Finding]:
    """Whether every package that captiond requires is there, in a version that it takes."""
    try:
        wanted = [Requirement(text) for text in metadata.requires("captiond") or []]
    except metadata.PackageNotFoundError:
        return [
            warn("packages", "captiond runs without being installed, so that nothing says what it needs.")
        ]
    faults = []
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    for each in needed:
        try:
            found = metadata.version(each.name)
        except metadata.PackageNotFoundError:
            faults.append(f"{each.name} is missing")
            continue
        if not each.specifier.contains(found, prereleases=True):
            faults.append(f"{each.name} is {found}, not {each.specifier}")
    if faults:
        return [fail("packages", f"{', '.join(faults)}.", "Install captiond again: pip install -U captiond.")]
    return [ok("packages", f"All {len(needed)} are there; MAX {metadata.version('max')}.")]


def extras(config: Config) -> list[Finding]:
    """What is optional, and whether the configuration needs it."""
    if media.installed():
        return [ok("extras", f"PyAV {metadata.version('av')}: opus, webm and network sources can be heard.")]
    text = "PyAV is not installed: opus, webm and network sources cannot be heard."
    if any(isinstance(source, NetworkSource) for source in config.source):
        return [fail("extras", text, media.ADVICE)]
    return [warn("extras", text, media.ADVICE)]


def processor(config: Config) -> list[Finding]:
    cores = usable_cores()
    flags = set(re.findall(r"\w+", next(iter(_lines("/proc/cpuinfo", "flags")), "")))
    vectors = [name for name, flag in (("AVX2", "avx2"), ("AVX-512", "avx512f")) if flag in flags]
    shown = f"{platform.machine()}, {cores:g} core{'s' if cores != 1 else ''}"
    shown += f", {' and '.join(vectors)}" if vectors else ""
    if platform.machine() == "x86_64" and "AVX2" not in vectors:
        return [warn("processor", f"{shown}; without AVX2 captions come late.", "Use a newer machine.")]
    if cores < 2:
        return [warn("processor", f"{shown}; the model and the rest share it.", "Give it two cores or more.")]
    return [ok("processor", f"{shown}.")]


def usable_cores() -> float:
    """Cores that this process may use: its affinity, and the quota of its container."""
    cores = float(len(os.sched_getaffinity(0)))
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()
        return min(cores, round(int(quota) / int(period), 2))
    except (OSError, ValueError):  # "max": no quota
        return cores


def memory(config: Config) -> list[Finding]:
    found = next(iter(_lines("/proc/meminfo", "MemAvailable")), "")
    free = int(re.sub(r"\D", "", found) or 0) * 1024
    try:
        limit = int((CGROUP / "memory.max").read_text())
        free = min(free, limit - int((CGROUP / "memory.current").read_text()))
    except (OSError, ValueError):  # no container, or "max"
        pass
    if not free:
        return [warn("memory", "This system does not say how much memory is free.")]
    text = f"{free / GIB:.1f} GiB can be had"
    if free < LEAST_MEMORY:
        return [warn("memory", f"{text}; compiling a model may fail.", "Close something, or add memory.")]
    return [ok("memory", f"{text}.")]


def open_files(config: Config) -> list[Finding]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = Admission(config.limits).most + SPARE + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        text = f"{soft} may be open at once; with all connections that [limits] allows it takes {needed}."
        return [warn("open files", text, "Raise it with ulimit -n, or LimitNOFILE= of a service.")]
    return [ok("open files", f"{soft} may be open at once.")]


def disk(config: Config) -> list[Finding]:
    """Space where compiled graphs are kept."""
    folder = nearest(cache_folder())
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        return [warn("disk", f"{folder} cannot be looked at ({error.strerror}).")]
    text = f"{free / GIB:.1f} GiB free for compiled graphs in {cache_folder()}"
    if free < LEAST_DISK:
        return [warn("disk", f"{text}.", "Make room, or set CAPTIOND_CACHE_DIR to another disk.")]
    return [ok("disk", f"{text}.")]


def nearest(path: Path) -> Path:
    """``path``, or the nearest folder above it that is there."""
    return next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())


def _lines(path: str, begin: str) -> list[str]:
    try:
        lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line for line in lines if line.startswith(begin)]
