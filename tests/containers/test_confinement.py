"""What a decoding child can still do: tried from inside, by a process that wants out.

Each layer is also tried alone, as on a kernel that lacks the others.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import captiond
import pytest
from captiond.containers import syscalls

# Tries everything after the confinement that its first argument names; what came of it as JSON.
PROBE = """
import sys
sys.path[:0] = sys.argv[2:3]
import ctypes, encodings.idna, errno, json, mmap, os, socket, ssl, resource
from captiond.containers import confinement, landlock, syscalls

port, secret, parent = int(sys.argv[3]), sys.argv[4], os.getppid()
libc = ctypes.CDLL(None, use_errno=True)
which = sys.argv[1]
network = which.endswith("network")
enforced = []
if which.startswith("whole"):
    enforced = confinement.confine(parent, network=network, file=False)
else:
    libc.prctl(confinement.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if which.startswith("landlock"):
        enforced = [landlock.confine_paths(confinement.NETWORK_PATHS if network else (), network=network)]
    elif which.startswith("seccomp"):
        enforced = [syscalls.filter_calls(network=network)]

NOBODY_S = 2**22  # no process has this number: a call that is let through finds none

def came(action):
    try:
        action()
    except MemoryError:
        return "MemoryError"
    except OSError as error:
        return "ok" if error.errno == errno.ESRCH else errno.errorcode.get(error.errno, str(error.errno))
    return "ok"

def call(number, *arguments):
    def run():
        if libc.syscall(number, *arguments) < 0:
            raise OSError(ctypes.get_errno(), "")
    return run

def fork():
    if os.fork() == 0:
        os._exit(0)

def connect():
    with socket.create_connection(("127.0.0.1", port), 5): pass

def listen():
    with socket.create_server(("127.0.0.1", 0)): pass

def family(number):
    def run():
        socket.socket(number, socket.SOCK_STREAM).close()
    return run

tried = {
    "read a secret": lambda: open(secret, "rb").close(),
    "read /etc/passwd": lambda: open("/etc/passwd", "rb").close(),
    "read /etc/hosts": lambda: open("/etc/hosts", "rb").close(),
    "write a file": lambda: open(secret + ".new", "wb").close(),
    "change a file": lambda: open(secret, "ab").close(),
    "remove a file": lambda: os.unlink(secret + ".old"),
    "list a folder": lambda: os.listdir(os.path.dirname(secret)),
    "connect": connect,
    "listen": listen,
    "unix socket": family(socket.AF_UNIX),
    "fork": fork,
    "execute": lambda: os.execv("/bin/true", ["true"]),
    "signal the parent": lambda: os.kill(parent, 0),
    "trace a process": call({"x86_64": 101, "aarch64": 117}[os.uname().machine], 16, NOBODY_S, 0, 0),
    "much memory": lambda: bytearray(1 << 30),
    "run written code": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "raise a limit": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20)),
    "some memory": lambda: bytearray(16 << 20),
}
out = {name: came(action) for name, action in tried.items() if name != "execute"}
out["enforced"] = enforced
os.write(1, json.dumps(out).encode())
came(tried["execute"])  # /bin/true ends with 0
os._exit(7)
"""
DAEMON = str(Path(captiond.__file__).parents[1])


@pytest.fixture
def secret() -> Iterator[Path]:
    # A daemon that runs as root decodes as nobody, for whom the folder must be as open as for root.
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        for file in (folder / "secret", folder / "secret.old"):
            file.write_text("a token")
            file.chmod(0o666)
        yield folder / "secret"


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield int(server.getsockname()[1])


def probe(which: str, port: int, secret: Path) -> dict[str, object]:
    command = [sys.executable, "-I", "-S", "-c", PROBE, which, DAEMON, str(port), str(secret)]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.stdout, done.stderr.decode()
    result: dict[str, object] = json.loads(done.stdout)
    result["executed"] = done.returncode == 0
    return result


def has(enforced: object, layer: str) -> bool:
    return isinstance(enforced, list) and any(str(name).startswith(layer) for name in enforced)


def test_a_decoder_of_bytes_can_do_nothing_but_decode(port: int, secret: Path) -> None:
    came = probe("whole", port, secret)
    if not has(came["enforced"], "seccomp"):
        pytest.skip(f"needs a kernel with seccomp filters: {came['enforced']}")
    assert came.pop("some memory") == "ok"
    assert came.pop("executed") is False
    del came["enforced"]
    assert [name for name, result in came.items() if result == "ok"] == []
    assert secret.read_text() == "a token"


def test_a_decoder_of_an_address_can_reach_the_network_and_little_else(port: int, secret: Path) -> None:
    came = probe("whole network", port, secret)
    if not (has(came["enforced"], "seccomp") and has(came["enforced"], "landlock")):
        pytest.skip(f"needs a kernel with seccomp filters and Landlock: {came['enforced']}")
    allowed = {"connect", "read /etc/hosts", "some memory", "run written code"}
    ports = int(next(str(name) for name in came["enforced"] if "landlock" in str(name)).split()[1]) >= 4
    if not ports:
        allowed.add("listen")
    assert {name for name, result in came.items() if result == "ok"} == allowed
    assert came["executed"] is False


def test_landlock_alone_shuts_paths_and_ports(port: int, secret: Path) -> None:
    came = probe("landlock", port, secret)
    (abi,) = came["enforced"]
    if not abi:
        pytest.skip("needs a kernel with Landlock")
    for name in ("read a secret", "read /etc/hosts", "write a file", "change a file", "remove a file"):
        assert came[name] == "EACCES", name
    assert came["executed"] is False
    if int(abi) >= 4:
        assert came["connect"] == came["listen"] == "EACCES"
    if int(abi) >= 6:
        assert came["signal the parent"] == "EPERM"


def test_seccomp_alone_leaves_calls_that_compute(port: int, secret: Path) -> None:
    came = probe("seccomp", port, secret)
    if came["enforced"] != [True]:
        pytest.skip("needs a kernel with seccomp filters")
    assert {name for name, result in came.items() if result == "ok"} == {"some memory", "much memory"}
    assert came["read a secret"] == came["connect"] == came["fork"] == "ENOSYS"
    assert came["executed"] is False


def test_without_any_layer_everything_would_go(port: int, secret: Path) -> None:
    """The probe itself: what it calls refused must be possible for a process that is not confined."""
    came = probe("nothing", port, secret)
    assert {name for name, result in came.items() if result != "ok"} == {"enforced", "executed"}
    assert came["executed"] is True


@pytest.mark.parametrize(
    ("header", "column"),
    [("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", 0), ("/usr/include/asm-generic/unistd.h", 1)],
    ids=["x86-64", "arm"],
)
def test_numbers_of_system_calls_are_those_of_the_kernel_s_headers(header: str, column: int) -> None:
    if not Path(header).is_file():
        pytest.skip("needs the kernel's headers: apt-get install linux-libc-dev")
    text = Path(header).read_text()
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text)}
    numbers.setdefault("newfstatat", numbers.get("fstatat", -2))  # its name in the generic table
    ours = {**syscalls.ALWAYS, **syscalls.NETWORK, **syscalls.MAPPING}
    wrong = {
        name: (pair[column], numbers.get(name))
        for name, pair in ours.items()
        if pair[column] not in (syscalls.ABSENT, numbers.get(name))
    }
    assert wrong == {}


def test_the_filter_is_for_this_processor() -> None:
    if platform.machine() not in syscalls.ARCHITECTURES:
        pytest.skip(f"there is no filter for {platform.machine()}")
    if Path("/proc/sys/kernel/seccomp/actions_avail").exists():
        assert "errno" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text()
    assert os.uname().machine in syscalls.ARCHITECTURES


def test_a_decoder_imports_nothing_heavy() -> None:
    """It is started for every speaker with a container; what it does not load it cannot misuse either."""
    script = (
        "import sys; sys.path[:0] = sys.argv[1:]; "
        "import captiond.containers.decode, captiond.containers.web; "
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        pytest.skip("needs PyAV: pip install 'captiond[av]'")
    folders = [DAEMON, str(Path(spec.origin).parents[1])]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script, *folders], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "av" in loaded
    assert not loaded & {"max", "numpy", "asyncio", "captiond_engine", "websockets", "msgspec", "subprocess"}
