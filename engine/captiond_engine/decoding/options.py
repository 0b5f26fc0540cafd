"""What a decode may be asked for: openai-whisper's ``DecodingOptions``, and those of a window with fallback.

Takes values, gives them back checked. Knows no model and no tokenizer; what cannot hold is an OptionsError.
References: openai-whisper ``decoding.py`` (DecodingOptions, ``_verify_options``) and ``transcribe.py``
(``decode_with_fallback``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from captiond_engine.errors import OptionsError

Task = Literal["transcribe", "translate", "lang_id"]

OWN_RULES = "model"  # for ``suppress_tokens``: what the model's generation_config.json asks for
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)  # openai-whisper transcribe.py: temperature
WIDEST = 64  # beams or trajectories of one clip; each has keys and values of its own


@dataclass(frozen=True, slots=True)
class DecodingOptions:
    """How one window is decoded once. Names and defaults are openai-whisper's; raises OptionsError.

    ``language``: ISO code, None or "auto": detect it. ``temperature``: 0 takes the likeliest token, above it
    tokens are drawn from softmax(logits / temperature). ``sample_len``: most new tokens; None or 0: half the
    text context. ``best_of``: trajectories drawn, of which the best is taken. ``beam_size``, ``patience``:
    beam search (arXiv:2204.05424). ``length_penalty``: alpha of arXiv:1609.08144, or None to divide by
    length. ``prompt``, ``prefix``: text or tokens before start-of-transcript and after it.
    ``suppress_tokens``: tokens, or a text of tokens and commas, with -1 for the reference's non-speech
    tokens; OWN_RULES for the model's own list, and then ``suppress_blank`` means the model's own rules for
    the first token. ``without_timestamps`` and ``max_initial_timestamp`` (seconds) as there. ``seed``: of
    what is drawn.
    """

    task: Task = "transcribe"
    language: str | None = None
    temperature: float = 0.0
    sample_len: int | None = None
    best_of: int | None = None
    beam_size: int | None = None
    patience: float | None = None
    length_penalty: float | None = None
    prompt: str | Sequence[int] | None = None
    prefix: str | Sequence[int] | None = None
    suppress_tokens: str | Sequence[int] | None = "-1"
    suppress_blank: bool = True
    without_timestamps: bool = False
    max_initial_timestamp: float | None = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        self._check_values()
        self._check_together()

    def _check_values(self) -> None:
        if self.task not in ("transcribe", "translate", "lang_id"):
            raise OptionsError(f"task is {self.task!r}; 'transcribe', 'translate' or 'lang_id' was expected.")
        if not 0 <= self.temperature < float("inf"):
            raise OptionsError(f"temperature is {self.temperature}; 0 or more was expected.")
        for name in ("best_of", "beam_size"):
            width = getattr(self, name)
            if width is not None and not 1 <= width <= WIDEST:
                raise OptionsError(f"{name} is {width}; 1 to {WIDEST} was expected, or None.")
        if self.sample_len is not None and self.sample_len < 0:
            raise OptionsError(f"sample_len is {self.sample_len}; 1 or more was expected, or None.")
        if self.max_initial_timestamp is not None and self.max_initial_timestamp < 0:
            raise OptionsError(
                f"max_initial_timestamp is {self.max_initial_timestamp} s; 0 or more was expected, or None."
            )
        if self.seed < 0:
            raise OptionsError(f"seed is {self.seed}; 0 or more was expected.")
        _check_tokens("prompt", self.prompt)
        _check_tokens("prefix", self.prefix)
        self.suppressed_tokens()

    def _check_together(self) -> None:
        if self.beam_size is not None and self.best_of is not None:
            raise OptionsError(
                "beam_size and best_of are both given.", advice="A search has beams, or it draws; choose one."
            )
        if self.temperature == 0 and self.best_of is not None:
            raise OptionsError(
                "best_of is given, but at temperature 0 every trajectory is the same.",
                advice="Give a temperature above 0, or leave best_of out.",
            )
        if self.patience is not None and self.beam_size is None:
            raise OptionsError("patience is given without beam_size.", advice="Only a beam search waits.")
        if self.length_penalty is not None and not 0 <= self.length_penalty <= 1:
            raise OptionsError(f"length_penalty is {self.length_penalty}; 0 to 1 was expected, or None.")
        if self.beam_size is not None and self.most_finished < 1:
            raise OptionsError(
                f"patience {self.patience} with beam_size {self.beam_size} waits for no text at all.",
                advice="Their product, rounded, must be 1 or more.",
            )

    @property
    def width(self) -> int:
        """Beams or trajectories."""
        return self.beam_size or self.best_of or 1

    @property
    def most_finished(self) -> int:
        """Finished texts that end a beam search; a patience of 0 counts as 1, as in the reference."""
        return round((self.beam_size or 1) * (self.patience or 1.0))

    def suppressed_tokens(self) -> tuple[int, ...] | None:
        """``suppress_tokens`` as numbers, -1 among them; None where none or the model's list is asked for."""
        asked = self.suppress_tokens
        if not asked or asked == OWN_RULES:
            return None
        try:
            tokens = tuple(int(token) for token in (asked.split(",") if isinstance(asked, str) else asked))
        except (TypeError, ValueError):
            raise OptionsError(
                f"suppress_tokens is {asked!r:.60}; numbers of tokens were expected.",
                advice=f'Give a list, a text such as "-1,50257", or "{OWN_RULES}".',
            ) from None
        if min(tokens) < -1:
            raise OptionsError(f"suppress_tokens holds {min(tokens)}, which is no token.")
        return tokens


