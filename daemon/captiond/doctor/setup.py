"""Checks of what was configured: the files that it names, who may read the secrets in them, the service."""

from __future__ import annotations

import os
import shutil
import ssl
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from captiond_engine.errors import CaptiondError

from captiond.access import Access
from captiond.config import Config, is_loopback
from captiond.config_file import check_files, paths
from captiond.doctor.finding import Finding, fail, failed, ok, warn
from captiond.doctor.machine import GIB
from captiond.listener import tls_context

SECRETS = ("server.tokens_file", "server.key", "mqtt.key", "mqtt.password_file")
UNITS = (
    Path("/etc/systemd/system/captiond.service"),
    Path("/usr/lib/systemd/system/captiond.service"),
    Path("~/.config/systemd/user/captiond.service"),
)
RENEW_S = 14 * 86_400.0  # before a certificate's end: whoever renews by hand needs some days
SYSTEMCTL_S = 5.0


def configuration(config: Config) -> list[Finding]:
    """Whether the files that it names are there and can be read by whoever runs this."""
    try:
        check_files(config)
        Access(config.server)
    except CaptiondError as error:
        return [failed("configuration", error)]
    closed = [
        f"{key} ({path})"
        for key, kind, path in paths(config)
        if path and kind == "file" and not os.access(path, os.R_OK)
    ]
    if closed:
        advice = "Give this user the right to read them, or run this as the daemon's user."
        return [fail("configuration", f"Cannot be read: {', '.join(closed)}.", advice)]
    return [ok("configuration", "It can be used, and its files are there.")]


def secrets(config: Config) -> list[Finding]:
    """Whether others on this machine may read tokens, keys and passwords."""
    named = [
        (key, path) for key, _, path in paths(config) if key in SECRETS and path and Path(path).is_file()
    ]
    if not named:
        return []
    open_to_all = [
        f"{key} ({path})"
        for key, path in named
        if Path(path).stat().st_mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP)
    ]
    if open_to_all:
        return [warn("secrets", f"Others may read or change {', '.join(open_to_all)}.", "chmod 600 does.")]
    return [ok("secrets", "Only their owner and group may read tokens, keys and passwords.")]


def tls(config: Config) -> list[Finding]:
    """Whether certificate and key belong together, and for how long."""
    server = config.server
    if not server.cert:
        return []
    try:
        context = tls_context(server)
    except CaptiondError as error:
        return [failed("tls", error)]
    assert context is not None  # there is a certificate
    try:
        shown = certificate_of(context, server.cert)
    except ssl.SSLError as error:
        reason = getattr(error, "verify_message", "") or error.reason or "it cannot be used"
        return [fail("tls", f"No client will take {server.cert}: {reason}.", "Renew the certificate.")]
    ends = ssl.cert_time_to_seconds(str(shown["notAfter"]))
    names = [str(value) for _, value in shown.get("subjectAltName", ())]
    text = f"The certificate is for {', '.join(names) or 'no name'} and ends on {shown['notAfter']}"
    if ends - time.time() < RENEW_S:
        return [warn("tls", f"{text}.", "Renew it.")]
    if not names:
        return [warn("tls", f"{text}; browsers want a subjectAltName.", "Make one with names in it.")]
    return [ok("tls", f"{text}.")]


def certificate_of(context: ssl.SSLContext, trusted: str) -> dict[str, Any]:
    """What a client that trusts the file is shown, by a handshake in memory. Raises SSLError."""
    trust = ssl.create_default_context()
    trust.check_hostname = False
    trust.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # who issued it does not matter here
    trust.load_verify_locations(trusted)
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = trust.wrap_bio(to_client, to_server)
    ours = context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):  # flights of a handshake
        for side in (client, ours):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return dict(client.getpeercert() or {})


def files(config: Config) -> list[Finding]:
    """Whether captions can be written to files, where that is asked for."""
    folder = Path(config.files.folder)
    if not config.files.folder:
        return []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        free = shutil.disk_usage(folder).free
    except OSError as error:
        advice = "Give the daemon's user the folder, or set files.folder to another one."
        return [fail("files", f"files.folder: {folder} cannot be written ({error.strerror}).", advice)]
    text = f"{folder} can be written; {free / GIB:.1f} GiB are free"
    return [ok("files", f"{text}.")] if free > GIB / 10 else [warn("files", f"{text}.", "Make room.")]


def service(config: Config) -> list[Finding]:
    """Whether systemd has a unit of ours, and what it makes of it."""
    unit = next((path for path in (p.expanduser() for p in UNITS) if path.is_file()), None)
    systemctl = shutil.which("systemctl")
    if unit is None:
        return [ok("service", "Not installed; 'captiond install-service' makes captiond a systemd service.")]
    scope = ["--user"] if "user" in unit.parts else []
    state = ""
    if systemctl:
        asked = [systemctl, *scope, "show", "captiond", "--property=ActiveState", "--value"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=SYSTEMCTL_S, check=False)
            state = done.stdout.strip()
        except (OSError, subprocess.TimeoutExpired):
            state = ""
    if state == "failed":
        advice = f"Look at: journalctl {' '.join([*scope, '-u', 'captiond', '-e'])}"
        return [warn("service", f"{unit} is installed and has failed.", advice)]
    return [ok("service", f"{unit} is installed{f' and {state}' if state else ''}.")]


def browsers(config: Config) -> list[Finding]:
    """What a browser will make of the addresses under which it may reach the daemon."""
    server = config.server
    if is_loopback(server.host):
        text = "Pages open on this machine alone, and there they may use the microphone."
        return [ok("browsers", text)]
    hints = []
    if not server.cert:
        hints.append("on other machines browsers give no microphone to a page without TLS (server.cert)")
    if not server.hosts:
        hints.append("only addresses and localhost are answered, no names (server.hosts)")
    if not server.tokens_file:
        hints.append("whoever reaches the port may listen and speak (server.tokens_file)")
    if hints:
        return [warn("browsers", f"This machine is reached at {server.host}: {'; '.join(hints)}.")]
    return [ok("browsers", f"They are answered as {', '.join(server.hosts)}, with TLS and tokens.")]
