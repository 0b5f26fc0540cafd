"""Training's own Whisper against openai-whisper's, and what is exported against what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file
from whisper.audio import log_mel_spectrogram
from whisper.model import ModelDimensions
from whisper.model import Whisper as Reference

from engine.training import average, export, tokenizer
from engine.training.examples import Mel
from engine.training.initial import CONSTANT, clean_dimensions, keep_constant, keep_positions_clean, new_model
from engine.training.model import Checkpoint, Size, Whisper
from engine.training.muon import orthogonal
from engine.training.text import Vocabulary

SMALL = Size(state=128, encoder_layers=2, decoder_layers=2)
BUNDLED = Path(__file__).parents[2] / "engine/captiond_engine/bundled/demo-en"


@pytest.fixture(scope="module")
def checkpoint(vocabulary: Vocabulary) -> Checkpoint:
    weights = new_model(SMALL, len(vocabulary.tokens), seed=3).state_dict()
    return Checkpoint(SMALL, vocabulary.tokens, weights, 7, 3600.0)


def windows(frames: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).normal(0, 1, (2, 80, frames)).astype(np.float32))


def test_it_is_openai_whisper(checkpoint: Checkpoint) -> None:
    state, heads = SMALL.state, SMALL.heads
    dims = ModelDimensions(80, 1500, state, heads, 2, len(checkpoint.tokens), 448, state, heads, 2)
    reference = Reference(dims).eval()
    missing = reference.load_state_dict(checkpoint.averaged, strict=False)
    assert not missing.missing_keys
    assert set(missing.unexpected_keys) == {"ctc.weight", "ctc.bias"}
    model, mel, tokens = (
        checkpoint.model().eval(),
        windows(3000),
        torch.tensor([[5, 9, 300, 2], [1, 2, 3, 4]]),
    )
    with torch.no_grad():
        heard = model.encoder(mel)
        torch.testing.assert_close(heard, reference.encoder(mel), rtol=1e-3, atol=2e-4)
        said = model.logits(model.decoder(tokens, heard))
        torch.testing.assert_close(said, reference.decoder(tokens, heard), rtol=1e-3, atol=2e-4)


def test_mel_is_openai_whispers() -> None:
    samples = np.random.default_rng(2).normal(0, 0.1, 32000).astype(np.float32)
    torch.testing.assert_close(Mel()(samples), log_mel_spectrogram(samples), rtol=1e-5, atol=1e-5)


def test_an_export_says_what_the_checkpoint_says_and_nothing_untrained(checkpoint: Checkpoint) -> None:
    weights = {n: t.float() for n, t in export.whole_vocabulary(checkpoint).items()}
    whole = Whisper(SMALL, export.TOKENS).eval()
    whole.load_state_dict(weights, strict=False)
    small, mel = checkpoint.model().eval(), windows(400)
    rows = torch.tensor([[5, 9, 300, 2]] * 2)
    ids = torch.tensor(checkpoint.tokens)
    with torch.no_grad():
        trained = small.logits(small.decoder(rows, small.encoder(mel)))
        exported = whole.logits(whole.decoder(ids[rows], whole.encoder(mel)))
    torch.testing.assert_close(exported[..., ids], trained, rtol=0.02, atol=0.02)  # float16 weights
    others = torch.ones(export.TOKENS, dtype=torch.bool)
    others[ids] = False
    assert float((exported[..., others] - export.UNUSED_LOGIT).abs().max()) < 0.2


def test_export_writes_what_the_bundled_model_is_made_of(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path, out = tmp_path / "c.pt", tmp_path / "out"
    checkpoint.save(path)
    done = CliRunner().invoke(export.main, [str(path), str(out), "--head", "1", "0"])
    assert done.exit_code == 0, done.output
    for name in ("vocab.json", "added_tokens.json"):
        assert (out / name).read_bytes() == (BUNDLED / name).read_bytes(), name
    for name in ("config.json", "generation_config.json", "preprocessor_config.json"):
        mine, theirs = (json.loads((folder / name).read_text()) for folder in (out, BUNDLED))
        assert mine.keys() == theirs.keys(), name
    assert json.loads((out / "generation_config.json").read_text())["alignment_heads"] == [[1, 0]]
    exported, bundled = (set(load_file(f / "model.safetensors")) for f in (out, BUNDLED))
    assert exported == {n for n in bundled if ".layers.2." not in n and ".layers.3." not in n}
    model, vocabulary = export.load_folder(out)
    again = checkpoint.model()
    torch.testing.assert_close(model.encoder.conv1.weight, again.encoder.conv1.weight, rtol=1e-3, atol=1e-3)
    assert vocabulary.decode(vocabulary.encode("Turn on the lights.")) == "Turn on the lights."


def test_a_checkpoint_survives_the_disk(checkpoint: Checkpoint, tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "c.pt")
    again = Checkpoint.load(tmp_path / "c.pt")
    assert (again.size, again.tokens, again.steps) == (SMALL, checkpoint.tokens, 7)
    assert all(torch.equal(t, again.averaged[n]) for n, t in checkpoint.averaged.items())


def test_the_average_of_two_checkpoints_lies_between_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    weights = new_model(SMALL, len(checkpoint.tokens), seed=4).state_dict()
    later = Checkpoint(SMALL, checkpoint.tokens, weights, 9, 7200.0)
    checkpoint.save(tmp_path / "a.pt")
    later.save(tmp_path / "b.pt")
    names = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    done = CliRunner().invoke(average.main, [*names, "--share", "0.25", "--out", str(tmp_path / "c.pt")])
    assert done.exit_code == 0, done.output
    made = Checkpoint.load(tmp_path / "c.pt")
    assert (made.steps, made.audio_seconds) == (9, 7200.0)
    for name, t in made.averaged.items():
        expected = 0.75 * checkpoint.averaged[name] + 0.25 * weights[name]
        torch.testing.assert_close(t, expected, msg=name)


def test_checkpoints_of_two_vocabularies_have_no_average(checkpoint: Checkpoint, tmp_path: Path) -> None:
    tokens = checkpoint.tokens[:-1]
    Checkpoint(SMALL, tokens, new_model(SMALL, len(tokens)).state_dict(), 1, 1.0).save(tmp_path / "a.pt")
    checkpoint.save(tmp_path / "b.pt")
    names = [str(tmp_path / name) for name in ("a.pt", "b.pt")]
    done = CliRunner().invoke(average.main, [*names, "--out", str(tmp_path / "c.pt")])
    assert done.exit_code == 1
    assert "vocabulary" in done.output
    assert not (tmp_path / "c.pt").exists()


def test_positions_are_kept_clean() -> None:
    model = new_model(SMALL, 10)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1)
    keep_positions_clean(model)
    seen: list[torch.Tensor] = []
    model.encoder.blocks[1].attn_ln.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        model.encoder(windows(60))
    clean = clean_dimensions(SMALL)
    torch.testing.assert_close(seen[0][0][:, clean], model.encoder.positional_embedding[:30, clean])


def test_the_constant_of_the_last_norm_is_kept_and_comes_back_by_little_steps() -> None:
    model = new_model(SMALL, 50)

    def constant() -> float:
        return float((model.decoder.ln.bias / model.decoder.ln.weight).sum())

    with torch.no_grad():
        model.decoder.ln.weight.uniform_(1.0, 2.0)
        model.decoder.ln.bias.normal_()
    before, untouched = constant(), model.decoder.ln.bias.detach().clone()
    keep_constant(model)
    step = abs(constant() - before)
    assert 0 < step < 0.1
    assert float((model.decoder.ln.bias - untouched).norm()) < step
    for _ in range(round(abs(CONSTANT - before) / step) + 1):
        keep_constant(model)
    assert constant() == pytest.approx(CONSTANT, abs=1e-3)


def test_muon_turns_matrices_into_nearly_orthogonal_ones() -> None:
    turned = orthogonal(torch.randn(3, 48, 128, generator=torch.Generator().manual_seed(1))).float()
    values = torch.linalg.svdvals(turned)
    assert float(values.min()) > 0.5
    assert float(values.max()) < 1.5


def test_merges_spell_every_token() -> None:
    known = tokenizer.ranks()
    for token in list(known)[300::997]:
        assert b"".join(tokenizer.halves(token, known)) == token
        assert len(tokenizer.halves(token, known)) == 2
