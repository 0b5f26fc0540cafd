"""The one port before the upgrade: pages, health, and who is let in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from captiond.access import Access, read_tokens
from captiond.config import ServerConfig
from captiond.http import read_page
from captiond_engine.errors import ConfigError
from websockets.exceptions import InvalidStatus

from tests.daemon.house import UPGRADE, House, configured, house

TOKEN = "a-token-of-sixteen-characters"


async def refused(home: House, path: str, **options: object) -> int:
    with pytest.raises(InvalidStatus) as answer:
        async with home.client(path, **options):
            pass
    return answer.value.response.status_code


async def test_health_readiness_and_streams_are_json() -> None:
    async with house() as home, home.speaker("stream=hall") as speaker:
        await speaker.until("stream.opened")
        health = await home.get("/healthz")
        assert (health.status, health.headers["content-type"]) == (200, "application/json")
        assert health.json()["alive"] is True
        ready = await home.get("/readyz")
        assert ready.status == 200
        told = ready.json()
        load = told.pop("load")
        assert told == {"ready": True, "reasons": []}
        assert sorted(load) == ["limit", "more", "share", "speaker", "streams"]
        (stream,) = (await home.get("/v1/streams")).json()
        assert sorted(stream) == [
            "behind_ms", "heard_until_ms", "load", "name", "opened_at", "source", "subscribers",
        ]  # fmt: skip
        assert (stream["name"], stream["source"], stream["subscribers"]) == ("hall", "websocket", 1)


async def test_head_is_get_without_its_body() -> None:
    async with house() as home:
        body, head = await home.get("/healthz"), await home.get("/healthz", method="HEAD")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(body.body))


async def test_unknown_addresses_and_methods() -> None:
    async with house() as home:
        assert (await home.get("/nothing")).status == 404
        assert (await home.get("/v1/nothing")).status == 404
        assert await refused(home, "/v2/speak") == 404
        posted = await home.get("/healthz", method="POST")
        assert (posted.status, posted.headers["allow"]) == (405, "GET, HEAD")
        assert (await home.get("/v1/captions")).status == 426


def test_pages_come_from_their_folder_and_nowhere_else(tmp_path: Path) -> None:
    pages = tmp_path / "web"
    (pages / "more").mkdir(parents=True)
    (pages / "captions.html").write_text("page")
    (pages / "more" / "style.css").write_text("style")
    (pages / ".hidden").write_text("no")
    (tmp_path / "secret").write_text("no")
    (pages / "link").symlink_to(tmp_path / "secret")
    assert read_page(pages, "captions.html") == b"page"
    assert read_page(pages, "more/style.css") == b"style"
    for name in (
        "../secret",
        "more/../../secret",
        "/etc/passwd",
        ".hidden",
        "link",
        "more",
        "",
        "a\0b",
        "..",
        "x" * 5000,
    ):
        assert read_page(pages, name) is None


@pytest.mark.parametrize(
    "path",
    ["/../pyproject.toml", "/%2e%2e/pyproject.toml", "/..%2fpyproject.toml", "//etc/passwd", "//[", "/%00"],
)
async def test_no_address_leads_out_of_the_pages(path: str) -> None:
    async with house() as home:
        assert (await home.get(path)).status == 404


async def test_a_host_that_is_not_ours_is_misdirected() -> None:
    config = configured(server={"hosts": ["captions.example"]})
    async with house(config=config) as home:
        for host in (
            "captions.example",
            "captions.example:8765",
            "localhost:1",
            "127.0.0.1",
            "[::1]:8765",
            "LOCALHOST",
        ):
            assert (await home.get("/healthz", Host=host)).status == 200, host
        for host in ("evil.example", "127.0.0.1.evil.example", "10.1.2.3", "", "a b", "[::1"):
            assert (await home.get("/healthz", Host=host)).status == 421, host
        assert await refused(home, "/v1/captions", additional_headers={"Host": "evil.example"}) in (400, 421)


async def test_pages_of_other_origins_are_kept_out() -> None:
    config = configured(server={"origins": ["https://friend.example"]})
    async with house(config=config) as home:
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1", "http://friend.example"):
            assert await refused(home, "/v1/captions", origin=origin) == 403, origin
            assert await refused(home, "/v1/speak", origin=origin) == 403, origin
        for origin in ("https://friend.example", f"http://{home.netloc}"):
            async with home.viewer(origin=origin) as viewer:
                await viewer.until("hello")


async def test_tokens_by_header_or_subprotocol_and_never_in_the_address(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text(f"# who may come\n\nanother-token-of-somebody\n{TOKEN}\n")
    config = configured(server={"tokens_file": str(tmp_path / "tokens")})
    async with house(config=config) as home:
        assert await refused(home, "/v1/captions") == 401
        assert await refused(home, f"/v1/captions?token={TOKEN}") == 401
        wrong = {"Authorization": f"Bearer {TOKEN}x"}
        assert await refused(home, "/v1/speak", additional_headers=wrong) == 401
        assert await refused(home, "/v1/speak", subprotocols=["captiond", "token.wrong"]) == 401
        streams = await home.get("/v1/streams")
        assert (streams.status, streams.headers["www-authenticate"]) == (401, 'Bearer realm="captiond"')
        assert (await home.get("/v1/streams", Authorization=f"Bearer {TOKEN}")).status == 200
        assert (await home.get("/healthz")).status == (await home.get("/readyz")).status == 200
        async with home.speaker(additional_headers={"Authorization": f"bearer {TOKEN}"}) as speaker:
            await speaker.until("hello")
        async with home.viewer(subprotocols=["captiond", f"token.{TOKEN}"]) as viewer:
            await viewer.until("hello")
            assert viewer.socket.subprotocol == "captiond"


@pytest.mark.parametrize(
    "text", ["", "# only a remark\n", "short\n", "has a space in the middle\n", "ümlaut-ümlaut-ümlaut\n"]
)
def test_a_tokens_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tokens").write_text(text)
    with pytest.raises(ConfigError, match=r"server\.tokens_file") as refused:
        read_tokens(tmp_path / "tokens")
    assert "space in the middle" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"server\.tokens_file"):
        Access(ServerConfig(tokens_file=str(tmp_path / "nothing")))


async def test_when_all_places_are_taken_the_next_is_asked_to_come_later() -> None:
    config = configured(limits={"max_streams": 1, "max_subscribers": 2})
    async with house(config=config) as home, home.speaker() as speaker, home.viewer() as viewer:
        await speaker.until("hello")
        await viewer.until("hello")
        for path in ("/v1/speak", "/v1/captions"):
            answer = await home.get(path, **UPGRADE)
            assert answer.status == 503
            assert int(answer.headers["retry-after"]) > 0


async def test_nothing_is_compressed() -> None:
    async with house() as home, home.viewer(compression="deflate") as viewer:
        await viewer.until("hello")
        assert viewer.socket.protocol.extensions == []


async def test_a_request_that_never_ends_is_cut_off() -> None:
    config = configured(limits={"handshake_ms": 5_000})
    async with house(config=config) as home:
        host, _, port = home.netloc.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        began = asyncio.get_running_loop().time()
        assert await reader.read() == b""
        assert asyncio.get_running_loop().time() - began < 6
        writer.close()
