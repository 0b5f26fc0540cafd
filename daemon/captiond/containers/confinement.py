"""What a decoding child gives up, for good, before it sees the first byte of a stranger.

Takes: what the child is for. Gives: the names of what is now in force, which differs from kernel to kernel.
Limits and the process's own switches are always there; seccomp and Landlock where the kernel has them.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress

from captiond.containers.landlock import confine_paths
from captiond.containers.syscalls import filter_calls

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_NO_NEW_PRIVS = 1, 4, 38
NOBODY = 65_534

MEMORY_BYTES = 256 << 20  # beyond what PyAV's libraries take by themselves
FILE_MEMORY_BYTES = 512 << 20  # an MP4's tables of a day's audio are some 100 MB
CPU_S = 24 * 3_600  # a second net: a child that spins is ended by the daemon's deadline long before
DESCRIPTORS = 16
NETWORK_DESCRIPTORS = 64
# What name resolution and the check of certificates read. Other places of /etc stay shut.
NETWORK_PATHS = (
    *("/etc/resolv.conf", "/etc/hosts", "/etc/host.conf", "/etc/nsswitch.conf", "/etc/gai.conf"),
    *("/etc/services", "/etc/protocols", "/etc/ld.so.cache", "/run/systemd/resolve", "/run/resolvconf"),
    *("/run/NetworkManager", "/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ssl", "/etc/pki"),
    *("/etc/ca-certificates", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates"),
)


def confine(parent: int, *, network: bool, file: bool) -> list[str]:
    """Give everything up that decoding does not need; the names of what confines this process now.

    ``parent``: the process that started this one, and with which it ends. ``file``: it reads one long file.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    memory = _address_space() + (FILE_MEMORY_BYTES if file else MEMORY_BYTES)
    readable = _readable() if network else []
    _be_the_first_to_go()
    enforced = ["rlimits", "no_new_privs"]
    if os.geteuid() == 0 and _become_nobody():
        enforced.append("nobody")
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # it went away before it could be watched
    _limit(memory, NETWORK_DESCRIPTORS if network else DESCRIPTORS)
    abi = confine_paths(readable, network=network)
    if abi:
        enforced.append(f"landlock {abi}")
    if filter_calls(network=network):
        enforced.append("seccomp")
    return enforced


def _be_the_first_to_go() -> None:
    """Where the machine's memory runs out, a decoder ends and not the daemon."""
    with suppress(OSError), open("/proc/self/oom_score_adj", "wb") as file:  # noqa: PTH123
        file.write(b"500")


def _become_nobody() -> bool:
    """A daemon that runs as root does not decode as root; False where there is no such user to become."""
    with suppress(OSError):
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        return True
    return False


def _limit(memory: int, descriptors: int) -> None:
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, CPU_S),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, descriptors),
    ):
        hard = resource.getrlimit(what)[1]
        bound = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (bound, bound))


def _address_space() -> int:
    """Bytes of address space that this process has now."""
    with open("/proc/self/statm", "rb") as file:  # noqa: PTH123 (pathlib is not loaded)
        return int(file.read().split()[0]) * resource.getpagesize()


def _readable() -> list[str]:
    import ssl  # here, as most children need none

    certificates = ssl.get_default_verify_paths()
    return [*NETWORK_PATHS, *(path for path in (certificates.cafile, certificates.capath) if path)]
