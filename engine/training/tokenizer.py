"""The tokenizer's files for Hugging Face's libraries, made from openai-whisper's own ranks (its
assets/gpt2.tiktoken).
"""

from __future__ import annotations

import json
from base64 import b64decode
from itertools import pairwise
from pathlib import Path
from typing import Any

import whisper
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from whisper.tokenizer import get_tokenizer

END = "<|endoftext|>"


def printable_bytes() -> dict[int, str]:
    """GPT-2's way to write any byte as a letter (openai/gpt-2, encoder.py)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}


def ranks() -> dict[bytes, int]:
    lines = (Path(whisper.__file__).parent / "assets" / "gpt2.tiktoken").read_text().splitlines()
    return {b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line.strip())}


def halves(token: bytes, known: dict[bytes, int]) -> list[bytes]:
    """What is merged to make `token`: its own merge is the last, so those of lower rank are done first."""
    parts = [bytes([b]) for b in token]
    while len(parts) > 1:
        pairs = [(known.get(a + b), i) for i, (a, b) in enumerate(pairwise(parts))]
        found = min(((rank, i) for rank, i in pairs if rank is not None), default=None)
        if found is None or found[0] >= known[token]:
            break
        i = found[1]
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


def write(folder: Path) -> None:
    """vocab.json, merges.txt, added_tokens.json, tokenizer.json, tokenizer_config.json."""
    known, letters = ranks(), printable_bytes()

    def written(token: bytes) -> str:
        return "".join(letters[b] for b in token)

    vocabulary = {written(token): rank for token, rank in known.items()} | {END: 50256}
    merges = []
    for token, _ in sorted(known.items(), key=lambda item: item[1]):
        parts = halves(token, known) if len(token) > 1 else []
        if len(parts) == 2:
            merges.append((written(parts[0]), written(parts[1])))
    special = get_tokenizer(multilingual=False).special_tokens
    added = {name: i for name, i in sorted(special.items(), key=lambda item: item[1]) if i > 50256}
    config: dict[str, Any] = {
        "tokenizer_class": "WhisperTokenizer",
        "add_prefix_space": False,
        **dict.fromkeys(["bos_token", "eos_token", "unk_token", "pad_token"], END),
        "model_max_length": 448,
        "errors": "replace",
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "added_tokens.json").write_text(json.dumps(added, indent=0))
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    fast = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, fuse_unk=False))
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    fast.add_special_tokens(
        [
            AddedToken(END, special=True, normalized=False),
            *(AddedToken(name, special=not name[2:3].isdigit(), normalized=False) for name in added),
        ]
    )
    fast.save(str(folder / "tokenizer.json"))
