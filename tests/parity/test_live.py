"""Our model against openai-whisper itself, side by side in one process, on the larger sets where they are.

Runs where the extra ``parity`` is installed; ``python -m tests.parity.report`` prints the same as a table.
"""

from __future__ import annotations

import pytest

pytest.importorskip("whisper", reason="the extra 'parity' is not installed")
pytest.importorskip("torch", reason="the extra 'parity' is not installed")

from tests.parity import clips, models, report  # after the skips

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("size", models.sizes())
def test_seeded_weights(size: str) -> None:
    for row in report.seeded_rows(size):
        assert row.tokens_equal == row.total, row
        assert row.encoded < report.ENCODED_BOUND
        assert row.logits < report.LOGITS_BOUND


def test_bundled_model_on_kept_clips() -> None:
    row = report.compare_bundled(clips.bundled())
    assert row.tokens_equal == row.total == len(clips.bundled())
    assert row.mel < report.MEL_BOUND
    assert row.encoded < report.ENCODED_BOUND
    assert row.logits < report.LOGITS_BOUND


def test_bundled_model_on_the_larger_sets() -> None:
    found = clips.shared()
    if not found:
        pytest.skip("the larger sets (../shared/data/open) are not beside the project")
    row = report.compare_bundled(found)
    assert row.tokens_equal == row.total == len(found)
    assert row.encoded < report.ENCODED_BOUND


def test_mels_at_both_heights() -> None:
    for mels in (80, 128):
        assert report.mel_difference(clips.bundled()[0].pcm, mels) < report.MEL_BOUND


def test_goldens_are_what_the_reference_says_today() -> None:
    """The kept results were made with the same seeded weights that the tests build."""
    from tests.parity import make_goldens, test_goldens

    kept, fresh = test_goldens.golden("mini-v3"), make_goldens.make_seeded("mini-v3")
    assert [row["tokens"] for row in kept["rows"]] == [row["tokens"] for row in fresh["rows"]]
    assert len(kept["rows"]) == 6
    assert [row[0][0] for row in kept["languages"]] == [row[0][0] for row in fresh["languages"]]
