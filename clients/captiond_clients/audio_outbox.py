"""What a speaker has sent and may have to send again: audio and control messages, in order, bounded.

Positions are bytes since the first audio of this speaker. Takes what is sent and what is known to be
answered; gives what to send after a resume. Knows no socket and no clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from captiond_clients.events import AudioLost

Encoding = Literal["pcm_s16le", "pcm_f32le", "pcm_mulaw", "pcm_alaw"]

SAMPLE_BYTES: dict[Encoding, int] = {"pcm_s16le": 2, "pcm_f32le": 4, "pcm_mulaw": 1, "pcm_alaw": 1}
_SILENT_BYTE: dict[Encoding, bytes] = {
    "pcm_s16le": b"\x00",
    "pcm_f32le": b"\x00",
    "pcm_mulaw": b"\xff",  # ITU-T G.711: the code of +0
    "pcm_alaw": b"\xd5",
}


@dataclass(frozen=True, slots=True)
class AudioShape:
    """How audio bytes map to stream time."""

    encoding: Encoding = "pcm_s16le"
    rate: int = 16_000
    channels: int = 1

    @property
    def frame_bytes(self) -> int:
        return SAMPLE_BYTES[self.encoding] * self.channels

    def bytes_of(self, milliseconds: float) -> int:
        return round(milliseconds * self.rate / 1000) * self.frame_bytes

    def ms_of(self, size: int) -> int:
        return size * 1000 // (self.rate * self.frame_bytes)

    def silence(self, size: int) -> bytes:
        return _SILENT_BYTE[self.encoding] * size


class AudioOutbox:
    """The last ``limit_ms`` of audio. When full the oldest goes: a resume from there gets silence for it."""

    def __init__(self, shape: AudioShape, limit_ms: int) -> None:
        self.shape = shape
        self.end = 0  # position after the newest audio
        self._limit = shape.bytes_of(limit_ms)
        self._audio: deque[bytes] = deque()
        self._start = 0  # position of the oldest audio still held
        self._controls: deque[tuple[int, str]] = deque()
        self._zero = 0  # position of the server's time 0; moves when the server starts a new stream

    @property
    def start(self) -> int:
        return self._start

    def add_audio(self, audio: bytes) -> None:
        missing = -self.end % self.shape.frame_bytes  # pieces are joined so that each begins with a sample
        if missing and self._audio:
            self._audio[-1] += audio[:missing]
            self.end += len(audio[:missing])
            audio = audio[missing:]
        if audio:
            self._audio.append(audio)
            self.end += len(audio)
        while self._audio and self.end - self._start - len(self._audio[0]) >= self._limit:
            self._start += len(self._audio.popleft())

    def add_control(self, message: str) -> None:
        self._controls.append((self.end, message))

    def control_answered(self) -> None:
        """The oldest control message has had its answer."""
        if self._controls:
            self._controls.popleft()

    def answered(self, until_ms: int) -> None:
        """Everything before this server time has had its final: it need never be sent again."""
        known = min(self.position(until_ms), self.end - self.end % self.shape.frame_bytes)
        while self._audio and self._start + len(self._audio[0]) <= known:
            self._start += len(self._audio.popleft())
        if self._audio and self._start < known:
            self._audio[0] = self._audio[0][known - self._start :]
            self._start = known

    def position(self, server_ms: int) -> int:
        return self._zero + self.shape.bytes_of(server_ms)

    def server_ms(self, position: int) -> int:
        return self.shape.ms_of(max(0, position - self._zero))

    def missing(self, from_ms: int, stream: str | None) -> AudioLost:
        """From this server time to the oldest audio that is still held: what can no longer be sent."""
        until_ms = self.server_ms(self._start)
        return AudioLost(type="audio.lost", stream=stream, start_ms=from_ms, end_ms=until_ms, reason="outbox")

    def start_over(self) -> None:
        """The server begins a new stream at time 0: what is still held is its first audio."""
        self._zero = self._start

    def replay(self, heard: int) -> Iterator[bytes | str]:
        """Audio from position ``heard`` on, with the unanswered control messages at their places."""
        if heard < self._start:
            yield self.shape.silence(self._start - heard)  # keeps time; the caller reports the loss
        controls = deque(self._controls)
        at = max(heard, self._start)
        for piece in self._from(at):
            done = 0
            while controls and controls[0][0] < at + len(piece):
                until = max(done, controls[0][0] - at)
                if until > done:
                    yield piece[done:until]
                yield controls.popleft()[1]
                done = until
            yield piece[done:]
            at += len(piece)
        yield from (message for _, message in controls)

    def _from(self, position: int) -> Iterator[bytes]:
        at = self._start
        for piece in list(self._audio):
            if at + len(piece) > position:
                yield piece[max(0, position - at) :]
            at += len(piece)
