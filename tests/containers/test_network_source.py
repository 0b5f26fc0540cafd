"""``kind = "network"`` against real servers: radio, HLS and what goes wrong with them."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
from captiond.config_file import load
from captiond.containers import media
from captiond.sources import network
from captiond_engine.errors import ConfigError

from tests.containers.children import children
from tests.containers.recordings import OGG, Kind, hls, record
from tests.containers.rtsp import camera
from tests.containers.servers import Request, serving
from tests.daemon.house import FINAL, House, audio_of, configured, house
from tests.sim.scripted import say

SCRIPT = say("turn on") + say("the lights", at=48_000)
WORDS = ["turn on", "the lights"]
PCM = audio_of(SCRIPT)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses of seconds as parts of them; the order in which things happen stays the same."""
    monkeypatch.setattr(network, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(network, "LONGEST_PAUSE_S", 0.2)


def tuned(url: str, **more: Any) -> Any:
    return configured(source=[{"kind": "network", "name": "radio", "url": url, **more}])


def command_of(process: int) -> str:
    return Path(f"/proc/{process}/cmdline").read_bytes().decode()


async def reason_of(home: House, word: str) -> str:
    """The first reason in /readyz with ``word`` in it."""
    async with asyncio.timeout(60):
        while True:
            for reason in (await home.get("/readyz")).json()["reasons"]:
                if word in reason:
                    return str(reason)
            await asyncio.sleep(0.02)


async def test_a_radio_is_captioned_while_it_sends() -> None:
    with serving() as server:
        server.answers["/live"] = lambda request: request.stream(record(PCM, OGG))
        async with house(SCRIPT, config=tuned(server.url("/live"))) as home:
            await home.ready()
            async with home.viewer("stream=radio&history=5") as viewer:
                await viewer.until(FINAL, 2)
                assert viewer.texts() == WORDS
                (stream,) = (await home.get("/v1/streams")).json()
                assert (stream["name"], stream["source"]) == ("radio", "network")
                assert not viewer.all("audio.lost")
            assert len(children()) == 1
        assert children() == []


async def test_a_server_that_goes_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    again = asyncio.Event()
    loop = asyncio.get_running_loop()
    state = {"back": False}

    def live(request: Request) -> None:
        if len(request.server.asked) == 1:
            request.stream(record(PCM[:32_000], OGG), stay=False)
        elif not state["back"]:
            request.send_error(503)
            loop.call_soon_threadsafe(again.set)
        else:
            request.stream(record(PCM[32_000:], OGG))

    with serving() as server:
        server.answers["/live"] = live
        async with (
            house(SCRIPT, config=tuned(server.url("/live"))) as home,
            home.viewer("stream=radio") as viewer,
        ):
            await viewer.until(FINAL)  # at once, though no more sound comes
            reason = await reason_of(home, "5XX")
            assert reason.startswith("Source radio: ")
            assert reason.endswith("It is tried again every 0.05 to 0.2 s.")
            await again.wait()
            state["back"] = True
            await home.ready()
            await viewer.until("speech.started", 2)
            lost = viewer.all("audio.lost")
            assert {event["reason"] for event in lost} == {"network"}
            assert lost[0]["start_ms"] == pytest.approx(2_000, abs=50)
            assert [event["start_ms"] for event in lost[1:]] == [event["end_ms"] for event in lost[:-1]]
            assert viewer.all("speech.started")[1]["at_ms"] >= lost[-1]["end_ms"] - 10
            (stream,) = (await home.get("/v1/streams")).json()
            assert stream["heard_until_ms"] > 2_000 + lost[-1]["end_ms"] - lost[0]["start_ms"]


async def test_a_server_that_is_not_there_yet_is_waited_for_and_costs_nobody_else() -> None:
    with serving() as server:
        port = server.port
    async with house(SCRIPT, config=tuned(f"http://localhost:{port}/live")) as home:
        assert "refused" in (await reason_of(home, "radio: ")).lower()
        async with home.speaker("stream=other") as other:
            await other.speak(PCM, pace=None)
            await other.say(type="end")
            assert await other.closed() == 1000
            assert other.texts() == WORDS
        with serving(port) as server:
            server.answers["/live"] = lambda request: request.stream(record(PCM, OGG))
            await home.ready()
            async with home.viewer("stream=radio&history=5") as viewer:
                await viewer.until(FINAL, 2)


async def test_a_server_that_says_nothing_is_given_up() -> None:
    with serving() as server:
        server.answers["/live"] = lambda request: request.stream(record(PCM, OGG)[:5_000])
        async with house(SCRIPT, config=tuned(server.url("/live"), timeout_ms=1_000)) as home:
            assert "nothing" in await reason_of(home, "Source radio: ")


async def test_hls_is_followed_as_its_playlist_goes_on(tmp_path: Path) -> None:
    segments = hls(PCM, tmp_path)
    with serving() as server:
        asked: list[int] = []

        def playlist(request: Request) -> None:
            asked.append(1)
            last = min(len(segments), len(asked))
            first = max(0, last - 3)
            lines = [
                "#EXTM3U",
                "#EXT-X-VERSION:3",
                "#EXT-X-TARGETDURATION:1",
                f"#EXT-X-MEDIA-SEQUENCE:{first}",
            ]
            for name in list(segments)[first:last]:
                lines += ["#EXTINF:1.0,", name]
            request.give("\n".join([*lines, ""]).encode(), "application/vnd.apple.mpegurl")

        def segment(request: Request) -> None:
            request.give(segments[request.path.lstrip("/")], "video/mp2t")

        server.answers = {"/live.m3u8": playlist} | {f"/{name}": segment for name in segments}
        async with house(SCRIPT, config=tuned(server.url("/live.m3u8"))) as home, home.viewer() as viewer:
            await viewer.until(FINAL, 2)
        taken = [path for path, _ in server.asked if path.endswith(".ts")]
    assert taken == sorted(set(taken)), "each segment once, in order"
    assert len(asked) > 3


@pytest.mark.parametrize("way", ["redirect", "playlist", "playlist of playlists"])
async def test_no_way_leads_to_a_file_of_this_machine(way: str, tmp_path: Path) -> None:
    """A server that is trusted with sound is not trusted with files."""
    clip = tmp_path / "clip.ts"
    clip.write_bytes(record(PCM, Kind("mpegts", "aac")))
    clip.chmod(0o644)
    target = clip.as_uri()
    with serving() as server:
        if way == "redirect":
            server.answers["/live"] = lambda request: request.send_on(target)
        else:
            head = "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXT-X-MEDIA-SEQUENCE:0\n"
            body = f"{head}#EXTINF:5.0,\n{target}\n#EXT-X-ENDLIST\n"
            if way == "playlist of playlists":
                body = f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n"
            server.answers["/live"] = lambda request: request.give(body.encode(), "application/x-mpegurl")
        async with house(SCRIPT, config=tuned(server.url("/live"))) as home:
            await reason_of(home, "Source radio: It")
            assert (await home.get("/v1/streams")).json() == []


async def test_a_password_is_used_and_never_told(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.DEBUG)
    (tmp_path / "password").write_text("s3cret/with@signs\n")
    with serving() as server:

        def live(request: Request) -> None:
            if "Basic" not in request.headers.get("Authorization", ""):
                request.send_response(401)
                request.send_header("WWW-Authenticate", 'Basic realm="radio"')
                request.end_headers()
            else:
                request.stream(record(PCM, OGG))

        server.answers["/live"] = live
        source = {"username": "listener", "password_file": str(tmp_path / "password")}
        async with house(SCRIPT, config=tuned(server.url("/live?key=t0ken"), **source)) as home:
            await home.ready()
            (child,) = children()
            seen = [command_of(child)]
            seen += [(await home.get(path)).body.decode() for path in ("/readyz", "/v1/streams", "/metrics")]
        async with house(SCRIPT, config=tuned(server.url("/gone?key=t0ken"), **source)) as home:
            seen.append(await reason_of(home, "404"))
    assert any("bGlzdGVuZXI6czNjcmV0L3dpdGhAc2lnbnM=" in sent for _, sent in server.asked)
    seen.append(caplog.text)
    assert not [text for text in seen if "s3cret" in text or "t0ken" in text or "localhost" in text]


async def test_without_the_extra_the_source_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(media, "installed", lambda: False)
    async with house(SCRIPT, config=tuned("http://localhost:1/live")) as home:
        assert "pip install 'captiond[av]'" in await reason_of(home, "PyAV")


async def test_a_camera_is_heard_by_rtsp_and_its_pictures_are_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("geheim")
    source = {"username": "ann", "password_file": str(tmp_path / "password")}
    with camera(PCM, "geheim") as server:
        async with house(SCRIPT, config=tuned(server.url(), **source)) as home, home.viewer() as viewer:
            await viewer.until(FINAL, 2)
            assert viewer.texts() == WORDS
            assert not viewer.all("audio.lost")
        assert "SETUP audio" in server.asked
        assert "SETUP video" not in server.asked


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "concat:a|b",
        "/dev/snd",
        "udp://host:1",
        "http://",
        "rtsp://ho st/x",
        "http://a:b:c/",
    ],
)
def test_an_address_that_is_none_of_a_network_is_refused_and_not_repeated(url: str, tmp_path: Path) -> None:
    (tmp_path / "captiond.toml").write_text(f'[[source]]\nname = "radio"\nkind = "network"\nurl = "{url}"\n')
    with pytest.raises(ConfigError, match="source radio: url: ") as refused:
        load(tmp_path / "captiond.toml")
    assert url not in str(refused.value)


@pytest.mark.parametrize(
    "more", ['url = "http://ann:x@host/"\nusername = "bob"', 'url = "http://host/"\npassword_file = "p"']
)
def test_two_users_or_a_password_of_nobody_are_refused(more: str, tmp_path: Path) -> None:
    (tmp_path / "captiond.toml").write_text(f'[[source]]\nname = "radio"\nkind = "network"\n{more}\n')
    with pytest.raises(ConfigError, match="username") as refused:
        load(tmp_path / "captiond.toml")
    assert "ann" not in str(refused.value)
