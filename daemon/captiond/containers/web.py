"""https for a decoding child: every address that FFmpeg asks for, fetched with its certificate checked.

Takes: an address of the operator's configuration. Gives: what PyAV calls to open it, and the playlists and
segments behind it. FFmpeg by itself checks nothing of an HLS segment's certificate. What began as https
stays https, through redirects and playlists; other schemes are refused. Knows no media.
"""

from __future__ import annotations

import base64
import encodings.idna  # a host's name needs it, and nothing is imported any more once we are confined
import http.client
import ssl
import urllib.request
from collections.abc import Callable
from typing import IO, NoReturn
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Fetcher", "encodings"]

USER_AGENT = "captiond"
PLAYLISTS = ("application/vnd.apple.mpegurl", "application/x-mpegurl", "audio/mpegurl", "audio/x-mpegurl")


class Refused(OSError):
    """An address that is not opened; ``strerror`` says why and does not repeat it."""


class Forbidden(Refused):
    """An address that leads where none may: nothing else of the same server is believed either."""


class _Redirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        _refuse_other(newurl)
        following = super().redirect_request(req, fp, code, msg, headers, newurl)
        if following and following.host != req.host:
            following.remove_header("Authorization")
        return following


class Fetcher:
    """Opens addresses for PyAV. ``url``: the first, without what was secret in the address that was given.

    ``give_up`` is told of a forbidden one, and does not return: FFmpeg would go on with the next segment.
    """

    def __init__(self, given: str, timeout_s: float, give_up: Callable[[Exception], NoReturn]) -> None:
        parts = urlsplit(given)
        self._host = parts.hostname, parts.port
        self._timeout_s = timeout_s
        self._give_up = give_up
        self.fault = ""  # why the last address could not be had; FFmpeg goes on without it, and forgets why
        self._first: Response | None = None  # opened, and not asked for by FFmpeg yet
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = "Basic " + base64.b64encode(pair.encode()).decode()
        self.url = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        self._opener = urllib.request.OpenerDirector()
        for each in (
            urllib.request.ProxyHandler(),
            urllib.request.HTTPSHandler(context=ssl.create_default_context()),
            _Redirect(),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
        ):
            self._opener.add_handler(each)

    def format(self) -> str | None:
        """What the server calls it, where that matters: a playlist may have any name. Raises Refused."""
        self._first = self.open(self.url)
        return "hls" if self._first.kind in PLAYLISTS else None

    def open(self, url: str, flags: int = 0, options: dict[str, str] | None = None) -> Response:
        """As PyAV's ``io_open``. Raises Refused."""
        if self._first is not None and url == self.url:
            first, self._first = self._first, None
            return first
        try:
            return self._open(url)
        except Forbidden as error:
            self._give_up(error)
        except Refused as error:
            self.fault = str(error.strerror)
            raise

    def _open(self, url: str) -> Response:
        _refuse_other(url)
        parts = urlsplit(url)
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
        if self._authorization and (parts.hostname, parts.port) == self._host:
            request.add_header("Authorization", self._authorization)
        try:
            return Response(self._opener.open(request, timeout=self._timeout_s))
        except Refused:
            raise
        except HTTPError as error:
            raise Refused(0, f"the server answers {error.code}") from None
        except URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                words = f"the server's certificate: {error.reason.verify_message}"
                raise Forbidden(0, words) from None
            raise Refused(0, _words(error.reason)) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Refused(0, f"the server's answer cannot be read ({_words(error)})") from None


class Response:
    """An answer's body as PyAV reads it: what has come, without waiting for more."""

    def __init__(self, body: http.client.HTTPResponse) -> None:
        self._body = body
        self.kind = body.headers.get_content_type()

    def read(self, size: int) -> bytes:
        try:
            return self._body.read1(size)
        except http.client.HTTPException as error:
            raise Refused(0, f"the server's answer broke off ({type(error).__name__})") from None

    def close(self) -> None:
        self._body.close()


def _refuse_other(url: str) -> None:
    scheme = urlsplit(url).scheme
    if scheme.startswith("crypto"):
        raise Forbidden(0, "it is encrypted (HLS with AES-128), which is not read through https")
    if scheme != "https":
        raise Forbidden(0, "it leads from https to something else")


def _words(reason: object) -> str:
    """What an error says of itself; never an address."""
    return str(getattr(reason, "strerror", None) or type(reason).__name__)
