"""The table ``[decoding]``: how finals are decoded. What its keys say, and what the engine is asked.

0 stands for "none" and "never", as TOML has no word for either. Knows no file and no model.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from captiond_engine.decoding.options import PLAIN, FallbackOptions, Thresholds
from captiond_engine.errors import ConfigError
from msgspec import Meta, Struct

Width = Annotated[int, Meta(ge=0, le=16)]
Temperature = Annotated[float, Meta(ge=0, le=2)]


class DecodingConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    task: Literal["transcribe", "translate"] = "transcribe"
    beam_size: Width = 0
    best_of: Width = 0
    temperatures: Annotated[tuple[Temperature, ...], Meta(min_length=1, max_length=8)] = (0.0,)
    compression_ratio_threshold: Annotated[float, Meta(ge=0)] = 2.4
    logprob_threshold: Annotated[float, Meta(le=0)] = -1.0
    no_speech_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.6
    unsure_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.0
    failed: Literal["show", "suppress"] = "show"
    fallback_ms: Annotated[int, Meta(ge=0, le=600_000)] = 3_000
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0


def check_decoding(decoding: DecodingConfig, model: str, where: str) -> None:
    """What no single key can say by itself. Raises ConfigError, which begins with ``where``."""
    temperatures = decoding.temperatures
    if list(temperatures) != sorted(set(temperatures)):
        raise ConfigError(
            f"{where}: decoding.temperatures do not rise: {list(temperatures)}.",
            advice="Each is tried when the one before it failed; for example [0.0, 0.4, 0.8].",
        )
    if decoding.beam_size and 0 not in temperatures:
        raise ConfigError(
            f"{where}: decoding.beam_size is {decoding.beam_size}, but no temperature is 0.",
            advice="Beams are searched at temperature 0 alone: let decoding.temperatures begin with 0.0.",
        )
    if decoding.best_of and not any(temperatures):
        raise ConfigError(
            f"{where}: decoding.best_of is {decoding.best_of}, but no temperature is above 0.",
            advice="Texts are drawn above 0 alone: let decoding.temperatures be [0.0, 0.4], say.",
        )
    judged = decoding.compression_ratio_threshold or decoding.logprob_threshold
    if not judged and (len(temperatures) > 1 or decoding.failed == "suppress"):
        key = "temperatures" if len(temperatures) > 1 else "failed"
        raise ConfigError(
            f"{where}: decoding.{key} is about texts that failed, but both thresholds are off.",
            advice="Set decoding.compression_ratio_threshold or decoding.logprob_threshold.",
        )
    if decoding.task == "translate" and model.endswith(".en"):
        raise no_translation(model, where)


def no_translation(model: str, where: str) -> ConfigError:
    """The error of a model that knows English alone."""
    return ConfigError(
        f'{where}: decoding.task = "translate" with the model {model}, which knows English alone.',
        advice='Choose a multilingual model, such as model.name = "small".',
    )


def fallback_options(decoding: DecodingConfig, unsure: float | None = None) -> FallbackOptions:
    """How finals are decoded, as the engine takes it; ``unsure``: what the model's card has of it."""
    return FallbackOptions(
        decoding=replace(PLAIN, task=decoding.task, seed=decoding.seed),
        temperatures=decoding.temperatures,
        beam_size=decoding.beam_size or None,
        best_of=decoding.best_of or None,
        thresholds=Thresholds(
            compression_ratio=decoding.compression_ratio_threshold or None,
            logprob=decoding.logprob_threshold or None,
            no_speech=decoding.no_speech_threshold or None,
            unsure=decoding.unsure_threshold or unsure,
        ),
        hold_back=decoding.failed == "suppress",
        budget_ms=decoding.fallback_ms or None,
    )
