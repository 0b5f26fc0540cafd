"""Whisper's tokens: text to ids and back, special tokens, prompts, and words.

Takes a model's own vocabulary (Hugging Face files, or the published one that OpenAI's ``.pt`` implies);
nothing is fetched. Special-token ids are derived from the vocabulary, for English-only and multilingual
models alike. Reference: openai-whisper ``tokenizer.py``.
"""

from __future__ import annotations

import base64
import codecs
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import tiktoken

from captiond_engine.errors import ModelError
from captiond_engine.speech_model import WordPiece
from captiond_engine.types import PromptSpec
from captiond_engine.whisper.config import WhisperConfig
from captiond_engine.whisper.folder import read_json
from captiond_engine.whisper.languages import LANGUAGE_CODES

# GPT-2's pre-tokenizer, which every Whisper vocabulary was made with.
_PATTERN = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
_BUNDLED = Path(__file__).parent.parent / "bundled"
_TIMESTAMPS = 1501  # 0.00 to 30.00 s in steps of 20 ms
_PLAIN_ENGLISH, _PLAIN_MULTILINGUAL = 50_256, 50_257  # text tokens before the specials
_FIXED_SPECIALS = ("<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>", "<|nospeech|>")
_SINGLE_BYTES = {bytes([byte]) for byte in range(256)}
_CONTROL = re.compile(r"<.*>|\[.*\]", re.DOTALL)  # added tokens that are no text: <|en|>, <pad>, [UNK]
_ADVICE = "Download the model again; its vocabulary and its config.json must belong together."
MAX_HINT_TOKENS = 224  # half the text context, as the reference keeps of earlier text


