"""A configuration that is read anew: all of it holds, or nothing of it, and who is there does not notice."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from captiond.reload import AT_THE_START, keep_fixed, prepare
from captiond_engine.errors import ConfigError

from tests.daemon.house import FINAL, UPGRADE, audio_of, configured
from tests.daemon.renewed import renewed
from tests.sim.scripted import say

TURN_ON = say("turn on the lights")
OLD, NEW = "old-token-0123456789", "new-token-0123456789"


async def test_a_file_that_cannot_be_used_changes_nothing_and_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with renewed(tmp_path, configured(), TURN_ON) as told:
        await told.reload(ConfigError("captiond.toml: segment.silence_ms: expected int >= 100."))
        state = await told.state()
        assert state["status"] == 200, "the one before holds, so the daemon is ready"
        assert "segment.silence_ms" in str(state["degraded"])
        assert "segment.silence_ms" in told.manager.status
        assert "segment.silence_ms" in caplog.text
        await told.reload(configured())
        assert "degraded" not in await told.state()
        assert told.manager.status == "0 streams, 0 listeners"


async def test_what_cannot_be_used_keeps_all_the_rest_from_changing(tmp_path: Path) -> None:
    async with renewed(tmp_path, configured(), TURN_ON) as told:
        app = told.home.app
        before = app.context
        assert before is not None
        held = before.config
        for broken in (
            configured(server={"tokens_file": str(tmp_path / "gone")}, limits={"max_streams": 1}),
            configured(mqtt={"host": "broker", "password_file": str(tmp_path / "gone"), "username": "a"}),
        ):
            await told.reload(broken)
            assert before.config is held
            async with told.home.speaker(), told.home.speaker():
                pass


async def test_tokens_are_those_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{OLD}\n")
    config = configured(server={"tokens_file": str(tokens)})
    async with renewed(tmp_path, config, TURN_ON) as told:

        async def status(token: str) -> int:
            return (await told.home.get("/v1/streams", Authorization=f"Bearer {token}")).status

        assert (await status(OLD), await status(NEW)) == (200, 401)
        headers = {"Authorization": f"Bearer {OLD}"}
        async with told.home.speaker("stream=hall", additional_headers=headers) as speaker:
            tokens.write_text(f"{NEW}\n")
            await told.reload(config)
            assert (await status(OLD), await status(NEW)) == (401, 200)
            await speaker.speak(audio_of(TURN_ON))
            assert (await speaker.until(FINAL))["text"] == "turn on the lights", "who is in stays in"
            tokens.write_text("short\n")
            await told.reload(config)
            assert (await status(OLD), await status(NEW)) == (401, 200)


async def test_limits_hold_for_those_who_come_now(tmp_path: Path) -> None:
    async with renewed(tmp_path, configured(), TURN_ON) as told, told.home.speaker("stream=hall") as hall:
        await told.reload(configured(limits={"max_streams": 1}))
        assert (await told.home.get("/v1/speak", **UPGRADE)).status == 503
        await hall.speak(audio_of(TURN_ON))
        assert (await hall.until(FINAL))["text"] == "turn on the lights"
        await told.reload(configured(limits={"max_streams": 2}))
        async with told.home.speaker() as other:
            await other.until("hello")


async def test_streams_that_are_opened_now_are_cut_as_is_said_now(tmp_path: Path) -> None:
    script = (*say("turn on"), *say("the lights", at=4 * 16_000))  # with some two seconds between them
    async with renewed(tmp_path, configured(), script) as told:

        async def said() -> list[str]:
            async with told.home.speaker() as speaker:
                await speaker.speak(audio_of(script))
                await speaker.say(type="end")
                await speaker.closed()
                return speaker.texts()

        assert await said() == ["turn on", "the lights"]
        await told.reload(configured(segment={"silence_ms": 4_000}))
        assert await said() == ["turn on the lights"]


def test_what_is_bound_or_compiled_waits_for_a_restart() -> None:
    running = configured(server={"port": 1, "origins": ["https://a.example"]}, model={"batch": 1})
    wanted = configured(
        server={"port": 2, "origins": ["https://b.example"], "host": "::1"},
        model={"name": "tiny.en", "batch": 4, "language": "en"},
        limits={"message_bytes": 2_048, "ping_ms": 5_000},
    )
    config, waiting = keep_fixed(running, wanted)
    assert set(waiting) == {
        *("server.port", "server.host"),
        *("model.name", "model.batch", "limits.message_bytes"),
    }
    assert (config.server.port, config.model.name) == (1, running.model.name)
    assert config.server.origins == ("https://b.example",)
    assert (config.model.language, config.limits.ping_ms) == ("en", 5_000)
    for table, keys in AT_THE_START.items():
        assert set(keys) <= set(getattr(running, table).__struct_fields__)


def test_turning_tls_on_or_off_waits_for_a_restart() -> None:
    running, wanted = configured(), configured(server={"cert": "a.pem", "key": "b.pem"})
    config, waiting = keep_fixed(running, wanted)
    assert waiting == ("server.cert", "server.key")
    assert config == running
    assert keep_fixed(wanted, running)[0] == wanted


def test_a_change_that_opens_the_door_together_with_what_must_wait_is_refused(tmp_path: Path) -> None:
    """The host waits for a restart; without it, leaving out the tokens would let the network in."""
    tokens = tmp_path / "tokens"
    tokens.write_text(f"{OLD}\n")
    running = configured(server={"host": "0.0.0.0", "tokens_file": str(tokens)})
    with pytest.raises(ConfigError, match=r"server\.host"):
        prepare(running, configured())


async def test_keys_that_wait_are_named_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with renewed(tmp_path, configured(), TURN_ON) as told:
        await told.reload(configured(model={"name": "tiny.en"}))
        assert "model.name, which needs a restart" in caplog.text
        assert (await told.state())["status"] == 200


async def test_the_log_follows(tmp_path: Path) -> None:
    levels = []
    async with renewed(tmp_path, configured(), TURN_ON) as told:
        told.home.app._set_log = lambda table: levels.append(table.level)
        await told.reload(configured())
        await told.reload(configured(log={"level": "debug"}))
    assert levels == ["debug"]


async def test_a_renewed_certificate_is_shown_to_those_who_come_now(tmp_path: Path) -> None:
    trustme = pytest.importorskip("trustme", reason="needs trustme (extra dev)")
    authority = trustme.CA()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def write_pair() -> None:
        issued = authority.issue_cert("localhost")
        issued.private_key_pem.write_to_path(key)
        cert.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))

    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    write_pair()
    # The clock jumps while TLS computes.
    config = configured(server={"cert": str(cert), "key": str(key)}, limits={"handshake_ms": 600_000})
    async with renewed(tmp_path, config) as told:

        async def shown() -> object:
            port = int(told.home.netloc.rpartition(":")[2])
            _, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=trust, server_hostname="localhost", ssl_handshake_timeout=600
            )
            told_by = writer.get_extra_info("ssl_object").getpeercert()
            writer.transport.abort()
            return told_by["serialNumber"]

        first = await shown()
        assert await shown() == first
        write_pair()
        await told.reload(config)
        second = await shown()
        assert second != first
        cert.write_text("no certificate")
        await told.reload(config)
        assert await shown() == second
