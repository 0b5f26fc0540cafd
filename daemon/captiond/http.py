"""The one port before the upgrade: plain GETs are answered, websockets are let through or refused.

Takes: a request. Gives: a response, or None to go on with the websocket. Knows the routes' names and
who may use them, not what they do.
"""

from __future__ import annotations

import asyncio
import email.utils
import importlib.util
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

import msgspec
from captiond_engine.types import ms_from_samples
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_subprotocol
from websockets.http11 import Request, Response

from captiond.access import Access, shown_tokens
from captiond.admission import LATE, Admission
from captiond.context import Context
from captiond.door import Entrance
from captiond.load import Load
from captiond.messages import ClientError
from captiond.metrics import Metrics
from captiond.query import parse_speak
from captiond.readiness import Readiness

RETRY_AFTER_S = 2
RETRY_CAPACITY_S = 5  # speech that has ended, and speakers that have left, are seen by then
PROBES = ("/healthz", "/readyz")  # answered also to those who are one too many: to refuse costs as much
PAGES = {"/": "captions.html", "/overlay": "overlay.html"}
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
PAGE_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
# The pages are whole in themselves: nothing is fetched from elsewhere, nothing inline is obeyed.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
# Of what a browser asks its user for, the pages use the microphone, the screen and the clipboard.
PAGE_PERMISSIONS = (
    "microphone=(self), fullscreen=(self), screen-wake-lock=(self), clipboard-write=(self), "
    "camera=(), geolocation=(), display-capture=(), payment=(), usb=()"
)


class RefusedError(Exception):
    """A request that is not served. ``reason`` is one of ``metrics.REFUSALS``."""

    def __init__(self, reason: str, response: Response) -> None:
        super().__init__(reason)
        self.reason = reason
        self.response = response


class Front:
    """Answers every request of the port. ``context`` appears when the model is there."""

    def __init__(
        self,
        access: Access,
        admission: Admission,
        readiness: Readiness,
        routes: Collection[str],
        version: str,
        metrics: Metrics,
    ) -> None:
        self.context: Context | None = None
        self.access = access
        self.metrics = metrics
        self.admission = admission
        self.entrance: Entrance | None = None  # through which connections come, once the port is open
        self._readiness = readiness
        self._routes = routes
        self._version = version
        self._pages = pages_folder()
        self._plain: dict[str, Callable[[], Response]] = {
            "/healthz": self._health,
            "/readyz": self._ready,
            "/v1/streams": self._streams,
        }

    async def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """As ``websockets.asyncio.server.serve`` asks it; None lets the upgrade go on."""
        seat = self.entrance.seat_of(connection) if self.entrance else None
        if seat is not None:
            self.admission.ask(seat)
        try:
            response = self._answer(request, seat.late if seat else "")
        except RefusedError as refused:
            self.metrics.refused.labels(refused.reason).inc()
            response = refused.response
            if refused.reason == "token_wrong" and seat is not None:
                now = asyncio.get_running_loop().time()
                await asyncio.sleep(self.admission.wrong_token(seat.address, now))
        if response is not None and request.method == "HEAD":
            response.body = b""
        return response

    def _answer(self, request: Request, late: str) -> Response | None:
        """What a request is answered. ``late``: why its connection is one too many. Raises RefusedError."""
        path = request.path.partition("?")[0]
        if late and path not in PROBES:
            raise RefusedError(late, later(f"There are too many connections ({LATE[late]})."))
        try:
            host, origin = request.headers.get("Host"), request.headers.get("Origin")
            authorization = request.headers.get("Authorization")
            offered = [
                n
                for value in request.headers.get_all("Sec-WebSocket-Protocol")
                for n in parse_subprotocol(value)
            ]
        except (MultipleValuesError, InvalidHeader):
            text = "A header is given twice or cannot be read.\n"
            raise RefusedError("bad_request", answer(HTTPStatus.BAD_REQUEST, text)) from None
        if request.method not in ("GET", "HEAD"):
            refusal = answer(HTTPStatus.METHOD_NOT_ALLOWED, "Only GET and HEAD are answered here.\n")
            refusal.headers["Allow"] = "GET, HEAD"
            raise RefusedError("method", refusal)
        spoken = path.startswith("/v1/")
        # A page's modules are asked for with its origin, too: behind a proxy that changes our name, a page
        # that may not connect must still be able to say so.
        self._check_names(host, origin if spoken else None)
        if spoken:
            self._check_token(authorization, offered)
        if path in self._routes:
            self._admit(path, request.path)
            return None
        if path == "/metrics":
            kind, body = self.metrics.exposition(", ".join(request.headers.get_all("Accept")))
            return respond(HTTPStatus.OK, body, kind)
        if path in self._plain:
            return self._plain[path]()
        return self._page(path)

    def _check_names(self, host: str | None, origin: str | None) -> None:
        if not self.access.host_allowed(host):
            text = "This host name is not served here; server.hosts lists those that are.\n"
            raise RefusedError("host", answer(HTTPStatus.MISDIRECTED_REQUEST, text))
        if not self.access.origin_allowed(origin, host):
            text = "Pages of this origin are not let in; server.origins lists those that are.\n"
            raise RefusedError("origin", answer(HTTPStatus.FORBIDDEN, text))

    def _check_token(self, authorization: str | None, offered: Sequence[str]) -> None:
        if self.access.token_accepted(authorization, offered):
            return
        refusal = answer(HTTPStatus.UNAUTHORIZED, "A token of server.tokens_file is needed.\n")
        refusal.headers["WWW-Authenticate"] = 'Bearer realm="captiond"'
        shown = bool(shown_tokens(authorization, offered))
        raise RefusedError("token_wrong" if shown else "token_missing", refusal)

    def _admit(self, path: str, target: str) -> None:
        """Let a websocket in, unless it could not be served; HTTP can still say so then."""
        context = self.context
        reasons = self._readiness.stopping_or_loading()
        if context is None or reasons:
            text = " ".join(reasons) or "The model is not ready yet."
            raise RefusedError("unavailable", later(text))
        limits = context.config.limits
        if path == "/v1/captions" and context.hub.box_count() >= limits.max_subscribers:
            text = f"All {limits.max_subscribers} listeners' places are taken."
            raise RefusedError("full", later_why("overloaded", text))
        if path != "/v1/captions":
            self._admit_speaker(context, target)

    def _admit_speaker(self, context: Context, target: str) -> None:
        """Who comes back to its stream is always let in. A query that cannot be read is told so later on."""
        try:
            query = parse_speak(target)
        except ClientError:
            name, resuming = None, "resume=" in target
        else:
            name, resuming = query.stream, bool(query.resume)
        refusal = None if resuming else context.sessions.refusal(name)
        if refusal is not None:
            why = "capacity" if refusal.code == "capacity" else "full"
            raise RefusedError(why, later_why(refusal.code, refusal.message))

    def _health(self) -> Response:
        return json_answer(HTTPStatus.OK, {"alive": True, "version": self._version})

    def _ready(self) -> Response:
        reasons, degraded = self._readiness.reasons(), self._readiness.degraded()
        beside: dict[str, object] = {"degraded": degraded} if degraded else {}
        if self.context is not None:
            beside["load"] = told_load(self.context.sessions.load())
        if not reasons:
            return json_answer(HTTPStatus.OK, {"ready": True, "reasons": [], **beside})
        response = json_answer(HTTPStatus.SERVICE_UNAVAILABLE, {"ready": False, "reasons": reasons, **beside})
        response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    def _streams(self) -> Response:
        if self.context is None:
            return json_answer(HTTPStatus.OK, [])
        hub, of_speech = self.context.hub, self.context.sessions.load_of_speech
        return json_answer(
            HTTPStatus.OK,
            [
                {
                    "name": session.name,
                    "source": session.source,
                    "opened_at": datetime.fromtimestamp(session.opened_at, UTC).isoformat(
                        timespec="milliseconds"
                    ),
                    "heard_until_ms": ms_from_samples(session.heard_until),
                    "behind_ms": session.behind_ms,
                    "load": round(session.speech_share * of_speech, 3),
                    "subscribers": hub.listeners(session.feed),
                }
                for session in self.context.sessions.present()
            ],
        )

    def _page(self, path: str) -> Response:
        name = PAGES.get(path) or unquote(path).lstrip("/")
        body = read_page(self._pages, name) if self._pages else None
        if body is None:
            text = "There is nothing at this address.\n"
            raise RefusedError("not_found", answer(HTTPStatus.NOT_FOUND, text))
        response = respond(HTTPStatus.OK, body, PAGE_TYPES.get(Path(name).suffix, "application/octet-stream"))
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        response.headers["Permissions-Policy"] = PAGE_PERMISSIONS
        response.headers["Referrer-Policy"] = "no-referrer"
        return response


