"""A seccomp filter: the system calls that a decoding child may still make. For x86-64 and 64-bit ARM.

Takes: whether the child needs the network. Gives: a filter in force for good, or False where the kernel or
the processor has none. An allow-list: what is not on it answers ENOSYS, as if the kernel were older, so that
a newer C library falls back instead of dying; a call of another architecture kills. See seccomp(2) and
the kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
ALLOW, REFUSE, KILL = 0x7FFF_0000, 0x0005_0000 | errno.ENOSYS, 0x8000_0000
LOAD, AND, EQUALS, RETURN = 0x20, 0x54, 0x15, 0x06  # BPF_LD|W|ABS, BPF_ALU|AND|K, BPF_JMP|JEQ|K, BPF_RET|K
NUMBER_AT, ARCHITECTURE_AT, ARGUMENTS_AT = 0, 4, 16  # in struct seccomp_data
ARCHITECTURES = {"x86_64": 0xC000_003E, "aarch64": 0xC000_00B7}  # AUDIT_ARCH_*
ABSENT = -1

# name: its numbers on x86-64 and on 64-bit ARM
ALWAYS = {
    **{"read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "close": (3, 57)},
    **{"fstat": (5, 80), "lseek": (8, 62), "munmap": (11, 215), "brk": (12, 214), "mremap": (25, 216)},
    **{"madvise": (28, 233), "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "ioctl": (16, 29)},
    **{"rt_sigreturn": (15, 139), "sigaltstack": (131, 132), "fcntl": (72, 25), "pread64": (17, 67)},
    **{"sched_yield": (24, 124), "sched_getaffinity": (204, 123), "futex": (202, 98), "getpid": (39, 172)},
    **{"gettid": (186, 178), "set_robust_list": (273, 99), "rseq": (334, 293), "membarrier": (324, 283)},
    **{"nanosleep": (35, 101), "clock_nanosleep": (230, 115), "clock_gettime": (228, 113)},
    **{"clock_getres": (229, 114), "gettimeofday": (96, 169), "restart_syscall": (219, 128)},
    **{"poll": (7, ABSENT), "ppoll": (271, 73), "select": (23, ABSENT), "pselect6": (270, 72)},
    **{"getrandom": (318, 278), "getrusage": (98, 165), "sysinfo": (99, 179), "uname": (63, 160)},
    **{"exit": (60, 93), "exit_group": (231, 94)},
}
NETWORK = {
    **{"connect": (42, 203), "sendto": (44, 206), "recvfrom": (45, 207), "sendmsg": (46, 211)},
    **{"recvmsg": (47, 212), "sendmmsg": (307, 269), "recvmmsg": (299, 243), "shutdown": (48, 210)},
    **{"bind": (49, 200), "getsockname": (51, 204), "getpeername": (52, 205), "setsockopt": (54, 208)},
    **{"getsockopt": (55, 209), "stat": (4, ABSENT), "lstat": (6, ABSENT), "newfstatat": (262, 79)},
    **{"statx": (332, 291), "access": (21, ABSENT), "faccessat": (269, 48), "faccessat2": (439, 439)},
    **{"readlink": (89, ABSENT), "readlinkat": (267, 78), "getdents64": (217, 61), "getcwd": (79, 17)},
    **{"getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177)},
}
MAPPING = {"mmap": (9, 222), "mprotect": (10, 226)}
PROT_EXEC = 4
WRITING = os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | os.O_APPEND
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)  # netlink: getaddrinfo asks for our addresses


class Only(NamedTuple):
    """Allow a call where the low half of an argument, masked, is one of ``values``."""

    numbers: tuple[int, int]
    argument: int
    mask: int
    values: tuple[int, ...]


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def filter_calls(*, network: bool) -> bool:
    """Put the filter in force for this thread, for good. False: there is none. PR_SET_NO_NEW_PRIVS first."""
    machine = os.uname().machine
    if machine not in ARCHITECTURES or struct.calcsize("P") != 8:
        return False
    program = _Program()
    lines = _lines(machine, network=network)
    instructions = (_Instruction * len(lines))(*(_Instruction(*line) for line in lines))
    program.length, program.filter = len(lines), instructions
    done: int = ctypes.CDLL(None).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)
    return done == 0


def _lines(machine: str, *, network: bool) -> list[tuple[int, int, int, int]]:
    column = list(ARCHITECTURES).index(machine)
    allowed = {**ALWAYS, **(NETWORK if network else {})}
    lines = [
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (EQUALS, 1, 0, ARCHITECTURES[machine]),
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER_AT),
    ]
    for numbers in allowed.values():
        if numbers[column] != ABSENT:
            lines += [(EQUALS, 0, 1, numbers[column]), (RETURN, 0, 0, ALLOW)]
    for only in _conditions(network=network):
        if only.numbers[column] == ABSENT:
            continue
        tests: list[tuple[int, int, int, int]] = []
        for value in only.values:
            tests += [
                (LOAD, 0, 0, ARGUMENTS_AT + 8 * only.argument),
                (AND, 0, 0, only.mask),
                (EQUALS, 0, 1, value),
                (RETURN, 0, 0, ALLOW),
            ]
        lines += [(EQUALS, 0, len(tests) + 1, only.numbers[column]), *tests, (RETURN, 0, 0, REFUSE)]
    return [*lines, (RETURN, 0, 0, REFUSE)]


def _conditions(*, network: bool) -> list[Only]:
    if not network:  # nothing is opened and no code is loaded any more
        return [Only(numbers, 2, PROT_EXEC, (0,)) for numbers in MAPPING.values()]
    # Name resolution loads libraries and reads files; nothing is ever opened for writing.
    return [
        *(Only(numbers, 2, 0, (0,)) for numbers in MAPPING.values()),
        Only((2, ABSENT), 1, WRITING, (0,)),  # open
        Only((257, 56), 2, WRITING, (0,)),  # openat
        Only((41, 198), 0, 0xFFFF_FFFF, FAMILIES),  # socket
    ]
