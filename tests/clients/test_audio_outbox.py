"""What a speaker may have to send again: the tail from any position, or silence where it is gone."""

from __future__ import annotations

from collections.abc import Iterable

from captiond_clients.audio_outbox import AudioOutbox, AudioShape
from hypothesis import given
from hypothesis import strategies as st

SHAPE = AudioShape("pcm_s16le", 1_000, 1)  # 2 bytes a millisecond
pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=40)


def audio_of(messages: Iterable[bytes | str]) -> bytes:
    return b"".join(message for message in messages if isinstance(message, bytes))


@given(pieces, st.integers(0, 2_000), st.integers(10, 500))
def test_a_replay_is_the_tail_of_what_was_sent(sent: list[bytes], heard_ms: int, limit_ms: int) -> None:
    outbox = AudioOutbox(SHAPE, limit_ms)
    for piece in sent:
        outbox.add_audio(piece)
    audio = b"".join(sent)
    heard = min(SHAPE.bytes_of(heard_ms), len(audio))
    again = audio_of(outbox.replay(heard))
    silent = max(0, outbox.start - heard)
    assert again == bytes(silent) + audio[heard + silent :]
    assert len(audio) - outbox.start <= SHAPE.bytes_of(limit_ms) + 40


@given(pieces, pieces, st.integers(0, 2_000))
def test_control_messages_keep_their_place(before: list[bytes], after: list[bytes], heard_ms: int) -> None:
    outbox = AudioOutbox(SHAPE, 60_000)
    for piece in before:
        outbox.add_audio(piece)
    outbox.add_control("flush")
    for piece in after:
        outbox.add_audio(piece)
    heard = min(SHAPE.bytes_of(heard_ms), outbox.end)
    again = list(outbox.replay(heard))
    place = again.index("flush")
    unheard_from = max(0, heard - len(b"".join(before)))
    assert audio_of(again[place + 1 :]) == b"".join(after)[unheard_from:]


@given(pieces, st.integers(0, 400), pieces)
def test_a_new_stream_starts_at_a_whole_sample_of_what_is_held(
    sent: list[bytes], answered_ms: int, more: list[bytes]
) -> None:
    outbox = AudioOutbox(SHAPE, 100)
    for piece in sent:
        outbox.add_audio(piece)
    outbox.answered(answered_ms)
    outbox.start_over()
    start = outbox.start
    assert start % SHAPE.frame_bytes == 0
    assert outbox.position(0) == start
    for piece in more:
        outbox.add_audio(piece)
    again = audio_of(outbox.replay(outbox.start))
    assert again == b"".join(sent + more)[outbox.start :]


def test_silence_is_silent_in_each_encoding() -> None:
    assert AudioShape("pcm_mulaw", 8_000, 1).silence(2) == b"\xff\xff"
    assert AudioShape("pcm_alaw", 8_000, 1).silence(1) == b"\xd5"
    assert AudioShape("pcm_f32le", 8_000, 1).silence(4) == bytes(4)
