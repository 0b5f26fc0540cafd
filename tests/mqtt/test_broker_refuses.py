"""A broker that does not let us in, or not everywhere, or lets somebody else in under our name."""

from __future__ import annotations

import asyncio
import logging
import signal
import ssl
import subprocess
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import trustme
from captiond_clients.errors import RefusedError, UnreachableError
from captiond_clients.mqtt import listen_mqtt

from tests.daemon.house import Client, House, audio_of, configured, house
from tests.mqtt.broker import Mosquitto, reading
from tests.sim.scripted import say

SCRIPT = (*say("first"), *say("second", at=4 * 16_000))
SAID = ["first", "second"]


def config_of(broker: Mosquitto, **changes: Any) -> Any:
    return configured(mqtt={"host": "127.0.0.1", "port": broker.port, "node": "n", **changes})


async def speak(home: House, stream: str) -> Client:
    async with home.speaker(f"stream={stream}") as client:
        await client.speak(audio_of(SCRIPT), pace=None)
        await client.say(type="end")
        await client.closed()
    return client


def count(caplog: pytest.LogCaptureFixture, words: str) -> int:
    return sum(words in record.getMessage() for record in caplog.records)


async def until_logged(caplog: pytest.LogCaptureFixture, words: str) -> None:
    async with asyncio.timeout(60):
        while not count(caplog, words):  # noqa: ASYNC110 (a log gives no sign)
            await asyncio.sleep(0.02)


def with_passwords(broker: Mosquitto, folder: Path, password: str) -> None:
    file = folder / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", file, "captiond", password], check=True)
    broker.stop()
    broker.configure("allow_anonymous false", f"password_file {file}")
    broker.start()


