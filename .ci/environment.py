#!/usr/bin/env python3
"""Makes captiond's environment in .venv, with the extras named as arguments (``environment.py demo``).

Takes the checkout's pyproject.toml and the user's own pip configuration; sets no index of its own. A stamp
in .venv says what was installed from which pyproject.toml, so that a second call does nothing. Asks nothing;
where something is missing it says what to do and exits with 1. Standard library only, and readable by old
Pythons, so that these too get a message instead of a syntax error.
"""

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = str(VENV / "bin" / "python")
STAMP = VENV / "captiond-stamp.json"
# Where .venv is active, python3 is .venv's own: what counts, and can make it anew, is the Python behind it.
PYTHON = getattr(sys, "_base_executable", None) or sys.executable
OLDEST_PYTHON = (3, 11)
NEWEST_PYTHON = (3, 14)  # what MAX 26.7 has wheels for
OLDEST_GLIBC = (2, 34)  # MAX's wheels are manylinux_2_34
MACHINES = ("x86_64", "aarch64")
FREE_GIB = 3  # MAX unpacks to 0.7 GB; graphs, caches and the other packages want their share
TORCH = "2.13.0"  # the parity tests' reference; its default build on x86 brings gigabytes of CUDA along
TORCH_EXTRAS = {"parity", "bench"}
NEWS_EVERY_S = 20
LARGE_MB = 20
NETWORK_WORDS = (
    "NewConnectionError",
    "name resolution",
    "ConnectTimeout",
    "Network is unreachable",
    "ProxyError",
)


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop(problem, advice):
    say("captiond: " + problem)
    for line in advice.splitlines():
        say("  " + line)
    sys.exit(1)


def apt(packages):
    """The command that installs Debian packages, for the person who is reading."""
    return ("" if os.geteuid() == 0 else "sudo ") + "apt install " + packages


# --- is this machine one that captiond runs on? ---------------------------------------------------


def check_python():
    """Starts itself again with a newer Python where the one it was given is too old (or too new)."""
    if OLDEST_PYTHON <= sys.version_info[:2] <= NEWEST_PYTHON:
        return
    for minor in range(NEWEST_PYTHON[1], OLDEST_PYTHON[1] - 1, -1):
        found = shutil.which(f"python3.{minor}")
        if found and not os.environ.get("CAPTIOND_PYTHON_TRIED"):
            os.environ["CAPTIOND_PYTHON_TRIED"] = "1"
            os.execv(found, [found, *sys.argv])
    wanted = ".".join(map(str, OLDEST_PYTHON)) + " to " + ".".join(map(str, NEWEST_PYTHON))
    stop(
        f"Python {wanted} is needed; this is {platform.python_version()} ({sys.executable}).",
        "Debian 12 and Ubuntu 24.04 have one: " + apt("python3 python3-venv") + "\n"
        "Another Python is named with: make PYTHON=/path/to/python3.11 ...",
    )


def check_machine():
    machine = platform.machine()
    if sys.platform != "linux" or machine not in MACHINES or sys.maxsize < 2**32:
        bits = "64-bit" if sys.maxsize > 2**32 else "32-bit"
        stop(
            f"captiond runs on 64-bit Linux on x86 or ARM; this is {bits} {platform.system()} on {machine}.",
            "MAX, which runs the speech model, has builds for x86_64 and aarch64 Linux only.",
        )
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    found = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    if name != "glibc" or found < OLDEST_GLIBC:
        stop(
            f"glibc {'.'.join(map(str, OLDEST_GLIBC))} or newer is needed; this system has "
            f"{f'{name} {version}'.strip() or 'another C library'}.",
            "MAX is built for it. Debian 12, Ubuntu 22.04, Fedora 35 and newer have it; a container will do.",
        )


def check_room():
    free = shutil.disk_usage(ROOT).free / 2**30
    if free < FREE_GIB and not read_stamp().get("key"):
        stop(
            f"{free:.1f} GiB are free in {ROOT}; the environment wants {FREE_GIB}.",
            "Make room there, or clone captiond to a larger disk.",
        )


# --- the virtual environment -----------------------------------------------------------------------


def works(command):
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def pip_command():
    """The environment's own pip, or the system's pip working on the environment."""
    own = [VENV_PYTHON, "-m", "pip"]
    return own if works([*own, "--version"]) else [PYTHON, "-m", "pip", "--python", VENV_PYTHON]


def make_venv():
    if read_stamp().get("home") == home() and works([VENV_PYTHON, "-c", "pass"]):
        return
    if VENV.exists():
        say("Removing .venv: it was made by another Python or for another place")
        shutil.rmtree(VENV)
    say(f"Making .venv with Python {platform.python_version()}")
    has_venv = importlib.util.find_spec("venv") is not None
    options = None
    if has_venv and importlib.util.find_spec("ensurepip") is not None:
        options = []
    elif has_venv and works([PYTHON, "-m", "pip", "--python", PYTHON, "--version"]):
        options = ["--without-pip"]  # Debian without python3-venv, but with python3-pip
    if options is None or not works([PYTHON, "-m", "venv", *options, VENV]):
        shutil.rmtree(VENV, ignore_errors=True)
        advice = "Python's venv and ensurepip modules belong to every build of Python but Debian's."
        if Path("/etc/debian_version").exists():
            advice = f"Debian keeps them in a package of their own: {apt('python3-venv')}"
        stop(
            f"{PYTHON} cannot make a virtual environment.",
            advice + "\nThen give the same command again.",
        )
    write_stamp("", set())