class WhisperTokenizer:
    """One model's tokens. Implements ``speech_model.Tokenizer``."""

    def __init__(
        self,
        ranks: Mapping[bytes, int],
        specials: Mapping[str, int],
        vocabulary: int,
        *,
        added_text: Mapping[int, str] | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        """``added_text``: words beyond the timestamps, as fine-tuning adds them. ``generation``: what the
        model's generation_config.json says, whether it is multilingual and which languages were added."""
        self.specials = dict(specials)
        self.vocabulary = vocabulary
        self._added_text = {token: text.encode() for token, text in (added_text or {}).items()}
        self._encoding = tiktoken.Encoding(
            "whisper", pat_str=_PATTERN, mergeable_ranks=dict(ranks), special_tokens=self.specials
        )
        self.end_of_text = self._special("<|endoftext|>")
        self.start_of_transcript = self._special("<|startoftranscript|>")
        self.start_of_previous = self._special("<|startofprev|>")
        self.start_of_lm = self._special("<|startoflm|>")
        self.translate = self._special("<|translate|>")
        self.transcribe = self._special("<|transcribe|>")
        self.no_speech = self._special("<|nospeech|>", "<|nocaptions|>")
        self.no_timestamps = self._special("<|notimestamps|>")
        self.timestamps = range(self.no_timestamps + 1, min(vocabulary, self.no_timestamps + 1 + _TIMESTAMPS))
        said, own = (generation or {}).get("is_multilingual"), (generation or {}).get("lang_to_id")
        # English-only models have GPT-2's own vocabulary, which is one token shorter.
        self.multilingual = said if isinstance(said, bool) else self.end_of_text != _PLAIN_ENGLISH
        added = [str(name)[2:-2] for name in own if _is_special(str(name))] if isinstance(own, dict) else []
        self.languages = tuple(
            code
            for code in dict.fromkeys((*LANGUAGE_CODES, *added))
            if 0 <= self.specials.get(f"<|{code}|>", -1) < vocabulary
        )

    def _special(self, *names: str) -> int:
        for name in names:
            if 0 <= self.specials.get(name, -1) < self.vocabulary:
                return self.specials[name]
        raise ModelError(f"The model's vocabulary lacks the token {names[0]}.", advice=_ADVICE)

    @classmethod
    def from_hugging_face(
        cls, path: Path, config: WhisperConfig, generation: Mapping[str, Any] | None = None
    ) -> WhisperTokenizer:
        """From ``vocab.json`` and ``added_tokens.json``, or from ``tokenizer.json`` where they are absent.

        ``generation``: the model's generation_config.json, which says whether it is multilingual.
        """
        try:
            vocabulary, added = _read_vocabulary(path)
            specials = {name: int(i) for name, i in {**vocabulary, **added}.items() if _is_special(name)}
            # Published multilingual vocabularies leave <|endoftext|> out of the specials' own file.
            specials.setdefault("<|endoftext|>", min(specials.values(), default=0) - 1)
            end = specials["<|endoftext|>"]
            text = {int(i): name for name, i in added.items() if i > end and not _CONTROL.fullmatch(name)}
            ranks = {
                _bytes_of(token): int(i)
                for token, i in vocabulary.items()
                if token not in specials and i < len(vocabulary) and i not in text
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(
                f"The vocabulary files in {path} have another form than a Whisper's ({error}).",
                advice=_ADVICE,
            ) from error
        if len(set(ranks.values())) < len(ranks) or not ranks.keys() >= _SINGLE_BYTES:
            raise ModelError(
                f"The vocabulary files in {path} do not spell every byte, or name a token twice.",
                advice=_ADVICE,
            )
        generation = generation or {}
        tokenizer = cls(ranks, specials, config.n_vocab, added_text=text, generation=generation)
        tokenizer._check_belongs(path, generation)
        return tokenizer

    def _check_belongs(self, path: Path, generation: Mapping[str, Any]) -> None:
        """Refuse the vocabulary of another model: its prompts would be other tokens than the model learnt."""
        expected = generation.get("no_timestamps_token_id", self.no_timestamps)
        last = self.specials.get("<|30.00|>", self.no_timestamps)
        fits = self.no_timestamps + _TIMESTAMPS == self.vocabulary - 1  # nothing was added: as published
        if last >= self.vocabulary or (expected != self.no_timestamps and not fits):
            raise ModelError(
                f"The vocabulary files in {path} are another model's: in them, <|notimestamps|> is "
                f"{self.no_timestamps}, and {expected!r:.20} in generation_config.json, "
                f"with {self.vocabulary} tokens in all.",
                advice=_ADVICE,
            )

    @classmethod
    def from_published(cls, config: WhisperConfig) -> WhisperTokenizer:
        """The vocabulary that OpenAI published for a checkpoint with this many tokens."""
        if config.n_vocab == _PLAIN_ENGLISH + 1608:
            return cls.from_hugging_face(_BUNDLED / "demo-en", config)
        plain = (_BUNDLED / "vocabulary" / "multilingual.tiktoken").read_text(encoding="ascii")
        pairs = (line.split() for line in plain.splitlines() if line)
        ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
        languages = config.n_vocab - len(ranks) - 3 - len(_FIXED_SPECIALS) - _TIMESTAMPS
        if languages not in (len(LANGUAGE_CODES) - 1, len(LANGUAGE_CODES)):
            raise ModelError(
                f"No published Whisper vocabulary has {config.n_vocab} tokens.",
                advice="Use the Hugging Face directory of this model, which brings its vocabulary.",
            )
        names = ["<|endoftext|>", "<|startoftranscript|>"]
        names += [f"<|{code}|>" for code in LANGUAGE_CODES[:languages]]
        names += [*_FIXED_SPECIALS, "<|notimestamps|>"]
        return cls(ranks, {name: len(ranks) + i for i, name in enumerate(names)}, config.n_vocab)

    def encode(self, text: str) -> list[int]:
        """Plain text tokens; control tokens written in ``text`` are ordinary characters here."""
        return self._encoding.encode_ordinary(text)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the plain tokens; specials and timestamps are left out."""
        return self._bytes(tokens).decode("utf-8", errors="replace")

    def is_text(self, token: int) -> bool:
        """Whether ``token`` spells something: a plain one, or a word that fine-tuning added."""
        return token < self.end_of_text or token in self._added_text

    def _bytes(self, tokens: Sequence[int]) -> bytes:
        if not self._added_text:
            return self._encoding.decode_bytes([token for token in tokens if token < self.end_of_text])
        known = self._added_text
        single = self._encoding.decode_single_token_bytes
        return b"".join(
            known[token] if token in known else single(token) for token in tokens if self.is_text(token)
        )

    def split_words(self, tokens: Sequence[int]) -> list[WordPiece]:
        """Words of ``tokens``: a word begins at a space, or at each character of scripts without spaces.

        Tokens that hold part of a character stay together. Punctuation stays with the word before it.
        """
        words: list[WordPiece] = []
        for text, piece in self._whole_characters(tokens):
            joins = bool(words) and not text.startswith(" ") and not _is_unspaced(text)
            if joins:
                words[-1] = WordPiece(words[-1].text + text, words[-1].tokens + piece)
            else:
                words.append(WordPiece(text, piece))
        return words

    def _whole_characters(self, tokens: Sequence[int]) -> list[tuple[str, tuple[int, ...]]]:
        """Shortest runs of tokens that end where a character ends; bytes that are no UTF-8 become U+FFFD."""
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pieces: list[tuple[str, tuple[int, ...]]] = []
        text, pending = "", list[int]()
        for token in tokens:
            if not self.is_text(token):
                continue
            pending.append(token)
            text += decoder.decode(self._bytes([token]))
            if not decoder.getstate()[0]:  # no character is left half read
                pieces.append((text, tuple(pending)))
                text, pending = "", []
        if pending:
            pieces.append((text + decoder.decode(b"", final=True), tuple(pending)))
        return pieces

    def prompt(
        self, spec: PromptSpec, *, language: str | None, task: str = "transcribe"
    ) -> tuple[list[int], int]:
        """The decoder's prompt and the index of start-of-transcript in it.

        ``[<|startofprev|> hints] <|startoftranscript|> [<|language|> <|task|>] <|notimestamps|> prefix``
        """
        before: list[int] = []
        if hints := spec.hints.strip():
            before = [self.start_of_previous, *self.encode(" " + hints)[-(MAX_HINT_TOKENS - 1) :]]
        start = [self.start_of_transcript]
        if self.multilingual:
            start += [
                self.language_token(language or "en"),
                self.translate if task == "translate" else self.transcribe,
            ]
        return [*before, *start, self.no_timestamps, *spec.prefix], len(before)

    def language_token(self, code: str) -> int:
        """The token of an ISO code. Raises ModelError for a language the model does not know."""
        if code not in self.languages:
            raise ModelError(
                f"The model does not know the language {code!r}.",
                advice=f"It knows: {', '.join(self.languages)}.",
                code="language_unknown",
            )
        return self.specials[f"<|{code}|>"]

    def language_of(self, token: int) -> str | None:
        """The ISO code of a language token, or None."""
        return self._languages_by_token.get(token)

    @cached_property
    def _languages_by_token(self) -> dict[int, str]:
        return {self.specials[f"<|{code}|>"]: code for code in self.languages}


def _read_vocabulary(path: Path) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Tokens and added tokens of a Hugging Face directory, unchecked."""
    if (path / "vocab.json").exists():
        extra = path / "added_tokens.json"
        if extra.exists() or not (path / "tokenizer.json").exists():
            return read_json(path / "vocab.json"), read_json(extra) if extra.exists() else {}
    content = read_json(path / "tokenizer.json")
    added = {entry["content"]: entry["id"] for entry in content.get("added_tokens", [])}
    return content["model"]["vocab"], added


def _is_special(name: str) -> bool:
    return name.startswith("<|") and name.endswith("|>")


def _is_unspaced(text: str) -> bool:
    """Whether ``text`` begins in a script without spaces: CJK, kana, Thai, Lao, Burmese."""
    code = ord(text[0]) if text else 0
    return 0x0E00 <= code <= 0x0EFF or 0x1000 <= code <= 0x109F or 0x3040 <= code <= 0x9FFF


def byte_characters() -> dict[str, int]:
    """GPT-2's printable stand-in for each byte in its files (gpt-2 encoder.py: ``bytes_to_unicode``)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = byte_characters()


def _bytes_of(token: str) -> bytes:
    try:
        return bytes(_BYTES[character] for character in token)
    except KeyError as error:
        raise ValueError(f"the token {token!r} is not in GPT-2's byte alphabet") from error
