"""TLS: conversations and pages over it, and files that cannot be used."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from captiond.config import ServerConfig
from captiond.listener import load_pair, tls_context
from captiond_engine.engine import Engine
from captiond_engine.errors import ConfigError
from captiond_engine.progress import Progress
from websockets.asyncio.client import ClientConnection, connect

from tests.daemon.house import FINAL, House, audio_of, configured, house, s16, scripted_engine
from tests.sim.scripted import say

trustme = pytest.importorskip("trustme", reason="needs trustme (extra dev)")
keys = pytest.importorskip("cryptography.hazmat.primitives.serialization", reason="comes with trustme")

SCRIPT = say("behind seven seals")
SLOW_S = 600  # the clock jumps while TLS computes


class Papers:
    """A certificate authority and what it has signed for this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        issued = self.authority.issue_cert("127.0.0.1", "localhost")
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.key.write_bytes(issued.private_key_pem.bytes())

    @property
    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        self.authority.configure_trust(context)
        return context

    def server(self, **changes: Any) -> dict[str, Any]:
        return {"cert": str(self.cert), "key": str(self.key), **changes}


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    return Papers(tmp_path)


@asynccontextmanager
async def secure_house(papers: Papers, **limits: int) -> AsyncIterator[House]:
    def load(progress: Progress) -> Engine:
        return scripted_engine(SCRIPT)

    config = configured(server=papers.server(), limits={"handshake_ms": SLOW_S * 1_000, **limits})
    async with house(config=config, load=load) as home:
        while home.app.context is None:  # noqa: ASYNC110 (it is looked at from outside)
            await asyncio.sleep(0.01)
        yield home


def dial(home: House, papers: Papers, path: str) -> connect:
    return connect(
        f"wss://{home.netloc}{path}",
        ssl=papers.trust,
        proxy=None,
        open_timeout=SLOW_S,
        ping_interval=None,
        compression=None,
    )


async def told(socket: ClientConnection, kind: str) -> dict[str, Any]:
    """The next event of ``kind``."""
    while True:
        event: dict[str, Any] = json.loads(await socket.recv())
        if event["type"] == kind:
            return event


async def get(home: House, papers: Papers, path: str) -> bytes:
    host, _, port = home.netloc.rpartition(":")
    reader, writer = await asyncio.open_connection(
        host, int(port), ssl=papers.trust, ssl_handshake_timeout=SLOW_S
    )
    writer.write(f"GET {path} HTTP/1.1\r\nHost: {home.netloc}\r\n\r\n".encode())
    answer = await reader.read()
    writer.transport.abort()
    return answer


async def test_speaking_listening_and_the_page_over_tls(papers: Papers) -> None:
    async with secure_house(papers) as home:
        assert home.address.startswith("https://")
        page = await get(home, papers, "/")
        assert page.startswith(b"HTTP/1.1 200")
        assert b"<html" in page
        async with (
            dial(home, papers, "/v1/captions") as viewer,
            dial(home, papers, "/v1/speak?stream=a") as speaker,
        ):
            assert viewer.transport.get_extra_info("ssl_object").version() >= "TLSv1.2"
            for start in range(0, len(pcm := audio_of(SCRIPT)), 1_600):
                await speaker.send(s16(pcm[start : start + 1_600]))
            await speaker.send('{"type": "end"}')
            assert (await told(viewer, FINAL))["text"] == "behind seven seals"
            assert (await told(speaker, "stream.closed"))["reason"] == "end"


async def test_a_page_of_the_same_secure_origin_may_connect(papers: Papers) -> None:
    async with secure_house(papers) as home:
        origin = f"https://{home.netloc}"
        opened = connect(
            f"wss://{home.netloc}/v1/captions",
            ssl=papers.trust,
            proxy=None,
            open_timeout=SLOW_S,
            origin=origin,  # type: ignore[arg-type]  # any text may be sent
        )
        async with opened as viewer:
            assert (await told(viewer, "hello"))["v"] == 1


async def test_whoever_speaks_no_tls_or_never_finishes_frees_its_seat(papers: Papers) -> None:
    async with secure_house(papers, handshake_ms=2_000) as home:
        host, _, port = home.netloc.rpartition(":")
        plain, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" not in await plain.read()
        silent, _ = await asyncio.open_connection(host, int(port))
        assert await silent.read() == b""
        while home.app.admission.count:  # noqa: ASYNC110 (it is looked at from outside)
            await asyncio.sleep(0.01)
        assert home.app.metrics.refused.labels("handshake")._value.get() == 2


async def test_a_storm_costs_no_handshakes(papers: Papers) -> None:
    async with secure_house(papers, accepts_per_s=1) as home:
        host, _, port = home.netloc.rpartition(":")
        pairs = [await asyncio.open_connection(host, int(port)) for _ in range(60)]
        cut_off = home.app.metrics.refused.labels("rate")
        while not cut_off._value.get():  # noqa: ASYNC110 (it is looked at from outside)
            await asyncio.sleep(0.01)
        assert home.app.admission.count < 60
        for _, writer in pairs:
            writer.transport.abort()


def test_nothing_older_than_tls_1_2(papers: Papers) -> None:
    context = tls_context(ServerConfig(**papers.server()))
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    load_pair(context, ServerConfig(**papers.server()))  # a renewed pair is taken up the same way
    assert tls_context(ServerConfig()) is None


def test_an_encrypted_key_is_told_and_nobody_is_asked_for_a_password(papers: Papers) -> None:
    key = keys.load_pem_private_key(papers.key.read_bytes(), password=None)
    secret = keys.BestAvailableEncryption(b"secret")
    papers.key.write_bytes(key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.PKCS8, secret))
    with pytest.raises(ConfigError, match=r"server\.key: .* is encrypted.*openssl pkey"):
        tls_context(ServerConfig(**papers.server()))


def test_a_key_of_another_certificate_is_told(papers: Papers, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Papers(tmp_path / "other")
    with pytest.raises(ConfigError, match="is not the key of the certificate"):
        tls_context(ServerConfig(**papers.server(key=str(other.key))))


@pytest.mark.parametrize("which", ["cert", "key"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read"),
        (b"", "PEM"),
        (b"-----BEGIN CERTIFICATE-----\nAA\n", "PEM"),
        (b"\xff\0", "PEM"),
    ],
)
def test_files_that_cannot_be_used_are_told_by_their_keys(
    papers: Papers, which: str, content: bytes | None, reason: str
) -> None:
    path = papers.folder / "broken"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"server\.cert, server\.key: .*broken.*{reason}"):
        tls_context(ServerConfig(**papers.server(**{which: str(path)})))
