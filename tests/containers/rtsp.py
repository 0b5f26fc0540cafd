"""A camera's RTSP server, small as can be: one picture track, one G.711 track, RTP inside the TCP connection.

Takes: sound at 16 kHz. Gives: an address, and the requests that came. See RFC 2326 and RFC 3551.
"""

from __future__ import annotations

import base64
import re
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from captiond_engine.types import Float32Array

from tests.containers.recordings import Kind, record

PACKET = 160  # bytes and samples: 20 ms at 8 kHz
SDP = (
    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nc=IN IP4 0.0.0.0\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\na=control:video\r\n"
    "m=audio 0 RTP/AVP 0\r\na=rtpmap:0 PCMU/8000/1\r\na=control:audio\r\n"
)


class _Conversation(socketserver.StreamRequestHandler):
    server: Camera

    def handle(self) -> None:
        with suppress(ConnectionError):
            while head := self._request():
                method, address, number = head
                self.server.asked.append(f"{method} {address.rpartition('/')[2]}")
                if self.server.password and not self._may:
                    self._answer(number, "401 Unauthorized", 'WWW-Authenticate: Basic realm="camera"')
                elif method == "OPTIONS":
                    self._answer(number, "200 OK", "Public: DESCRIBE, SETUP, PLAY, TEARDOWN, GET_PARAMETER")
                elif method == "DESCRIBE":
                    self._answer(number, "200 OK", "Content-Type: application/sdp", body=SDP)
                elif method == "SETUP":
                    transport = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1"
                    self._answer(number, "200 OK", transport, "Session: 1")
                elif method == "PLAY":
                    self._answer(number, "200 OK", "Session: 1")
                    self._play()
                else:
                    self._answer(number, "200 OK", "Session: 1")

    def _request(self) -> tuple[str, str, str] | None:
        lines = []
        while line := self.rfile.readline().strip().decode():
            lines.append(line)
        if not lines:
            return None
        text = "\n".join(lines)
        method, address, _ = lines[0].split()
        number = re.search(r"CSeq: *(\d+)", text)
        pair = base64.b64encode(f"ann:{self.server.password}".encode()).decode()
        self._may = f"Basic {pair}" in text
        return method, address, number.group(1) if number else "0"

    def _answer(self, number: str, status: str, *headers: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {number}", *headers, f"Content-Length: {len(body)}", "", body]
        self.wfile.write("\r\n".join(lines).encode())

    def _play(self) -> None:
        sound = self.server.sound
        for index in range(0, len(sound) - PACKET, PACKET):
            head = struct.pack(">BBHII", 0x80, 0, index // PACKET & 0xFFFF, index, 7)
            packet = head + sound[index : index + PACKET]
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(packet)) + packet)
        self.server.closing.wait(120)


class Camera(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, pcm: Float32Array, password: str) -> None:
        super().__init__(("127.0.0.1", 0), _Conversation)
        wav = record(pcm, Kind("wav", "pcm_mulaw", 8_000))
        self.sound = wav[wav.index(b"data") + 8 :]
        self.password = password
        self.asked: list[str] = []
        self.closing = threading.Event()

    def url(self, path: str = "/camera") -> str:
        return f"rtsp://localhost:{self.server_address[1]}{path}"


@contextmanager
def camera(pcm: Float32Array, password: str = "") -> Iterator[Camera]:
    with Camera(pcm, password) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()