async def test_a_wrong_password_is_told_once_and_tried_again(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_passwords(broker, tmp_path, "changed")
    (tmp_path / "secret").write_text("sesame\n")
    config = config_of(broker, username="captiond", password_file=str(tmp_path / "secret"))
    with caplog.at_level(logging.INFO, "captiond"):
        async with house(SCRIPT, config=config) as home:
            assert (await home.get("/readyz")).status == 200
            assert (await speak(home, "hall")).texts() == SAID
            await until_logged(caplog, "does not let us in (not authorized)")
            refused = broker.log.read_text().count("not authorised")
            while broker.log.read_text().count("not authorised") < refused + 2:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            assert count(caplog, "does not let us in") == 1
            with_passwords(broker, tmp_path, "sesame")
            with reading(broker, username="captiond", password="sesame") as reader:
                await reader.until("hall/final", 2)
    assert "sesame" not in caplog.text


async def test_a_reader_that_is_not_let_in_is_told_so(broker: Mosquitto, tmp_path: Path) -> None:
    with_passwords(broker, tmp_path, "p@ss")
    url = f"mqtt://captiond:wrong@127.0.0.1:{broker.port}"
    with pytest.raises(RefusedError, match="does not let us in") as refused:
        await anext(listen_mqtt(url))
    assert "wrong" not in str(refused.value)
    connected: list[str] = []
    url = f"mqtt://captiond:p%40ss@127.0.0.1:{broker.port}"
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await anext(listen_mqtt(url, on_connected=connected.append))
    assert connected == [f"127.0.0.1:{broker.port}"]


async def test_a_reader_tells_what_it_cannot_reach_and_what_is_no_address(broker: Mosquitto) -> None:
    broker.kill()
    with pytest.raises(UnreachableError):
        await anext(listen_mqtt(f"mqtt://127.0.0.1:{broker.port}"))
    for url in ("http://127.0.0.1", "mqtt://", "mqtt://host:port"):
        with pytest.raises(RefusedError):
            await anext(listen_mqtt(url))


async def test_a_topic_that_is_denied_waits_and_holds_up_no_other(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rules = tmp_path / "rules"
    rules.write_text("topic deny captiond/n/closed/#\ntopic readwrite #\n")
    broker.stop()
    broker.configure("allow_anonymous true", f"acl_file {rules}")
    broker.start()
    with caplog.at_level(logging.INFO, "captiond"), reading(broker) as reader:
        async with house({0: SCRIPT}, config=config_of(broker)) as home:
            await speak(home, "closed")
            await until_logged(caplog, "refuses captiond/n/closed/final (Not authorized)")
            await speak(home, "hall")
            await reader.until("hall/final", 2)
            assert reader.on("closed/final") == []
            rules.write_text("topic readwrite #\n")
            broker.signal(signal.SIGHUP)
            await reader.until("closed/final", 2)
            texts = [final.json()["text"] for final in reader.on("closed/final")]
            assert texts == SAID
    assert count(caplog, "refuses captiond/n/closed/final") == 1
    assert count(caplog, "takes captiond/n/closed/final now") == 1


@pytest.mark.parametrize("version", ["5", "3.1.1"])
async def test_of_two_clients_with_one_name_we_take_another(
    broker: Mosquitto, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    protocol = paho.MQTTv5 if version == "5" else paho.MQTTv311
    namesake = paho.Client(paho.CallbackAPIVersion.VERSION2, "captiond-n", protocol=protocol)
    namesake.reconnect_delay_set(1, 1)
    with reading(broker) as reader:
        async with house(SCRIPT, config=config_of(broker, version=version)) as home:
            await reader.until_last("n/status", b"online")
            namesake.connect("127.0.0.1", broker.port)
            namesake.loop_start()
            await until_logged(
                caplog, "another client seems to use the MQTT name captiond-n; we are captiond-n-"
            )
            await reader.until_last("n/status", b"online")
            await speak(home, "hall")
            await reader.until("hall/final", 2)
            assert count(caplog, "another client seems") == 1
            assert namesake.is_connected()
    namesake.disconnect()
    namesake.loop_stop()


async def test_tls_with_a_certificate_of_our_own(broker: Mosquitto, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {name: str(tmp_path / f"{name}.pem") for name in ("ca", "server", "client", "client_key")}
    authority.cert_pem.write_to_path(files["ca"])
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(files["server"])
    ours = authority.issue_cert("captiond@example.org")
    ours.cert_chain_pems[0].write_to_path(files["client"])
    ours.private_key_pem.write_to_path(files["client_key"])
    broker.stop()
    broker.configure(
        *("allow_anonymous true", f"cafile {files['ca']}", "require_certificate true"),
        *(f"certfile {files['server']}", f"keyfile {files['server']}"),
    )
    broker.start()
    config = config_of(broker, tls=True, ca=files["ca"], cert=files["client"], key=files["client_key"])
    seen = asyncio.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2)
    context = ssl.create_default_context(cafile=files["ca"])
    context.load_cert_chain(files["client"], files["client_key"])
    client.tls_set_context(context)
    loop = asyncio.get_running_loop()
    client.on_message = lambda *_: loop.call_soon_threadsafe(seen.set)
    client.connect("127.0.0.1", broker.port)
    client.subscribe("captiond/n/hall/final", 1)
    client.loop_start()
    async with house(SCRIPT, config=config) as home:
        await speak(home, "hall")
        async with asyncio.timeout(60):
            await seen.wait()
    client.disconnect()
    client.loop_stop()


async def test_a_broker_whose_certificate_nobody_vouches_for_is_not_spoken_to(
    broker: Mosquitto, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "s.pem"))
    stranger.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    broker.stop()
    pem = tmp_path / "s.pem"
    broker.configure("allow_anonymous true", f"certfile {pem}", f"keyfile {pem}")
    broker.start()
    async with house(SCRIPT, config=config_of(broker, tls=True, ca=str(tmp_path / "ca.pem"))) as home:
        await until_logged(caplog, "certificate verify failed")
        assert (await speak(home, "hall")).texts() == SAID
        assert (await home.get("/readyz")).status == 200
    assert count(caplog, "certificate verify failed") == 1
