from __future__ import annotations

from pathlib import Path

import click
import msgspec
import pytest
import torch
from click.testing import CliRunner

from engine.training import losses, train
from engine.training.examples import Examples
from engine.training.initial import clean_dimensions
from engine.training.mixing import Mix
from engine.training.model import Checkpoint, Size
from engine.training.phases import Phase, Recipe
from engine.training.text import Vocabulary
from engine.training.train import Run

RECIPE = Path(train.__file__).with_name("recipe.toml")
SMALL = Size(state=128, encoder_layers=1, decoder_layers=2)


def phase(**changed: object) -> Phase:
    told = {
        "hours": 0.5,
        "frames": 1500,
        "rate": 2e-3,
        "guided": 0.1,
        "hold": 1.0,
        "mix": Mix(longest_s=(4.0,)),
    }
    return Phase(**{**told, **changed})  # type: ignore[arg-type]


def test_the_recipe_is_read_whole() -> None:
    recipe = Recipe.read(RECIPE)
    assert list(recipe.phases) == ["letters", "words", "wide", "settle", "further"]
    assert recipe.size == Size(192, 4, 3)
    assert all(p.mix.longest_s for p in recipe.phases.values())
    assert recipe.phases["settle"].share_of_rate(0.0) == 1.0
    assert recipe.phases["settle"].share_of_rate(1.0) == 0.0
    assert recipe.phases["wide"].share_of_rate(0.99) == 1.0


def test_it_learns_and_what_is_saved_goes_on(folder: Path, tmp_path: Path) -> None:
    recipe, out = Recipe(SMALL, 3, {}), tmp_path / "c.pt"
    told: list[float] = []
    run = Run(recipe, phase(), None, "cpu")
    measured = train.losses

    def watched(*given: object) -> losses.Losses:
        parts = measured(*given)  # type: ignore[arg-type]
        told.append(float(parts.text.detach()))
        run.stopped = len(told) == 12
        return parts

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "losses", watched)
        run.learn(Examples(folder, Vocabulary(run.tokens), 1).batches(phase().mix, 1500), out)
    assert told[-1] < told[0]
    saved = Checkpoint.load(out)
    assert saved.steps == 12
    assert saved.audio_seconds > 0
    assert not saved.averaged["encoder.conv2.weight"][clean_dimensions(SMALL)].any()
    again = Run(recipe, phase(encoder_only=True), saved, "cpu")
    assert again.steps == 12
    assert all(torch.equal(t, saved.averaged[n]) for n, t in again.model.state_dict().items())
    assert not any(p.requires_grad for p in again.model.decoder.parameters())


def test_a_loader_that_cannot_go_on_ends_the_run(tmp_path: Path) -> None:
    """Nothing was spoken yet."""
    run = Run(Recipe(SMALL, 3, {}), phase(), None, "cpu")
    making = train.started(run, tmp_path, 1, 1)
    with pytest.raises(click.ClickException, match="has ended"):
        next(train.in_turn(making, run))
    run.stopped = True
    assert list(train.in_turn(making, run)) == []


def test_a_setting_that_is_misspelled_is_told(tmp_path: Path) -> None:
    told = RECIPE.read_text().replace("no_speech", "no_speach")
    (tmp_path / "recipe.toml").write_text(told)
    with pytest.raises(msgspec.ValidationError, match="no_speach"):
        Recipe.read(tmp_path / "recipe.toml")


def test_a_window_without_words_does_not_outweigh_the_others(folder: Path) -> None:
    run = Run(Recipe(SMALL, 3, {}), phase(), None, "cpu")
    silent = phase(mix=Mix(longest_s=(4.0,), no_speech=1.0))
    batch = next(Examples(folder, Vocabulary(run.tokens), 1).batches(silent.mix, 1500))
    parts = losses.losses(run.model, [torch.from_numpy(a) for a in batch], silent)
    assert (
        float(parts.letters.detach()) < losses.FRAMES_A_LETTER * 10
    )  # a frame's loss, as often as frames count


def test_the_command_tells_an_unknown_phase(tmp_path: Path) -> None:
    done = CliRunner().invoke(train.main, ["sing", "--out", str(tmp_path / "c.pt")])
    assert done.exit_code == 2
    assert "letters, words, wide, settle" in done.output
