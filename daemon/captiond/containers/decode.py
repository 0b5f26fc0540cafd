"""The decoding child: container bytes, a file or an address in; 16 kHz mono out. See ``framing``.

Takes: messages on standard input, the first of which says what to open. Gives: messages on standard output.
Runs as ``decoder`` starts it, alone in its process. Whatever goes wrong is told in one message, and ends it.
"""

from __future__ import annotations

import json
import os
import sys
from fractions import Fraction
from typing import Any, NoReturn

import av
import av.error
import av.stream
import av.subtitles.stream  # else imported with the first container, when nothing can be imported any more

from captiond.containers import media
from captiond.containers.confinement import confine
from captiond.containers.framing import HEADER, MOST_BYTES, SAMPLES, Kind, pack, read_exactly, write_all
from captiond.containers.opening import open_address, open_file, open_stream
from captiond.containers.sound import Mono, Timeline, Unsupported

STDIN, STDOUT = 0, 1
SILENT_BYTES = 16 << 20  # of a container without any sound in them
DAMAGED_IN_A_ROW = 100  # packets


class Failure(Exception):
    """What the daemon is told; ``code`` as in captiond's errors."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Outlet:
    """Sound on its way to the daemon. ``eager``: nothing waits here for more."""

    def __init__(self) -> None:
        self.eager = False
        self.sent = 0  # bytes of sound
        self._waiting = bytearray()

    def tell(self, kind: Kind, body: bytes = b"") -> None:
        self.flush()
        write_all(STDOUT, pack(kind, body))

    def sound(self, pcm: bytes) -> None:
        self._waiting += pcm
        self.sent += len(pcm)
        if self.eager or len(self._waiting) >= MOST_BYTES:
            self.flush()

    def flush(self) -> None:
        for start in range(0, len(self._waiting), MOST_BYTES):
            write_all(STDOUT, pack(Kind.AUDIO, bytes(self._waiting[start : start + MOST_BYTES])))
        self._waiting.clear()


class Inlet:
    """Bytes that come as messages, as a file that PyAV reads. Answers marks once all before them is out."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._left = 0  # bytes of the message that is being read
        self._silent = 0
        self._sent = 0

    def read(self, size: int) -> bytes:
        # Whoever asks for more has made sound of all that could be: a mark that comes now is reached.
        self._outlet.flush()
        while not self._left:
            try:
                kind, length = HEADER.unpack(read_exactly(STDIN, HEADER.size))
            except EOFError:
                return b""
            if kind == Kind.MARK:
                self._outlet.tell(Kind.MARK, read_exactly(STDIN, length))
            else:
                self._left = length
        data = os.read(STDIN, min(size, self._left))
        self._left -= len(data)
        self._watch(len(data))
        return data

    def _watch(self, count: int) -> None:
        if self._outlet.sent != self._sent:
            self._sent, self._silent = self._outlet.sent, 0
        self._silent += count
        if self._silent > SILENT_BYTES:
            raise Failure("audio_invalid", f"There is no sound in {SILENT_BYTES >> 20} MiB of it.")


class Decoding:
    """One audio stream of an open container, until its end."""

    def __init__(self, container: Any, outlet: Outlet, *, from_start: bool) -> None:
        self._container = container
        self._outlet = outlet
        self._stream = _best_audio(container)
        start = container.start_time
        begins = Fraction(start, av.time_base) if from_start and start is not None else None
        self._timeline = Timeline(begins)
        self._mono = Mono()
        self._damaged = 0

    def describe(self) -> dict[str, object]:
        context, duration = self._stream.codec_context, self._container.duration
        return {
            "format": self._container.format.name,
            "codec": context.name,
            "rate_hz": context.sample_rate,
            "length_ms": None if duration is None or duration < 0 else duration // 1_000,
        }

    def run(self) -> None:
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                self._damaged += 1  # a packet that was spoilt on its way is left out
                if self._damaged >= DAMAGED_IN_A_ROW:
                    raise
                continue
            for frame in frames:
                self._damaged = 0
                self._sound(frame)
        for pcm in self._mono.finish():
            self._outlet.sound(pcm)

    def _sound(self, frame: Any) -> None:
        gap = self._timeline.gap_before(frame)
        if gap:
            self._outlet.tell(Kind.GAP, SAMPLES.pack(gap))
        for pcm in self._mono.convert(frame):
            self._outlet.sound(pcm)