def lock():
    """Two calls at once would spoil the environment: the second waits for the first."""
    handle = os.open(ROOT / "pyproject.toml", os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("Another make is at work on .venv; waiting for it")
        fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


# --- what is in it ---------------------------------------------------------------------------------


def key():
    """Changes when what would be installed changes: the project's file, or this script."""
    digest = hashlib.sha256()
    for path in (ROOT / "pyproject.toml", Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def home():
    """An environment does not survive a move, nor another Python: its scripts hold both paths."""
    return f"{ROOT} {os.path.realpath(PYTHON)} {platform.python_version()}"


def read_stamp():
    try:
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def write_stamp(installed, extras):
    stamp = {"key": installed, "extras": sorted(extras), "home": home()}
    STAMP.write_text(json.dumps(stamp), encoding="utf-8")


class Progress:
    """One line, written over, on a terminal; elsewhere a line for each large download, and now and then."""

    def __init__(self):
        self.started = self.told = time.monotonic()
        self.packages = 0
        self.live = sys.stderr.isatty()

    def show(self, line):
        text = line.strip()
        if text.startswith("Collecting "):
            self.packages += 1
            news = "looking up " + text.split()[1]
        elif text.startswith(("Downloading ", "Using cached ")):
            news = text[0].lower() + text[1:].replace(".metadata", "").split("?")[0]
        elif text.startswith("Installing collected packages"):
            news = f"unpacking {text.count(',') + 1} packages"
        elif text.startswith("Building"):
            news = "building captiond"
        else:
            return
        now = time.monotonic()
        size_mb = re.search(r"\((\d+(\.\d+)?) MB\)", news)
        large_news = size_mb is not None and float(size_mb[1]) >= LARGE_MB
        status = f"  [{now - self.started:3.0f} s] {news}"
        if self.live:
            sys.stderr.write("\r\x1b[K" + status[: shutil.get_terminal_size().columns - 1])
            sys.stderr.flush()
        elif large_news or news.startswith("unpack") or now - self.told >= NEWS_EVERY_S:
            self.told = now
            say(status)

    def end(self):
        if self.live:
            sys.stderr.write("\r\x1b[K")


def pip_install(*arguments):
    """Runs pip with its output shortened to progress. Returns (succeeded, pip's last lines)."""
    command = [*pip_command(), "install", "--no-input", "--progress-bar", "off", *arguments]
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_ROOT_USER_ACTION="ignore")
    tail = []
    progress = Progress()
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as pip:
        for line in pip.stdout:
            tail = [*tail[-40:], line.rstrip()]
            progress.show(line)
    progress.end()
    return pip.returncode == 0, tail


def explain_pip(tail):
    """pip's own last words, then what a person can do."""
    for line in tail[-12:]:
        say("    " + line)
    text = "\n".join(tail)
    if any(word in text for word in NETWORK_WORDS):
        stop(
            "the Python package index cannot be reached.",
            "Behind a proxy: export https_proxy=http://proxy:port\n"
            "With a mirror:  pip config set global.index-url ADDRESS\n"
            "Offline: on a like machine `pip download -d wheels .[dev] hatchling editables`, bring it,\n"
            "         then PIP_NO_INDEX=1 PIP_FIND_LINKS=wheels make ...",
        )
    if "No space left" in text:
        stop("the disk is full.", f"Make room (about {FREE_GIB} GiB) and give the same command again.")
    if "No matching distribution" in text:
        stop(
            "your package index lacks a package or a build of it for this machine (see above).",
            "captiond needs PyPI or a full mirror of it; `pip config list` shows which index is in use.",
        )
    stop("pip failed (its last words are above).", "`make clean` removes .venv for a fresh start.")


def install_torch():
    """torch on its own and first, as a CPU build where the user's indexes have one."""
    if works([VENV_PYTHON, "-c", f"import torch; assert torch.__version__.startswith('{TORCH}')"]):
        return
    say(f"Installing torch {TORCH}, the reference of the parity tests")
    done, _ = pip_install(f"torch=={TORCH}+cpu")
    if done:
        return
    if platform.machine() == "x86_64":
        say("  Your package indexes have no CPU build of torch; the default one brings gigabytes of CUDA.")
        say("  To avoid that, add PyTorch's index of CPU builds to your pip configuration (extra-index-url).")
    done, tail = pip_install("torch==" + TORCH)
    if not done:
        explain_pip(tail)


def install(extras):
    if extras & TORCH_EXTRAS:
        install_torch()
    say(f"Installing captiond with its extras: {', '.join(sorted(extras))}")
    started = time.monotonic()
    done, tail = pip_install("--editable", f".[{','.join(sorted(extras))}]")
    if not done:
        explain_pip(tail)
    write_stamp(key(), extras)
    say(f"Installed in {time.monotonic() - started:.0f} s")


def main(arguments):
    wanted = {extra for argument in arguments for extra in argument.split(",") if extra}
    check_python()
    check_machine()
    check_room()
    handle = lock()
    make_venv()
    stamp = read_stamp()
    present = set(stamp.get("extras", ()))
    if stamp.get("key") != key() or not wanted <= present:
        install(wanted | present)
    os.close(handle)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
