"""Checks of what can be reached: the port, a daemon that answers there, its page, the broker."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
from captiond_engine.errors import EXIT_UNREACHABLE, CaptiondError

from captiond.config import Config
from captiond.doctor.finding import Finding, fail, failed, ok, warn
from captiond.http import PAGES, pages_folder
from captiond.listener import bind_error, page_address
from captiond.mqtt.broker import broker_of
from captiond.mqtt.link import trouble_of

ANSWER_S = 5.0


def port(config: Config) -> list[Finding]:
    """Whether the port is free, or who has it."""
    server = config.server
    if not server.port:
        return [ok("port", "Any free one is taken at the start.")]
    address = page_address(server, server.port)
    try:
        alive = _get(address, "/healthz")
        if alive is not None and alive[0] == 200 and json.loads(alive[1]).get("alive") is True:
            return [_daemon(address, str(json.loads(alive[1]).get("version", "?")))]
    except (OSError, http.client.HTTPException, ValueError, AttributeError):
        pass  # somebody is there who does not speak as we do, or nobody is
    try:
        found = socket.getaddrinfo(
            server.host or None, server.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        for family, _, _, _, place in found:
            socket.create_server(place[:2], family=family).close()
    except OSError as error:
        return [failed("port", bind_error(server, error))]
    return [ok("port", f"{server.host}:{server.port} is free; no daemon runs there.")]


def _daemon(address: str, version: str) -> Finding:
    """What a captiond at ``address`` says of itself."""
    status, body = _get(address, "/readyz") or (0, b"{}")
    told: dict[str, Any] = json.loads(body)
    text = f"captiond {version} answers at {address}"
    load = told.get("load")
    if isinstance(load, dict):
        share, more = load.get("share", 0), load.get("more", 0)
        text += f" (speakers need {share:.0%} of the device's time, {more} more would fit)"
    said = [str(each) for key in ("reasons", "degraded") for each in told.get(key, [])]
    if status == 200 and not said:
        return ok("port", f"{text} and is ready.")
    state = "is ready, but" if status == 200 else "is not ready:"
    return warn("port", f"{text} and {state} {' '.join(said)}")


def page(config: Config) -> list[Finding]:
    """Whether the captions page is there, and served under the address that the daemon prints."""
    folder = pages_folder()
    if folder is None or not all((folder / name).is_file() for name in PAGES.values()):
        return [fail("page", "The pages are not installed.", "Install captiond again.")]
    address = page_address(config.server, config.server.port)
    try:
        answer = _get(address, "/") if config.server.port else None
    except (OSError, http.client.HTTPException):
        answer = None
    if answer is None:
        return [ok("page", f"The pages are in {folder}.")]
    status, body = answer
    if status == 200 and b"<html" in body[:1_000].lower():
        return [ok("page", f"{address} shows it.")]
    advice = "421: add the name to server.hosts; 503: the daemon has too many connections."
    return [warn("page", f"{address} answers with {status} instead of the page.", advice)]


def _get(address: str, path: str) -> tuple[int, bytes] | None:
    """Status and body; None where nobody listens. Raises OSError, HTTPException."""
    parts = urlsplit(address)
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        # The certificate has a check of its own; here it is asked who is there.
        trust = ssl.create_default_context()
        trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        connection = http.client.HTTPSConnection(parts.netloc, timeout=ANSWER_S, context=trust)
    else:
        connection = http.client.HTTPConnection(parts.netloc, timeout=ANSWER_S)
    with closing(connection):
        try:
            connection.request("GET", path)
        except ConnectionRefusedError:
            return None
        answer = connection.getresponse()
        return answer.status, answer.read(1_000_000)


async def broker(config: Config) -> list[Finding]:
    """Whether the broker lets us in; nothing is published."""
    if not config.mqtt.host:
        return []
    try:
        found = broker_of(config.mqtt)
    except CaptiondError as error:
        return [failed("broker", error)]
    client = aiomqtt.Client(
        found.host,
        found.port,
        username=found.username,
        password=found.password,
        tls_context=found.tls,
        timeout=ANSWER_S,
    )
    try:
        async with asyncio.timeout(ANSWER_S), client:
            pass
    except (aiomqtt.MqttError, TimeoutError, OSError) as error:
        reason = "no answer" if isinstance(error, TimeoutError) else trouble_of(error).reason
        advice = "Captions go on without it. Check mqtt.host, mqtt.port, mqtt.tls and the password."
        text = f"{found.address} cannot be reached: {reason}."
        return [fail("broker", text, advice, exit_code=EXIT_UNREACHABLE)]
    return [ok("broker", f"{found.address} lets us in.")]
