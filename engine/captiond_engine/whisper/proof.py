"""Whether compiled graphs compute the right numbers: one short run, compared with the NumPy twin.

Takes a model and the tensors it was made of; gives how far it is off. Decides nothing.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from captiond_engine.decoding.rules import Suppression
from captiond_engine.types import Float32Array
from captiond_engine.whisper import reference
from captiond_engine.whisper.model import CHECK_HOPS, CHECK_TOKENS, Prompt, WhisperModel


class AnswerError(NamedTuple):
    """How far graphs are off, relative to the largest value; what is not finite counts 1e9."""

    encoder: float
    decoder: float

    @property
    def worst(self) -> float:
        return max(self)


def known_answer_error(model: WhisperModel, tensors: dict[str, Float32Array]) -> AnswerError:
    """Largest differences to the NumPy twin.

    Looked at: encoder output; of the decoder logits after a prompt, and the log-probability of a token after
    that.
    """
    config = model.config
    rng = np.random.default_rng(20_26)
    mel = rng.standard_normal((config.n_mels, CHECK_HOPS)).astype(np.float32) * np.float32(0.4)
    tokens = tuple(int(token) for token in rng.integers(0, config.n_vocab, CHECK_TOKENS))
    encoding = model.encode(mel[None])
    assert encoding.encoded is not None  # one window
    answer = model.greedy(
        encoding, [Prompt(tokens)], max_new_tokens=2, suppression=Suppression.of(config.n_vocab)
    )
    expected = reference.encode(config, tensors, mel)
    said = answer.tokens[0]
    logits = reference.logits(config, tensors, expected, (*tokens, *said[:1]))[-2:]
    shifted = logits[1] - logits[1].max()
    second = shifted[said[1:]] - np.log(np.exp(shifted).sum())  # empty where the first ended the text
    pairs = [
        (encoding.encoded.to_numpy()[0], expected),
        (answer.first_logits.to_numpy()[0], logits[0]),
        (np.array(answer.log_probabilities[0][1:]), second),
    ]
    errors = [
        float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-6)) for got, want in pairs if want.size
    ]
    encoder_error, *decoder_errors = (error if np.isfinite(error) else 1e9 for error in errors)
    return AnswerError(encoder_error, max(decoder_errors))
