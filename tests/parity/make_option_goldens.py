"""Writes tests/parity/goldens/options-*.json with openai-whisper.

Run: ``python -m tests.parity.make_option_goldens``; needs the extra ``parity``. A decode that comes out
otherwise when its logits are a little off hangs on a tie of float32; it is told, and left out.
``--only WORDS``: the sets with these words in their names, written beside the rest.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import whisper
from captiond_engine.types import Float32Array
from whisper.model import Whisper

from tests.parity import clips, models, option_sets, seeded
from tests.parity.make_goldens import GOLDENS, reference_model

NOISE = 2e-5  # a few times what another order of summing makes of logits
NOISY_RUNS = 2
ROWS = 3


def decode(model: Whisper, encoded: Float32Array, options: option_sets.OptionSet) -> Any:
    """The reference's DecodingResult of one row, from its encoder output float32 [S, E]."""
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    given = {"language": "en", **given} if not model.is_multilingual else given
    return whisper.decode(model, torch.from_numpy(encoded), whisper.DecodingOptions(fp16=False, **given))


def hangs_on_a_tie(
    model: Whisper, encoded: Float32Array, options: option_sets.OptionSet, tokens: list[int]
) -> bool:
    """Whether the tokens are others when the logits are a little off."""
    for run in range(NOISY_RUNS):
        generator = torch.Generator().manual_seed(run)

        def disturb(_: Any, __: Any, logits: torch.Tensor, generator: torch.Generator = generator) -> Any:
            return logits + NOISE * (2 * torch.rand(logits.shape, generator=generator) - 1)

        hook = model.decoder.register_forward_hook(disturb)
        try:
            if decode(model, encoded, options).tokens != tokens:
                return True
        finally:
            hook.remove()
    return False


def kept(result: Any) -> dict[str, Any]:
    """What of a DecodingResult is compared."""
    return {
        "tokens": result.tokens,
        "language": result.language,
        "average_log_probability": float(f"{result.avg_logprob:.7g}"),
        "no_speech": float(f"{result.no_speech_prob:.7g}"),
        "compression_ratio": result.compression_ratio,
    }


def encoded_by(model: Whisper, mels: Sequence[Float32Array]) -> list[Float32Array]:
    with torch.no_grad():
        return [np.asarray(model.encoder(torch.from_numpy(mel[None]))[0].numpy()) for mel in mels]


def reference_rows(name: str) -> tuple[Whisper, dict[str, Float32Array], dict[str, option_sets.OptionSet]]:
    """The reference model of a golden file, its encoded rows by name, and the sets of options for them."""
    if name == "demo-en":
        checkpoint = models.bundled_checkpoint()
        model = reference_model(checkpoint.config, checkpoint.tensors)
        found = clips.bundled()
        mels = [whisper.log_mel_spectrogram(whisper.pad_or_trim(clip.pcm)).numpy() for clip in found]
        encoded = encoded_by(model, mels)
        return model, dict(zip([clip.id for clip in found], encoded, strict=True)), option_sets.ENGLISH
    model = reference_model(seeded.config_of(name), models.seeded_tensors(name))
    rows = encoded_by(model, list(seeded.mels_of(name, ROWS)))
    return model, {str(row): encoded for row, encoded in enumerate(rows)}, option_sets.SEEDED


def make(name: str, only: str) -> dict[str, dict[str, Any]]:
    """Answers by set and row."""
    model, rows, sets = reference_rows(name)
    made: dict[str, dict[str, Any]] = {}
    for what, options in sets.items():
        if only not in what:
            continue
        made[what] = {}
        for number, (row, encoded) in enumerate(rows.items()):
            mine = option_sets.of_row(options, number) if sets is option_sets.SEEDED else options
            result = decode(model, encoded, mine)
            if hangs_on_a_tie(model, encoded, mine, result.tokens):
                print(f"{name}, {what}: row {row} hangs on a tie and is left out")
            else:
                made[what][row] = kept(result)
        print(f"{name}, {what}: {len(made[what])} of {len(rows)}", flush=True)
    return made


def write(name: str, made: dict[str, dict[str, Any]]) -> None:
    """One line an answer."""
    lines = []
    for what, rows in made.items():
        answers = ",\n".join(f"  {json.dumps(row)}: {json.dumps(answer)}" for row, answer in rows.items())
        lines.append(f" {json.dumps(what)}: {{\n{answers}\n }}")
    reference = f"openai-whisper {whisper.__version__}, torch {torch.__version__}"
    text = f'{{"reference": {json.dumps(reference)}, "sets": {{\n' + ",\n".join(lines) + "\n}}\n"
    (GOLDENS / f"options-{name}.json").write_text(text, encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="demo-en,tiny")
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    for name in arguments.models.split(","):
        path = GOLDENS / f"options-{name}.json"
        before = (
            json.loads(path.read_text(encoding="utf-8"))["sets"] if arguments.only and path.exists() else {}
        )
        made = {**before, **make(name, arguments.only)}
        known = option_sets.ENGLISH if name == "demo-en" else option_sets.SEEDED
        write(name, {what: made[what] for what in known if what in made})


if __name__ == "__main__":
    main()
