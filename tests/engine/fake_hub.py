"""A model hub on loopback: the part of huggingface.co that a download asks for, with faults on request.

Serves one repository: its commit, its tree, and its files by HEAD and GET with the headers by which the
client names and checks what it stores (large files by their SHA-256, others by their git object id).
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


@dataclass
class FakeHub:
    """``files`` by name; ``sent`` replaces what goes over the wire; ``status`` fails all requests."""

    repository: str
    files: dict[str, bytes]
    sent: dict[str, bytes] = field(default_factory=dict)
    cut_after: dict[str, int] = field(default_factory=dict)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    address: str = ""

    def tree(self) -> list[dict[str, object]]:
        return [self._entry(name, content) for name, content in self.files.items()]

    def _entry(self, name: str, content: bytes) -> dict[str, object]:
        entry: dict[str, object] = {
            "type": "file",
            "path": name,
            "size": len(content),
            "oid": git_id(content),
        }
        if is_large(name):
            entry["lfs"] = {"oid": sha256(content), "size": len(content), "pointerSize": 134}
        return entry


def is_large(name: str) -> bool:
    return name.endswith((".safetensors", ".bin"))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class _Requests(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return None

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        if self.hub.status != 200:
            self.reply(self.hub.status, b"{}", {})
        elif path.startswith(f"/api/models/{self.hub.repository}/tree/"):
            self.reply(200, json.dumps(self.hub.tree()).encode(), {})
        elif path.startswith(f"/api/models/{self.hub.repository}"):
            siblings = [{"rfilename": name} for name in self.hub.files]
            info = {"id": self.hub.repository, "modelId": self.hub.repository, "sha": COMMIT}
            info |= {"siblings": siblings}
            self.reply(200, json.dumps(info).encode(), {})
        elif path.startswith(f"/{self.hub.repository}/resolve/"):
            self.file(path.rpartition("/")[2])
        else:
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def file(self, name: str) -> None:
        if name not in self.hub.files:
            self.reply(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return
        content = self.hub.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{git_id(content)}"', "Accept-Ranges": "bytes"}
        if is_large(name):
            headers |= {"X-Linked-Etag": f'"{sha256(content)}"', "X-Linked-Size": str(len(content))}
        self.reply(200, self.hub.sent.get(name, content), headers, self.hub.cut_after.get(name))

    def reply(self, status: int, body: bytes, headers: dict[str, str], cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:cut])
            if cut is not None:
                self.close_connection = True


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """``hub`` reachable at ``hub.address`` until the end of the block."""
    requests = type("Requests", (_Requests,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), requests)
    thread = threading.Thread(target=server.serve_forever, name="fake-hub", daemon=True)
    thread.start()
    hub.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
