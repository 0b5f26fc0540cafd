"""All sessions: who may open one, who may come back to one, and how they end together.

Takes: a name, wishes and limits. Gives: sessions with a seat on the engine, or a ``ClientError`` that
says why not. Knows no websocket; one client's trouble is not known to another.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from captiond_engine.engine import Engine
from captiond_engine.scheduler import Scheduler
from captiond_engine.speech_model import ModelTraits, Tokenizer
from captiond_engine.stream_settings import StreamSettings

from captiond.config import Config
from captiond.hub import Hub
from captiond.load import CADENCE_S, Load
from captiond.mailbox import Mailbox
from captiond.messages import ClientError, quote
from captiond.segments import read_ahead, stream_settings
from captiond.session import CloseReason, Session

log = logging.getLogger(__name__)

MAX_PROMPT_TOKENS = 224  # half of Whisper's text context, as openai-whisper keeps of a prompt
MAX_PROMPT_CHARACTERS = 4_096
CONTROL_TOKEN = re.compile(r"<\|[^|<>]*\|>")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a client may choose of its stream; None and "" leave it to the configuration."""

    language: str | None = None
    prompt: str = ""
    partials: bool = True


class Sessions:
    """The open sessions by name."""

    def __init__(
        self,
        config: Config,
        engine: Engine,
        scheduler: Scheduler,
        hub: Hub,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._config = config
        self._engine = engine
        self._scheduler = scheduler
        self._hub = hub
        self._wall_clock = wall_clock
        self._sessions: dict[str, Session] = {}
        self._slots: dict[Session, int] = {}
        self._stopping = False

    async def open(
        self,
        name: str | None,
        source: str,
        wishes: Wishes,
        owner: object,
        box: Mailbox | None = None,
        *,
        guest: bool = False,
    ) -> Session:
        """A new session. Raises ClientError when the name is taken or there is no seat.

        A session that nobody speaks into gives way, and its tail is waited for: a final is never dropped. A
        ``guest``, other than a source that is configured, is refused where the device has no time for it.
        """
        settings = self._settings(wishes)  # a wrong wish costs nobody a seat
        name = name or self._free_name()
        while in_the_way := self._in_the_way(name, guest=guest):
            guest = guest and in_the_way.name != name  # who opens a name anew adds nothing
            in_the_way.end("replaced")
            await in_the_way.closed.wait()
        slot = next(number for number in range(len(self._slots) + 1) if number not in self._slots.values())
        session = Session(
            self._hub.feed(name),
            self._engine.open_stream(name, settings, slot=slot),
            hub=self._hub,
            scheduler=self._scheduler,
            limits=self._config.limits,
            read_ahead=read_ahead(self._config, settings),
            suppressed_text=self._config.privacy.suppressed_text,
            source=source,
            opened_at=self._wall_clock(),
            on_closed=self._closed,
        )
        self._sessions[name] = session
        self._slots[session] = slot
        session.take(owner, box)
        session.open()
        return session

    def give_token(self, session: Session) -> str:
        """A token with which the speaker of ``session`` may come back."""
        session.token = session.token or secrets.token_urlsafe(18)
        return session.token

    def resume(self, token: str, owner: object, box: Mailbox) -> tuple[Session, object | None]:
        """The session of ``token``, now ``owner``'s, and whoever spoke into it before, if still there."""
        for session in self._sessions.values():
            known = session.token or ""
            if known and secrets.compare_digest(known.encode(), token.encode()) and not session.closing:
                before = session.owner
                session.take(owner, box)
                return session, before
        raise ClientError(
            "resume_unknown", "This resume token is not known, or its time is over. Open a new stream."
        )

    def reconfigure(self, config: Config) -> None:
        """For streams that are opened from now on."""
        self._config = config

    def refusal(self, name: str | None) -> ClientError | None:
        """Why a guest who asks for ``name`` would find no seat now; None where one is free."""
        present = self._sessions.get(name or "")
        load = self.load()
        if self._stopping or not load.seats:
            return self._overloaded()
        if load.refusal and (present is None or present.owner is not None):
            return ClientError("capacity", load.refusal)
        return None

    def load(self) -> Load:
        """What those need who speak now; who lost its connection needs nothing until it is back."""
        speaking = [s for s in self._sessions.values() if s.owner is not None and not s.closing]
        owned = sum(s.owner is not None for s in self._sessions.values())
        newcomer = self.load_of_speech
        return Load(
            needed=sum(session.speech_share for session in speaking) * newcomer,
            newcomer=newcomer,
            streams=len(speaking),
            limit=self._config.limits.load,
            seats=max(0, self._limit - owned),
        )

    @property
    def load_of_speech(self) -> float:
        """Share of the device's time that a stream needs which speaks without pause."""
        cadence_s = max(CADENCE_S, self._config.segment.partial_step_ms / 1000)
        return self._scheduler.capacity.per_speaker(cadence_s)

    def present(self) -> list[Session]:
        return list(self._sessions.values())

    def wish(self, language: str | None, prompt: str | None) -> tuple[str | None, str | None]:
        """A client's ``language`` and ``prompt`` as the engine takes them. Raises ClientError."""
        checked = None if language is None else check_language(language, self._engine.traits)
        return checked, None if prompt is None else clean_prompt(prompt, self._engine.tokenizer)

    async def drain(self, reason: CloseReason) -> None:
        """End every session and wait until each has said its last."""
        self._stopping = True
        ending = self.present()
        for session in ending:
            session.end(reason)
        for session in ending:
            await session.closed.wait()

    @property
    def _limit(self) -> int:
        return self._config.limits.max_streams

    def _settings(self, wishes: Wishes) -> StreamSettings:
        language, hints = self.wish(wishes.language or self._config.model.language or None, wishes.prompt)
        return stream_settings(
            self._config, self._engine.traits, language, hints or "", partials=wishes.partials
        )

    def _free_name(self) -> str:
        while True:
            name = f"stream-{secrets.token_hex(3)}"
            if name not in self._sessions:
                return name

    def _overloaded(self) -> ClientError:
        return ClientError("overloaded", f"All {self._limit} streams are taken. Try again later.")

    def _in_the_way(self, name: str, *, guest: bool) -> Session | None:
        """A session that must end before ``name`` can be opened; None when there is room."""
        if self._stopping:
            raise ClientError("shutting_down", "The daemon is stopping.")
        present = self._sessions.get(name)
        if present:
            if present.owner is not None and not present.closing:
                raise ClientError("stream_taken", f"Somebody else is speaking into stream {quote(name)}.")
            return present
        refusal = self.load().refusal if guest else None
        if refusal:
            raise ClientError("capacity", refusal)
        if len(self._sessions) < self._limit:
            return None
        ending = [s for s in self._sessions.values() if s.owner is None or s.closing]
        if not ending:
            raise self._overloaded()
        return ending[0]

    def _closed(self, session: Session) -> None:
        if self._sessions.get(session.name) is session:
            del self._sessions[session.name]
        self._slots.pop(session, None)


def check_language(language: str, traits: ModelTraits) -> str:
    """``language`` if the model of ``traits`` speaks it, or "auto". Raises ClientError."""
    if language == "auto" or language in traits.languages:
        return language
    known = ", ".join(("auto", *traits.languages))
    raise ClientError(
        "invalid_value", f"Model {traits.name} has no language {quote(language)}; it knows {known}."
    )


def clean_prompt(prompt: str, tokenizer: Tokenizer) -> str:
    """Spelling hints without control tokens or control characters; the last 224 tokens."""
    text = CONTROL_TOKEN.sub(" ", prompt[-MAX_PROMPT_CHARACTERS:])
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    tokens = tokenizer.encode(text)
    return text if len(tokens) <= MAX_PROMPT_TOKENS else tokenizer.decode(tokens[-MAX_PROMPT_TOKENS:]).strip()
