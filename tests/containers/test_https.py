"""Network sources over https: every certificate is checked, also those of segments, and https stays https."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.containers.recordings import OGG, hls, record
from tests.containers.servers import Answer, Request, Server, serving
from tests.containers.test_network_source import PCM, SCRIPT, WORDS, quick, reason_of, tuned
from tests.daemon.house import FINAL, house

trustme = pytest.importorskip("trustme", reason="needs trustme (extra dev)")
__all__ = ["quick"]  # short pauses here too


@dataclass
class Servers:
    """One with a certificate that is trusted, one whose is not, and one without any."""

    good: Server
    bad: Server
    plain: Server


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    contexts = []
    for issuer in (authority, trustme.CA()):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert("localhost").configure_cert(context)
        contexts.append(context)
    with ExitStack() as stack:
        yield Servers(*(stack.enter_context(serving(tls=tls)) for tls in (*contexts, None)))


def live(request: Request) -> None:
    request.stream(record(PCM, OGG))


def playlist(*segments: str, head: str = "", tail: str = "") -> Answer:
    lines = ["#EXTM3U", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0", head]
    for segment in segments:
        lines += ["#EXTINF:1.0,", segment]
    body = "\n".join([*lines, tail, ""]).encode()
    return lambda request: request.give(body, "application/vnd.apple.mpegurl")


def giving(data: bytes) -> Answer:
    return lambda request: request.give(data, "video/mp2t")


async def test_a_certificate_that_is_trusted(servers: Servers) -> None:
    servers.good.answers["/live"] = live
    async with house(SCRIPT, config=tuned(servers.good.url("/live"))) as home:
        await home.ready()
        async with home.viewer("stream=radio&history=5") as viewer:
            await viewer.until(FINAL, 2)
            assert viewer.texts() == WORDS


@pytest.mark.parametrize("other_name", [False, True])
async def test_a_certificate_that_is_not(servers: Servers, other_name: bool) -> None:
    """Of an authority that nobody knows, or for another name."""
    server = servers.good if other_name else servers.bad
    server.answers["/live"] = live
    address = server.url("/live")
    if other_name:
        address = address.replace("localhost", "127.0.0.1")
    async with house(SCRIPT, config=tuned(address)) as home:
        reason = await reason_of(home, "Source radio: It")
        assert "certificate" in reason
    assert server.asked == []


async def test_a_segment_s_certificate_is_checked_too(servers: Servers, tmp_path: Path) -> None:
    segments = hls(PCM, tmp_path)
    servers.good.answers["/live"] = playlist(*(servers.bad.url(f"/{name}") for name in segments))
    servers.bad.answers = {f"/{name}": giving(data) for name, data in segments.items()}
    async with house(SCRIPT, config=tuned(servers.good.url("/live"))) as home:
        assert "certificate" in await reason_of(home, "Source radio: It")
        assert (await home.get("/v1/streams")).json() == []
    assert servers.bad.asked == []


async def test_segments_over_https_are_heard_and_a_password_stays_with_its_server(
    servers: Servers, tmp_path: Path
) -> None:
    segments = hls(PCM, tmp_path)
    other = servers.good.url("").replace("localhost", "127.0.0.1")
    servers.good.answers = {f"/{name}": giving(data) for name, data in segments.items()}
    servers.good.answers["/live"] = playlist(*segments, tail="#EXT-X-ENDLIST")
    servers.good.answers["/moved"] = lambda request: request.send_on(f"{other}/live")
    config = tuned(servers.good.url("/live"), username="ann")
    async with house(SCRIPT, config=config) as home, home.viewer("stream=radio&history=5") as viewer:
        await viewer.until(FINAL, 1)
    assert {sent for path, sent in servers.good.asked} == {"Basic YW5uOg=="}
    servers.good.asked.clear()
    async with house(SCRIPT, config=tuned(servers.good.url("/moved"), username="ann")) as home:
        await reason_of(home, "Source radio: It")
    assert {path for path, _ in servers.good.asked} == {"/moved"}


@pytest.mark.parametrize("way", ["redirect", "playlist", "file"])
async def test_https_leads_to_https_alone(servers: Servers, way: str, tmp_path: Path) -> None:
    (tmp_path / "clip.ts").write_bytes(record(PCM, OGG))
    servers.plain.answers["/clip.ts"] = live
    target = (tmp_path / "clip.ts").as_uri() if way == "file" else servers.plain.url("/clip.ts")
    if way == "redirect":
        servers.good.answers["/live"] = lambda request: request.send_on(target)
    else:
        servers.good.answers["/live"] = playlist(target)
    async with house(SCRIPT, config=tuned(servers.good.url("/live"))) as home:
        assert "from https to something else" in await reason_of(home, "Source radio: It")
    assert servers.plain.asked == []


async def test_an_encrypted_playlist_is_told_as_what_it_is(servers: Servers) -> None:
    key = f'#EXT-X-KEY:METHOD=AES-128,URI="{servers.good.url("/key")}"'
    servers.good.answers["/key"] = lambda request: request.give(b"k" * 16)
    servers.good.answers["/part.ts"] = lambda request: request.give(b"x" * 4_096)
    servers.good.answers["/live"] = playlist("part.ts", head=key)
    async with house(SCRIPT, config=tuned(servers.good.url("/live"))) as home:
        assert "encrypted" in await reason_of(home, "Source radio: It")