def _best_audio(container: Any) -> Any:
    best = container.streams.best("audio")
    if best is None:
        raise Failure("audio_invalid", "There is no audio in it.")
    context = best.codec_context
    if context is None or context.name not in media.CODECS:
        raise Failure(
            "audio_unsupported", f"Its codec ({context.name if context else 'unknown'}) is not read."
        )
    context.thread_count = 1
    for stream in container.streams:
        if stream is not best:
            stream.discard = av.stream.Discard.all  # pictures, and what else a playlist offers
    return best


def main(parent: int) -> None:
    """Decode what the first message asks for, until its end. Never returns after a failure."""
    outlet = Outlet()
    sys.excepthook = lambda kind, error, trace: _tell_failure(error, outlet)
    kind, length = HEADER.unpack(read_exactly(STDIN, HEADER.size))
    if kind != Kind.OPEN or length > MOST_BYTES:
        raise Failure("decoder_failed", "The first message was no request.")
    request = json.loads(read_exactly(STDIN, length))
    fetcher = None
    network = request["mode"] == "url"
    if network and request["url"].startswith("https:"):
        from captiond.containers.web import Fetcher  # here, as most children fetch nothing

        fetcher = Fetcher(
            request["url"], float(request["timeout_s"]), lambda error: _tell_failure(error, outlet)
        )
    outlet.eager = network
    enforced = confine(parent, network=network, file=request["mode"] == "file")
    outlet.tell(Kind.READY, json.dumps(enforced).encode())
    try:
        decode(request, outlet, fetcher)
    except av.error.FFmpegError:
        if fetcher is None or not fetcher.fault:
            raise
        raise Failure("audio_invalid", f"It cannot be read ({fetcher.fault}).") from None
    outlet.tell(Kind.DONE)


def decode(request: dict[str, Any], outlet: Outlet, fetcher: Any) -> None:
    """All of one container."""
    match request["mode"]:
        case "bytes":
            container = open_stream(request["format"], Inlet(outlet))
        case "file":
            container = open_file(request["descriptor"])
        case _:
            container = open_address(request["url"], float(request["timeout_s"]), fetcher)
    with container:
        decoding = Decoding(container, outlet, from_start=request["mode"] == "file")
        outlet.tell(Kind.OPENED, json.dumps(decoding.describe()).encode())
        decoding.run()


def _tell_failure(error: BaseException, outlet: Outlet) -> NoReturn:
    """The last word of a child that fails, whatever it was: nothing else of it can be seen."""
    if not isinstance(error, BrokenPipeError):  # else nobody listens any more
        code, message = _explain(error)
        outlet.tell(Kind.FAILED, json.dumps({"code": code, "message": message[:400]}).encode())
    os._exit(1)


def _explain(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Failure):
        return error.code, str(error)
    if isinstance(error, Unsupported):
        return "audio_unsupported", str(error)
    # FFmpeg's own text may repeat an address with a password in it; its reason alone does not.
    reason = getattr(error, "strerror", None)
    if isinstance(error, MemoryError) or getattr(error, "errno", 0) == 12:
        return "decoder_failed", "It asks for more memory than one stream may have."
    if isinstance(error, av.error.InvalidDataError):
        return "audio_invalid", "It is damaged, or of a format that is not read."
    if isinstance(error, av.error.ExitError):
        return "audio_invalid", "Its server has said nothing for too long."
    if isinstance(error, av.error.FFmpegError | OSError) and reason:
        return "audio_invalid", f"It cannot be read ({reason})."
    return "decoder_failed", f"The decoder has failed ({type(error).__name__})."
