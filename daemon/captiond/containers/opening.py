"""How PyAV is asked to open something: what it may look at, and how long it may look before sound comes.

Takes: the daemon's request, and what to read it with. Gives: an open container. Part of the decoding child.
"""

from __future__ import annotations

import os
from typing import Any, Protocol

import av

from captiond.containers import media

FEW_BYTES = 16_384  # read at once of what comes from the daemon
LISTS = {"format_whitelist": ",".join(media.DEMUXERS), "codec_whitelist": ",".join(media.CODECS)}
BYTES_ALONE = LISTS | {"protocol_whitelist": "none"}  # nothing else is opened, whatever a container asks for
# Nothing is guessed ahead: sound comes out with the packet that it is in.
AT_ONCE = BYTES_ALONE | {"probesize": "32", "analyzeduration": "0"}
LIVE = LISTS | {
    "protocol_whitelist": ",".join(media.PROTOCOLS),
    "probesize": "500000",
    "analyzeduration": "2000000",
    "rtsp_transport": "tcp",
    "allowed_media_types": "audio",
    "live_start_index": "-1",  # HLS: what is said now, not what was said three segments ago
    "user_agent": "captiond",
    "http_persistent": "0",  # PyAV's own opening of addresses knows no connection that stays
    "http_multiple": "0",
}


class Readable(Protocol):
    def read(self, size: int) -> bytes: ...


def open_stream(name: str, inlet: Readable) -> Any:
    """A container of FFmpeg's format ``name`` whose bytes come as they are recorded."""
    return _open(inlet, AT_ONCE, format=name, buffer_size=FEW_BYTES)


def open_file(descriptor: int) -> Any:
    """A file that the daemon has opened."""
    return _open(os.fdopen(descriptor, "rb", buffering=0), BYTES_ALONE)


def open_address(url: str, timeout_s: float, fetcher: Any = None) -> Any:
    """What an address gives. With a ``fetcher`` (see ``web``) FFmpeg opens nothing by itself."""
    microseconds = str(round(timeout_s * 1e6))
    options = LIVE | {"rw_timeout": microseconds, "timeout": microseconds}
    both = timeout_s, timeout_s  # to open, and for each read
    if fetcher is None:
        return _open(url, options, timeout=both)
    return _open(fetcher.url, options, timeout=both, format=fetcher.format(), io_open=fetcher.open)


def _open(what: Any, options: dict[str, str], **more: Any) -> Any:
    # Titles in any encoding, or in none, are no reason to hear nothing.
    return av.open(what, "r", container_options=options, metadata_errors="replace", **more)