def pages_folder() -> Path | None:
    """Where the pages lie: inside the clients' package in a wheel, beside it in a checkout."""
    spec = importlib.util.find_spec("captiond_clients")
    for place in (spec.submodule_search_locations or []) if spec else []:
        for folder in (Path(place) / "web", Path(place).parent / "web"):
            if folder.is_dir():
                return folder.resolve()
    return None


def read_page(folder: Path, name: str) -> bytes | None:
    """A file of ``folder``; None for anything hidden, missing or outside of it."""
    if any(part.startswith(".") for part in Path(name).parts):
        return None
    try:
        path = (folder / name).resolve()
        return path.read_bytes() if path.is_relative_to(folder) and path.is_file() else None
    except (OSError, ValueError):  # a name that no file system takes
        return None


def later(reason: str) -> Response:
    response = answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def later_why(code: str, message: str) -> Response:
    """``later`` for a program, which is told the code that an ``error`` event would have."""
    response = json_answer(HTTPStatus.SERVICE_UNAVAILABLE, {"reason": code, "message": message})
    response.headers["Retry-After"] = str(RETRY_CAPACITY_S if code == "capacity" else RETRY_AFTER_S)
    return response


def told_load(load: Load) -> dict[str, object]:
    """Shares of the device's time, and how many more speakers would fit."""
    return {
        "share": round(load.needed, 3),
        "limit": load.limit,
        "speaker": round(load.newcomer, 3),
        "streams": load.streams,
        "more": load.more,
    }


def json_answer(status: HTTPStatus, value: object) -> Response:
    return respond(status, msgspec.json.encode(value), JSON)


def answer(status: HTTPStatus, text: str) -> Response:
    return respond(status, text.encode(), TEXT)


def respond(status: HTTPStatus, body: bytes, content_type: str) -> Response:
    headers = Headers(
        {
            "Date": email.utils.formatdate(usegmt=True),
            "Connection": "close",
            "Content-Length": str(len(body)),
            "Content-Type": content_type,
            "Cache-Control": "no-cache",
            "X-Content-Type-Options": "nosniff",
        }
    )
    return Response(status.value, status.phrase, headers, body)
