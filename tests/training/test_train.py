from __future__ import annotations

from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

from engine.training import train
from engine.training.examples import Examples
from engine.training.initial import clean_dimensions
from engine.training.model import Checkpoint, Size
from engine.training.text import Vocabulary
from engine.training.train import Phase, Recipe, Run

RECIPE = Path(train.__file__).with_name("recipe.toml")
SMALL = Size(state=128, encoder_layers=1, decoder_layers=2)


def phase(**changed: object) -> Phase:
    told = {
        "hours": 0.5,
        "frames": 1500,
        "rate": 2e-3,
        "guided": 0.1,
        "hold": 1.0,
        "mix": {"longest_s": [4.0]},
    }
    return Phase(**{**told, **changed})  # type: ignore[arg-type]


def test_the_recipe_is_read_whole() -> None:
    recipe = Recipe.read(RECIPE)
    assert list(recipe.phases) == ["letters", "words", "wide", "settle"]
    assert recipe.size == Size(192, 4, 3)
    assert all(p.mixture().longest_s for p in recipe.phases.values())
    assert recipe.phases["settle"].share_of_rate(0.0) == 1.0
    assert recipe.phases["settle"].share_of_rate(1.0) == 0.0
    assert recipe.phases["wide"].share_of_rate(0.99) == 1.0


def test_it_learns_and_what_is_saved_goes_on(folder: Path, tmp_path: Path) -> None:
    recipe, out = Recipe(SMALL, 3, {}), tmp_path / "c.pt"
    told: list[float] = []
    run = Run(recipe, phase(), None, "cpu")
    measured = train.losses

    def watched(*given: object) -> train.Losses:
        parts = measured(*given)  # type: ignore[arg-type]
        told.append(float(parts.text.detach()))
        run.stopped = len(told) == 12
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "losses", watched)
        run.learn(Examples(folder, Vocabulary(run.tokens), 1).batches(phase().mixture(), 1500), out)
    assert told[-1] < told[0]
    saved = Checkpoint.load(out)
    assert saved.steps == 12
    assert saved.audio_seconds > 0
    assert not saved.weights["encoder.conv2.weight"][clean_dimensions(SMALL)].any()
    again = Run(recipe, phase(new_decoder=True, encoder_only=True), saved, "cpu")
    assert again.steps == 12
    kept, fresh = "encoder.conv1.weight", "decoder.token_embedding.weight"
    torch.testing.assert_close(again.model.state_dict()[kept], saved.averaged[kept])
    assert not torch.equal(again.model.state_dict()[fresh], saved.averaged[fresh])
    assert not any(p.requires_grad for p in again.model.decoder.parameters())


def test_a_window_without_words_does_not_outweigh_the_others(folder: Path) -> None:
    run = Run(Recipe(SMALL, 3, {}), phase(), None, "cpu")
    silent = phase(mix={"longest_s": [4.0], "no_speech": 1.0})
    batch = next(Examples(folder, Vocabulary(run.tokens), 1).batches(silent.mixture(), 1500))
    parts = train.losses(run.model, [torch.from_numpy(a) for a in batch], silent)
    assert (
        float(parts.letters.detach()) < train.FRAMES_A_LETTER * 10
    )  # a frame's loss, as often as frames count


def test_the_command_tells_an_unknown_phase(tmp_path: Path) -> None:
    done = CliRunner().invoke(train.main, ["sing", "--out", str(tmp_path / "c.pt")])
    assert done.exit_code == 2
    assert "letters, words, wide, settle" in done.output
