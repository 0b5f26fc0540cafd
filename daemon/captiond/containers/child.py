"""One decoding child: started with next to nothing, reached through two sockets, ended and reaped.

Takes: what kind of child is wanted. Gives: a reader and a writer. The same whatever happens meanwhile: no
process and no descriptor is left behind. Knows nothing of what is said.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from captiond_engine.errors import AudioError

from captiond.containers import media

GOODBYE_S = 5.0
KILLED_S = 1.0
# Started without site and with paths of its own: nothing but what the child imports is looked at.
START = (
    "import sys; sys.path[:0] = sys.argv[2:]; "
    "from captiond.containers.decode import main; main(int(sys.argv[1]))"
)
KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH",)  # without which some interpreters do not start
NETWORK_ENVIRONMENT = (
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "no_proxy"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)


@dataclass(frozen=True, slots=True)
class Child:
    process: subprocess.Popen[bytes]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def exit_code(self) -> int | None:
        """How it ended, once it has said its last; None where it lives on for all that."""
        try:
            return await asyncio.to_thread(self.process.wait, GOODBYE_S)
        except subprocess.TimeoutExpired:
            return None


@asynccontextmanager
async def started(*, network: bool, descriptor: int | None) -> AsyncIterator[Child]:
    """A child for as long as the ``with`` lasts; it also gets ``descriptor``, an open file, if there is one.

    Raises AudioError (extra_missing, decoder_failed) where none can be started.
    """
    # Two sockets, as a child that dies with unread bytes must not take its last words with them.
    to_child, stdin = socket.socketpair()
    from_child, stdout = socket.socketpair()
    with to_child, from_child:
        with stdin, stdout:
            process = _start(stdin, stdout, network=network, descriptor=descriptor)
        try:
            with ExitStack() as opened:
                _, writer = await asyncio.open_connection(sock=to_child)
                opened.callback(writer.transport.abort)
                reader, unused = await asyncio.open_connection(sock=from_child)
                opened.callback(unused.transport.abort)
                yield Child(process, reader, writer)
        finally:
            await _end(process)


async def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    try:
        await asyncio.to_thread(process.wait)
    finally:  # whoever is cancelled here still reaps it: a killed process ends within milliseconds
        with suppress(subprocess.TimeoutExpired):
            process.wait(KILLED_S)


def _start(
    stdin: socket.socket, stdout: socket.socket, *, network: bool, descriptor: int | None
) -> subprocess.Popen[bytes]:
    spec = importlib.util.find_spec("av")
    if spec is None or spec.origin is None:
        raise AudioError(
            "This needs PyAV, which is not installed.", advice=media.ADVICE, code="extra_missing"
        )
    folders = dict.fromkeys((str(Path(__file__).parents[2]), str(Path(spec.origin).parents[1])))
    kept = KEPT_ENVIRONMENT + (NETWORK_ENVIRONMENT if network else ())
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", START, str(os.getpid()), *folders],
            stdin=stdin.fileno(),
            stdout=stdout.fileno(),
            stderr=subprocess.DEVNULL,
            env={name: os.environ[name] for name in kept if name in os.environ},
            pass_fds=() if descriptor is None else (descriptor,),
            start_new_session=True,  # Ctrl-C is for the daemon, which ends its children itself
        )
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AudioError(f"No decoder can be started ({reason}).", code="decoder_failed") from None
