"""What may be decoded: containers, codecs, addresses. Everything else that FFmpeg knows stays shut.

Takes and gives names. Imported by the daemon and by the decoding child; knows neither.
"""

from __future__ import annotations

import importlib.util
from urllib.parse import urlsplit

ADVICE = "Install it with: pip install 'captiond[av]'."

# Of a websocket: what a client calls it, and FFmpeg's name of the demuxer.
STREAMED = {"opus": "ogg", "webm": "webm"}

# FFmpeg's names of demuxers; "rtp" and "sdp" are parts of RTSP, "live_flv" and "flv" of RTMP.
DEMUXERS = (
    *("ogg", "matroska", "webm", "mov", "mp4", "m4a", "3gp", "3g2", "mj2", "mp3", "flac", "wav", "w64"),
    *("aac", "adts", "loas", "latm", "mpegts", "mpeg", "aiff", "au", "caf", "amr", "ac3", "eac3", "asf"),
    *("avi", "flv", "live_flv", "hls", "rtsp", "rtp", "sdp"),
)
CODECS = (
    *("opus", "libopus", "vorbis", "aac", "aac_latm", "alac", "flac", "mp1", "mp1float", "mp2", "mp2float"),
    *("mp3", "mp3float", "ac3", "eac3", "speex", "amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb"),
    *("g722", "g726", "g726le", "gsm", "gsm_ms", "adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ms", "wmav1"),
    *("wmav2", "wmapro", "pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be"),
    *("pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_s32be", "pcm_f32le", "pcm_f32be", "pcm_f64le"),
    *("pcm_f64be", "pcm_bluray"),
)
# What FFmpeg may open by itself, whatever a playlist or a redirect says. No "file", "pipe" or "data".
PROTOCOLS = ("http", "https", "httpproxy", "tls", "tcp", "udp", "rtp", "rtmp", "rtmps", "crypto")
SCHEMES = ("http", "https", "rtsp", "rtsps", "rtmp", "rtmps")

LEAST_RATE_HZ, MOST_RATE_HZ = 4_000, 384_000  # beyond it, a few bytes could ask for hours of sound
MOST_CHANNELS = 64


def installed() -> bool:
    """Whether PyAV is there; it is not imported."""
    return importlib.util.find_spec("av") is not None


def url_fault(url: str) -> str | None:
    """What is wrong with the address of a network source, in words that do not repeat it; None: nothing."""
    if not url.isprintable() or " " in url:
        return "it holds blanks or control characters"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port  # the port is checked when it is read
    except ValueError:
        return "its host or port cannot be read"
    if parts.scheme not in SCHEMES:
        return f"it does not begin with one of {', '.join(f'{scheme}://' for scheme in SCHEMES)}"
    return None if host else "it names no host"
