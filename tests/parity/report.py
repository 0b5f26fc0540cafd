"""The parity table: tokens equal and largest absolute differences against openai-whisper on the same weights.

Run: ``python -m tests.parity.report [--sizes tiny,base] [--no-clips]``; needs the extra ``parity``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby

import numpy as np
import torch
import whisper
from captiond_engine.audio.mel import log_mel
from captiond_engine.decoding.options import DecodingOptions
from captiond_engine.types import Float32Array
from captiond_engine.whisper.model import Prompt
from whisper.model import Whisper

from tests.parity import clips, make_goldens, make_option_goldens, models, option_sets, seeded, tasks

MEL_BOUND, ENCODED_BOUND, LOGITS_BOUND = 1e-4, 2e-4, 5e-4
PLAIN = (50_257, 50_362)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; differences are absolute, ``total`` counts clips or rows.

    ``layers``: run of those published; ``decoder``: kind of graph; ``logits``: for languages, probabilities.
    """

    what: str
    tokens_equal: int
    total: int
    mel: float = 0.0
    encoded: float = 0.0
    logits: float = 0.0
    layers: str = ""
    decoder: str = "decode_float32"

    def __str__(self) -> str:
        equal = f"{self.tokens_equal} of {self.total}"
        differences = (
            f"{value:9.1e}" if value else f"{'-':>9}" for value in (self.mel, self.encoded, self.logits)
        )
        return f"{self.what:42} {self.layers:14} {self.decoder:15} {equal:>12} {' '.join(differences)}"


HEADER = (
    f"{'model, audio':42} {'layers':14} {'decoder':15} {'tokens equal':>12} "
    f"{'mel':>9} {'encoder':>9} {'logits':>9}"
)


def mel_difference(pcm: Float32Array, mels: int) -> float:
    """Largest difference of our log-mel and the reference's in a 30 s window."""
    theirs = whisper.log_mel_spectrogram(whisper.pad_or_trim(pcm), n_mels=mels).numpy()
    return float(np.abs(log_mel(pcm, mels, 3000) - theirs).max())


@lru_cache(maxsize=1)
def reference_of(size: str) -> Whisper:
    """openai-whisper with the seeded weights of ``size``."""
    return make_goldens.reference_model(seeded.config_of(size), models.seeded_tensors(size))


def compare_seeded(size: str, rows: int, kind: str = "decode_float32", *, tasked: bool = False) -> Row:
    """Seeded random weights, ``rows`` rows with unequal prompts and audio in one batch.

    ``tasked``: prompts of other tasks and languages, with times, instead of the common ones.
    """
    ours, reference, mels = models.seeded_model(size, kind), reference_of(size), seeded.mels_of(size, rows)
    asked = seeded.task_prompts_of(size) if tasked else seeded.prompts_of(size)
    prompts, end = [Prompt(*prompt) for prompt in asked][:rows], seeded.tokenizer_of(size).end_of_text
    encoding = ours.encode(mels)
    answer = ours.greedy(encoding, prompts, max_new_tokens=make_goldens.NEW_TOKENS)
    ours_encoded, ours_logits = encoding.encoded.to_numpy(), answer.first_logits.to_numpy()
    equal, encoded_difference, logits_difference = 0, 0.0, 0.0
    for row, prompt in enumerate(prompts):
        with torch.no_grad():
            encoded = reference.encoder(torch.from_numpy(mels[row : row + 1]))
        expected = make_goldens.greedy(reference, encoded, prompt.tokens, end, make_goldens.NEW_TOKENS)
        gap = expected["smallest_gap"]
        if gap < make_goldens.SMALLEST_GAP:
            print(f"{size}: row {row} hangs on a tie of {gap:.1g} in the reference itself")
        equal += answer.tokens[row] == expected["tokens"]
        difference = np.abs(ours_encoded[row] - encoded[0].numpy()).max()
        encoded_difference = max(encoded_difference, float(difference))
        difference = np.abs(ours_logits[row] - expected["first_logits"]).max()
        logits_difference = max(logits_difference, float(difference))
    what = f"{size}, random, batch {rows}" + (", tasks and times" if tasked else "")
    differences = (0.0, encoded_difference, logits_difference)
    return Row(what, equal, rows, *differences, seeded.layers_of(size), kind)


def compare_languages(size: str, kind: str = "decode_float32") -> Row:
    """Detection of the language, three rows in one batch."""
    mels = seeded.mels_of(size)
    equal, worst = tasks.compare_languages(models.seeded_model(size, kind), reference_of(size), mels)
    return Row(f"{size}, random, batch 3, language", equal, 3, 0, 0, worst, seeded.layers_of(size), kind)


def compare_decode(size: str, kind: str = "decode_float32") -> Row:
    """The reference's whole ``decode``: translate, earlier text, a prefix."""
    mels = seeded.mels_of(size)
    equal = tasks.compare_decode(size, models.seeded_model(size, kind), reference_of(size), mels)
    what = f"{size}, random, batch 3, whisper.decode"
    return Row(what, equal, 3, layers=seeded.layers_of(size), decoder=kind)


def seeded_rows(size: str, kind: str = "decode_float32") -> Iterator[Row]:
    """All that is compared for one size with one decoder."""
    for batch in (1, 3):
        yield compare_seeded(size, batch, kind)
    yield compare_seeded(size, 3, kind, tasked=True)
    yield compare_decode(size, kind)
    if seeded.tokenizer_of(size).multilingual:
        yield compare_languages(size, kind)


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
            ours.encode(seeded.mels_of(name, len(rows))), list(option_sets.ours(options, len(rows)))
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


def clip_rows() -> Iterator[Row]:
    """The bundled model on real audio, each set for itself."""
    yield compare_bundled(clips.bundled(), "demo-en, kept clips")
    if not clips.shared():
        print("the larger sets (../shared/data/open) are not beside the project: skipped")
    for folder, members in groupby(clips.shared(), lambda clip: clip.set):
        yield compare_bundled(list(members), f"demo-en, {folder}")


def table(sizes: Sequence[str], plain: Sequence[str], *, with_clips: bool) -> Iterator[Row]:
    """The whole table, line by line; ``plain``: sizes that the plain graph is compared for as well."""
    if with_clips:
        yield from clip_rows()
    for size in sizes:
        for kind in ("decode_float32", *(["decode"] if size in plain else [])):
            yield from seeded_rows(size, kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=",".join(seeded.SIZES), help="of these: %(default)s")
    parser.add_argument("--plain", default="mini-v3,tiny", help="sizes for the plain graph too: %(default)s")
    parser.add_argument("--no-clips", action="store_true", help="without the bundled model on real audio")
    chosen = parser.parse_args()
    print(HEADER)
    sizes, plain = chosen.sizes.split(","), chosen.plain.split(",")
    for row in table(sizes, plain, with_clips=not chosen.no_clips):
        print(row, flush=True)
    print_options([size for size in sizes if size == "tiny"])


if __name__ == "__main__":
    main()
