"""The parity table: tokens equal and largest absolute differences against openai-whisper on the same weights.

Run: ``python -m tests.parity.report [--sizes tiny,base,small]``; needs the extra ``parity``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import torch
import whisper
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.options import DecodingOptions
from captiond_engine.types import Float32Array
from captiond_engine.whisper.model import Prompt

from tests.parity import clips, make_goldens, make_option_goldens, models, option_sets, seeded

MEL_BOUND, ENCODED_BOUND, LOGITS_BOUND = 1e-4, 2e-4, 5e-4
PLAIN = (50_257, 50_362)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; differences are absolute, ``total`` counts clips or rows."""

    what: str
    tokens_equal: int
    total: int
    mel: float
    encoded: float
    logits: float


def mel_difference(pcm: Float32Array, mels: int) -> float:
    """Largest difference of our log-mel and the reference's in a 30 s window."""
    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(pcm), n_mels=mels).numpy()
    return float(np.abs(log_mel(pcm, mels, 3000) - theirs).max())


def compare_seeded(size: str, rows: int) -> Row:
    """Seeded random weights, ``rows`` rows with unequal prompts and audio in one batch."""
    ours = models.seeded_model(size)
    reference = make_goldens.reference_model(seeded.config_of(size), models.seeded_tensors(size))
    mels = seeded.mels(rows)
    prompts = [Prompt(p, s) for p, s in zip(seeded.PROMPTS, seeded.START_INDICES, strict=True)][:rows]
    encoding = ours.encode(mels)
    answer = ours.greedy(encoding, prompts, max_new_tokens=make_goldens.NEW_TOKENS)
    equal, encoded_difference, logits_difference = 0, 0.0, 0.0
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            encoded = reference.encoder(torch.from_numpy(mels[row : row + 1]))
        expected = make_goldens.greedy(reference, encoded, prompt.tokens, seeded.END, make_goldens.NEW_TOKENS)
        equal += answer.tokens[row] == expected["tokens"]
        difference = np.abs(encoding.encoded.to_numpy()[row] - encoded[0].numpy()).max()
        encoded_difference = max(encoded_difference, float(difference))
        difference = np.abs(answer.first_logits.to_numpy()[row] - expected["first_logits"]).max()
        logits_difference = max(logits_difference, float(difference))
    return Row(f"{size}, random, batch {rows}", equal, rows, 0.0, encoded_difference, logits_difference)


def compare_bundled(found: Sequence[clips.Clip], what: str = "demo-en") -> Row:
    """The bundled model on real audio, both from the same samples: mel, encoder, logits, tokens."""
    ours, checkpoint = models.bundled_model(), models.bundled_checkpoint()
    reference = make_goldens.reference_model(checkpoint.config, checkpoint.tensors)
    equal, worst = 0, [0.0, 0.0, 0.0]
    for clip in found:
        result, mel, encoded = make_goldens.decode_clip(reference, clip.pcm)
        with torch.no_grad():
            logits = reference.logits(torch.tensor([PLAIN]), torch.from_numpy(encoded[None]))[0, -1].numpy()
        our_mel = log_mel(clip.pcm, 80, 3000)
        encoding = ours.encode(our_mel[None])
        answer = ours.greedy(encoding, [Prompt(PLAIN)])
        tokens = [token for token in answer.tokens[0] if token != 50_256]
        equal += tokens == result.tokens
        pairs = (
            (our_mel, mel),
            (encoding.encoded.to_numpy()[0], encoded),
            (answer.first_logits.to_numpy()[0], logits),
        )
        worst = [max(old, float(np.abs(a - b).max())) for old, (a, b) in zip(worst, pairs, strict=True)]
    return Row(what, equal, len(found), *worst)


def compare_options(name: str, what: str) -> tuple[int, int]:
    """Rows of one set of options whose tokens are the reference's, and how many rows there are.

    ``name``: demo-en, on the kept clips, or a seeded size, three rows in one call.
    """
    reference, rows, sets = make_option_goldens.reference_rows(name)
    options = sets[what]
    if name == "demo-en":
        ours, mine = models.bundled_model(), [options] * len(rows)
        mels = [log_mel(clip.pcm, 80, 3000) for clip in clips.bundled()]
        asked = [DecodingOptions(**options)] * len(rows)
        found = [
            ours.decode_with(ours.encode(mel[None]), [one])[0] for mel, one in zip(mels, asked, strict=True)
        ]
    else:
        ours, mine = (
            models.seeded_speaker(name),
            [option_sets.of_row(options, row) for row in range(len(rows))],
        )
        found = ours.decode_with(
            ours.encode(seeded.mels(len(rows))), list(option_sets.ours(options, len(rows)))
        )
    equal = 0
    for encoded, one, decoding in zip(rows.values(), mine, found, strict=True):
        expected = make_option_goldens.decode(reference, encoded, one).tokens
        equal += list(decoding.timed_tokens or decoding.tokens) == expected
    return equal, len(rows)


def print_options(sizes: Sequence[str]) -> None:
    """One line for each set of options: tokens equal, n of n."""
    print(f"\n{'model, options':66} {'tokens equal':>14}")
    for name in ("demo-en", *sizes):
        for what in option_sets.ENGLISH if name == "demo-en" else option_sets.SEEDED:
            equal, total = compare_options(name, what)
            print(f"{f'{name}, {what}':66} {f'{equal} of {total}':>14}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="tiny,base,small")
    sizes = parser.parse_args().sizes.split(",")
    rows = [compare_bundled(clips.bundled(), "demo-en, kept clips")]
    if not clips.shared():
        print("the larger sets (../shared/data/open) are not beside the project: skipped")
    for folder, members in groupby(clips.shared(), lambda clip: clip.set):
        rows.append(compare_bundled(list(members), f"demo-en, {folder}"))
    rows += [compare_seeded(size, batch) for size in sizes for batch in (1, 3)]
    print(f"{'model, audio':28} {'tokens equal':>14} {'mel':>9} {'encoder':>9} {'logits':>9}")
    for row in rows:
        equal = f"{row.tokens_equal} of {row.total}"
        print(f"{row.what:28} {equal:>14} {row.mel:9.1e} {row.encoded:9.1e} {row.logits:9.1e}")
    print_options([size for size in sizes if size == "tiny"])


if __name__ == "__main__":
    main()
