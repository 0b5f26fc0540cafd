"""What a client may say: text messages in, checked values out, or an error with a stable code.

An unknown type is ignored, for clients newer than this daemon; a known field with a wrong value is not.
Knows no socket and no stream.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, Struct, UnsetType

from captiond.wire import VERSION

MAX_HEARD_TEXT = 80  # how much of a stranger's text an error message repeats


class Flush(Struct, frozen=True, tag_field="type", tag="flush"):
    """Finish what has been heard so far."""


class End(Struct, frozen=True, tag_field="type", tag="end"):
    """No more audio."""


class Keepalive(Struct, frozen=True, tag_field="type", tag="keepalive"):
    """Nothing, but the client lives."""


class Configure(Struct, frozen=True, tag_field="type", tag="configure"):
    """From the next segment on."""

    language: str | UnsetType = UNSET
    prompt: str | UnsetType = UNSET


ClientMessage = Flush | End | Keepalive | Configure
_KNOWN: dict[str, type[ClientMessage]] = {
    "flush": Flush,
    "end": End,
    "keepalive": Keepalive,
    "configure": Configure,
}


class ClientError(Exception):
    """A message or a query that cannot be used; ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def parse_client_message(text: str) -> ClientMessage | None:
    """A client's text message; None for a type that we do not know. Raises ClientError."""
    try:
        data = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise ClientError(
            "invalid_json",
            f"A text message must be a JSON object, not {quote(text)}. Audio goes into binary messages.",
        ) from None
    kind = data.get("type") if isinstance(data, dict) else None
    if not isinstance(kind, str):
        raise ClientError("invalid_message", 'A text message must be a JSON object with a "type".')
    if data.get("v", VERSION) != VERSION:
        raise ClientError("unsupported_version", f'This daemon speaks "v": {VERSION}.')
    if kind not in _KNOWN:
        return None
    try:
        return msgspec.convert(data, _KNOWN[kind])
    except msgspec.ValidationError as error:
        what, _, where = str(error).replace("`", "").partition(" - at $.")
        raise ClientError(
            "invalid_value", f"{kind}: {where or 'message'}: {what[:1].lower()}{what[1:]}."
        ) from None


def quote(text: str) -> str:
    """A stranger's text, shortened, with nothing in it that a terminal would obey."""
    short = text if len(text) <= MAX_HEARD_TEXT else text[:MAX_HEARD_TEXT] + "…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short) + '"'