def _check_tokens(name: str, given: str | Sequence[int] | None) -> None:
    if given is None or isinstance(given, str):
        return
    if not all(isinstance(token, int) and token >= 0 for token in given):
        raise OptionsError(f"{name} is {given!r:.60}; a text or a list of tokens was expected.")


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When a decode has failed, or heard nothing; None: never. Defaults of openai-whisper ``transcribe``.

    ``compression_ratio``: text that zlib makes smaller by more has failed. ``logprob``: an average
    log-probability below it has failed. ``no_speech``: silence is likelier than this; with a text less likely
    than ``logprob`` it is believed. ``unsure``: a final of a few words that are less likely (geometric mean
    of all tokens and the end) is not believed; it depends on the model, so None unless its card says it.
    """

    compression_ratio: float | None = 2.4
    logprob: float | None = -1.0
    no_speech: float | None = 0.6
    unsure: float | None = None


NEVER = Thresholds(None, None, None)


@dataclass(frozen=True, slots=True)
class FallbackOptions:
    """How one window is decoded until a decode passes, as ``transcribe`` does. Raises OptionsError.

    ``decoding``: all that does not depend on the temperature. ``beam_size`` and ``patience`` hold at
    temperature 0, ``best_of`` above it. ``hold_back``: where no temperature passed, nothing is said.
    ``budget_ms``: a further temperature is begun, and gone on with, only for so long; None: for ever.
    """

    decoding: DecodingOptions = field(default_factory=DecodingOptions)
    temperatures: tuple[float, ...] = TEMPERATURES
    beam_size: int | None = None
    patience: float | None = None
    best_of: int | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    hold_back: bool = False
    budget_ms: int | None = None

    def __post_init__(self) -> None:
        if not self.temperatures:
            raise OptionsError(
                "There is no temperature to decode at.", advice="temperatures = (0.0,) is one."
            )
        own = self.decoding
        if own.beam_size is not None or own.best_of is not None or own.patience is not None:
            raise OptionsError("Beams and best_of of a fallback depend on the temperature: give them to it.")
        if self.patience is not None and self.beam_size is None:
            raise OptionsError("patience is given without beam_size.", advice="Only a beam search waits.")
        if self.beam_size is not None and 0 not in self.temperatures:
            raise OptionsError("beam_size is given, but no temperature is 0.")
        if self.best_of is not None and not any(self.temperatures):
            raise OptionsError("best_of is given, but no temperature is above 0.")
        judged = self.thresholds.compression_ratio is not None or self.thresholds.logprob is not None
        if len(self.temperatures) > 1 and not judged:
            raise OptionsError(
                "There are more temperatures than one, but no threshold that asks for the next."
            )
        for temperature in self.temperatures:
            self._at(temperature)  # checked by itself

    @property
    def task(self) -> Literal["transcribe", "translate"]:
        """What the text is to be: in the language spoken, or in English."""
        return "translate" if self.decoding.task == "translate" else "transcribe"

    @property
    def is_plain(self) -> bool:
        """Whether a greedy decode in the graph, by the model's own rules, is all that is asked for."""
        same = replace(self.decoding, task="transcribe", seed=0) == PLAIN
        return same and self.temperatures == (0.0,) and self.beam_size is None and not self.hold_back

    @property
    def attempts(self) -> tuple[DecodingOptions, ...]:
        """One decode's options for each temperature."""
        return tuple(self._at(temperature) for temperature in self.temperatures)

    def _at(self, temperature: float) -> DecodingOptions:
        if temperature > 0:
            return replace(self.decoding, temperature=temperature, best_of=self.best_of)
        return replace(
            self.decoding, temperature=temperature, beam_size=self.beam_size, patience=self.patience
        )


# What a stream's passes are where nothing else is asked: greedy, no timestamps, the model's own rules.
PLAIN = DecodingOptions(without_timestamps=True, suppress_tokens=OWN_RULES)
PLAIN_ONCE = FallbackOptions(PLAIN, temperatures=(0.0,))
