"""Landlock: which paths and ports a decoding child may still reach. Linux 5.13 or newer.

Takes: the paths that may be read. Gives: rules in force for good, or the ABI version 0 where there is no
Landlock. See landlock(7); the numbers are those of linux/landlock.h and equal on every architecture.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from struct import Struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
ASK_VERSION = 1
PATH_BENEATH = 1
READ_FILE, READ_DIR = 1 << 2, 1 << 3
BIND_TCP, CONNECT_TCP = 1 << 0, 1 << 1
SCOPE_ABSTRACT_SOCKETS, SCOPE_SIGNALS = 1 << 0, 1 << 1
RULESET = Struct("<QQQ")  # handled_access_fs, handled_access_net, scoped
BENEATH = Struct("<Qi")
# What each ABI can rule over; an older kernel refuses bits that it does not know.
FILE_ACCESS_BITS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NETWORK_ABI, SCOPE_ABI, NEWEST_FILE_ABI = 4, 6, 5


def confine_paths(readable: Iterable[str], *, network: bool) -> int:
    """Only ``readable`` paths, and what is beneath them, can still be opened, and only for reading.

    No TCP port can be bound, and without ``network`` none connected to. Gives the ABI version; 0: there is
    no Landlock. PR_SET_NO_NEW_PRIVS comes first.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    abi = max(0, libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ASK_VERSION))
    if not abi:
        return 0
    files = (1 << FILE_ACCESS_BITS[min(abi, NEWEST_FILE_ABI)]) - 1
    ports = (BIND_TCP | (0 if network else CONNECT_TCP)) if abi >= NETWORK_ABI else 0
    scoped = SCOPE_ABSTRACT_SOCKETS | SCOPE_SIGNALS if abi >= SCOPE_ABI else 0
    rules = RULESET.pack(files, ports, scoped)[: 8 if abi < NETWORK_ABI else 16 if abi < SCOPE_ABI else 24]
    ruleset = libc.syscall(CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if ruleset < 0:
        return 0
    for path in readable:
        with suppress(OSError):
            _allow_reading(libc, ruleset, path)
    done = libc.syscall(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return abi if done == 0 else 0


def _allow_reading(libc: ctypes.CDLL, ruleset: int, path: str) -> None:
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        folder = stat.S_ISDIR(os.fstat(place).st_mode)
        access = READ_FILE | READ_DIR if folder else READ_FILE
        libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, BENEATH.pack(access, place), 0)
    finally:
        os.close(place)
