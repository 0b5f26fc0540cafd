"""The dimensions of one Whisper model, read from a checkpoint. Knows no weights and no graph.

Shape letters used through this package: B rows, L layers, H heads, T tokens, S encoder positions,
D head width, C mels, N hops, E state width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from captiond_engine.errors import ModelError

HEAD_WIDTH = 64  # of every Whisper model
MOST_HEADS = 24  # that words are timed by where a model names none: 2.7 MB each for a text in the making
_MOST_LAYERS, _LARGEST = 256, 1_000_000  # far above any Whisper; a spoilt file could ask for all memory


@dataclass(frozen=True, slots=True)
class WhisperConfig:
    """Dimensions, named as openai-whisper's ``ModelDimensions`` (model.py).

    ``alignment_heads``: (layer, head) of the decoder's cross-attention that follow the audio, where the
    model's makers say which; see ``aligned_by``.
    """

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int
    alignment_heads: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        heads = tuple((layer, head) for layer, head in self.alignment_heads)  # JSON has lists
        object.__setattr__(self, "alignment_heads", heads)
        for name, value in self.dimensions.items():
            limit = _MOST_LAYERS if name.endswith("_layer") else _LARGEST
            if not isinstance(value, int) or not 1 <= value <= limit:
                raise ModelError(
                    f"Model dimension {name} is {value!r}; a whole number from 1 to {limit} was expected."
                )
        if self.n_audio_state != self.n_text_state:
            raise ModelError("Encoder and decoder widths differ; this is no Whisper model.")
        if self.n_audio_state != self.n_audio_head * HEAD_WIDTH:
            raise ModelError(
                f"{self.n_audio_head} heads do not divide {self.n_audio_state} into heads of 64."
            )
        if self.n_text_state != self.n_text_head * HEAD_WIDTH:
            raise ModelError(f"{self.n_text_head} heads do not divide {self.n_text_state} into heads of 64.")

    @property
    def dimensions(self) -> dict[str, int]:
        """The numbers alone, by name."""
        return {name: value for name, value in asdict(self).items() if name != "alignment_heads"}

    @property
    def facts(self) -> dict[str, Any]:
        """All that is known, as JSON has it; ``WhisperConfig(**facts)`` is the same again."""
        return {**self.dimensions, "alignment_heads": [list(pair) for pair in self.alignment_heads]}

    @property
    def aligned_by(self) -> tuple[tuple[int, int], ...]:
        """The heads that words are timed by: those named, else of the decoder's last half of layers.

        The same choice as openai-whisper's where a model names none (model.py, ``Whisper.__init__``), but for
        models whose half has more than ``MOST_HEADS``: of these so many, evenly, as what each heeds is kept.
        """
        if self.alignment_heads:
            return self.alignment_heads
        layers = range(self.n_text_layer // 2, self.n_text_layer)
        heads = [(layer, head) for layer in layers for head in range(self.n_text_head)]
        count = min(len(heads), MOST_HEADS)
        return tuple(heads[len(heads) * at // count] for at in range(count))

    def with_alignment_heads(self, named: object) -> WhisperConfig:
        """With the heads that a model's generation_config.json names; None: it names none.

        Raises ModelError where they are no pairs of a layer and a head that are there.
        """
        if named is None:
            return self
        limits = self.n_text_layer, self.n_text_head
        if not isinstance(named, list) or not all(_is_pair(pair, limits) for pair in named):
            raise ModelError(
                f"generation_config.json: alignment_heads is {named!r:.60}; pairs of a layer "
                f"below {limits[0]} and a head below {limits[1]} were expected.",
                advice="Correct the file, or take alignment_heads out of it.",
            )
        return replace(self, alignment_heads=tuple(dict.fromkeys((pair[0], pair[1]) for pair in named)))

    @property
    def max_hops(self) -> int:
        """Mel columns of the longest window: two for each encoder position."""
        return 2 * self.n_audio_ctx

    @classmethod
    def from_openai(cls, dims: Mapping[str, Any]) -> WhisperConfig:
        """From the ``dims`` of OpenAI's ``.pt``."""
        return cls(**{name: _dimension(dims, name) for name in _DIMENSIONS})

    @classmethod
    def from_hugging_face(cls, config: Mapping[str, Any]) -> WhisperConfig:
        """From a Hugging Face ``config.json`` of a ``WhisperForConditionalGeneration``."""
        if config.get("model_type") != "whisper":
            raise ModelError(
                f"config.json says model_type {config.get('model_type')!r}, not 'whisper'.",
                advice="Only models of the Whisper architecture run here.",
            )
        for name, wanted in _HUGGING_FACE_FIXED.items():
            if config.get(name, wanted) != wanted:
                raise ModelError(
                    f"config.json says {name} = {config[name]!r:.60}; what runs here has {wanted!r}.",
                    advice="Name a model that is neither changed in its architecture nor quantised.",
                )
        return cls(**{ours: _dimension(config, theirs) for ours, theirs in _HUGGING_FACE_NAMES.items()})


_DIMENSIONS = [field.name for field in fields(WhisperConfig) if field.name != "alignment_heads"]


def _is_pair(pair: object, limits: tuple[int, int]) -> bool:
    if not isinstance(pair, list) or len(pair) != 2:
        return False
    return all(type(at) is int and 0 <= at < limit for at, limit in zip(pair, limits, strict=True))


def _dimension(source: Mapping[str, Any], name: str) -> Any:
    if name not in source:
        raise ModelError(f"The model's configuration lacks {name!r}.")
    return source[name]  # checked in __post_init__


_HUGGING_FACE_NAMES = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
    "n_vocab": "vocab_size",
    "n_text_ctx": "max_target_positions",
    "n_text_state": "d_model",
    "n_text_head": "decoder_attention_heads",
    "n_text_layer": "decoder_layers",
}
# What transformers would compute otherwise, and the graphs do not; the same in every published model.
_HUGGING_FACE_FIXED = {"activation_function": "gelu", "scale_embedding": False, "quantization_config": None}
