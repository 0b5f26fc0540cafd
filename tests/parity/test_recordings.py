"""The bundled model on a whole recording: batches leave no trace, and nothing that is said is lost."""

from __future__ import annotations

from typing import Literal

import pytest

from tests.parity.recordings import kept, ours


@pytest.mark.parametrize("window", ["fitted", "full"])
def test_a_batch_says_what_each_window_says_alone(window: Literal["fitted", "full"]) -> None:
    long = kept()
    together, alone = ours(long.pcm, batch=4, window=window), ours(long.pcm, batch=1, window=window)
    assert together.spans == alone.spans
    assert [d.tokens for _, d in together.passes] == [d.tokens for _, d in alone.passes]
    assert together.text == alone.text
    assert len(together.passes) >= 11
