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
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit, urlunsplit

__all__ = ["Fetcher", "encodings"]

USER_AGENT = "captiond"


class Refused(OSError):
    """An address that is not opened; the message does not repeat it."""


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
    """Opens addresses for PyAV. ``url``: the first, without what was secret in the address that was given."""

    def __init__(self, given: str, timeout_s: float) -> None:
        parts = urlsplit(given)
        self._host = parts.hostname, parts.port
        self._timeout_s = timeout_s
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

    def open(self, url: str, flags: int, options: dict[str, str]) -> Response:
        """As PyAV's ``io_open``. Raises OSError, whose ``strerror`` says why in words."""
        _refuse_other(url)
        parts = urlsplit(url)
        request = urllib.request.Request(url, headers={"User-Agent": USER_AGENT})
        if self._authorization and (parts.hostname, parts.port) == self._host:
            request.add_header("Authorization", self._authorization)
        try:
            return Response(self._opener.open(request, timeout=self._timeout_s))
        except HTTPError as error:
            raise Refused(0, f"the server answers {error.code}") from None
        except URLError as error:
            reason = error.reason
            raise Refused(0, getattr(reason, "verify_message", "") or _words(reason)) from None
        except (http.client.HTTPException, ValueError) as error:
            raise Refused(0, f"the server's answer cannot be read ({type(error).__name__})") from None


class Response:
    """An answer's body as PyAV reads it: what has come, without waiting for more."""

    def __init__(self, body: http.client.HTTPResponse) -> None:
        self._body = body

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
        raise Refused(0, "it is encrypted (HLS with AES-128), which is not read through https")
    if scheme != "https":
        raise Refused(0, "it leads from https to something else")


def _words(reason: object) -> str:
    return str(getattr(reason, "strerror", None) or reason)
