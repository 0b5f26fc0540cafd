"""The demo's sample and its report, without a daemon; its figures from a made-up conversation."""

from __future__ import annotations

import asyncio
import io
import sys

import pytest
import soundfile
from captiond_clients.demo import load_sample
from captiond_clients.demo_report import Heard, Spoken, latencies_ms, matched, percentile, report
from captiond_clients.events import Final, Partial, SpeechEnded
from rich.console import Console

SAID = (Spoken(1.0, 2.0, "Turn on the lights."), Spoken(3.0, 4.0, "What is the time?"))


def final(segment: int, text: str, start_ms: int, end_ms: int) -> Final:
    return Final(
        type="transcript.final", segment=segment, text=text, start_ms=start_ms, end_ms=end_ms, stream="s"
    )


def partial(segment: int, tentative: str, start_ms: int, heard_ms: int) -> Partial:
    return Partial(
        type="transcript.partial",
        segment=segment,
        revision=1,
        committed="",
        tentative=tentative,
        start_ms=start_ms,
        heard_until_ms=heard_ms,
        stream="s",
    )


HEARD = [
    Heard(1.3, partial(1, "", 900, 1_300)),
    Heard(1.5, partial(1, "Turn", 900, 1_500)),
    Heard(2.5, SpeechEnded(type="speech.ended", segment=1, at_ms=2_100, reason="silence", stream="s")),
    Heard(2.6, final(1, "Turn on the light.", 900, 2_100)),
    Heard(3.4, partial(2, "What", 2_900, 3_400)),
    Heard(4.5, SpeechEnded(type="speech.ended", segment=2, at_ms=4_100, reason="silence", stream="s")),
    Heard(4.9, final(2, "What is the time?", 2_900, 4_100)),
]


def test_the_sample_is_what_its_card_says() -> None:
    sample, recording = load_sample()
    info = soundfile.info(str(recording))
    assert (info.samplerate, info.channels) == (16_000, 1)
    assert info.duration == pytest.approx(sample.seconds)
    times = [time for spoken in sample.segments for time in (spoken.speech_start, spoken.speech_end)]
    assert times == sorted(times)
    assert times[-1] < sample.seconds


def test_latencies_are_counted_from_the_words_and_the_endpoint() -> None:
    measured = latencies_ms(SAID, HEARD)
    assert measured["first partial"] == pytest.approx([500, 400])
    assert measured["finalization"] == pytest.approx([600, 900])
    assert measured["compute finalization"] == pytest.approx([100, 400])


def test_each_final_belongs_to_the_sentence_it_covers() -> None:
    texts = [[heard.text for heard in finals] for finals in matched(SAID, HEARD)]
    assert texts == [["Turn on the light."], ["What is the time?"]]


def test_percentiles_are_nearest_rank() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], share) for share in (0.5, 0.9)] == [2.0, 4.0]
    assert percentile([7.0], 0.9) == 7.0


def test_the_report_marks_what_differs_and_counts_it() -> None:
    pytest.importorskip("jiwer")
    out = io.StringIO()
    figures = report(SAID, HEARD, Console(file=out, width=200), paced=True)
    assert figures["wer"] == {"percent": 12.5, "errors": 1, "words": 8}
    assert figures["first_partial_ms"] == {"p50": 400, "p90": 500, "n": 2}
    assert "   Turn on the *lights.*\n → Turn on the *light.*" in out.getvalue()
    assert " = What is the time?" in out.getvalue()


def test_a_sentence_that_was_not_heard_counts_whole() -> None:
    pytest.importorskip("jiwer")
    figures = report(SAID, HEARD[:4], Console(file=io.StringIO()), paced=False)
    assert figures == {"wer": {"percent": 62.5, "errors": 5, "words": 8}}


async def test_a_daemon_does_not_outlive_the_program_that_it_belongs_to() -> None:
    """Also where that is killed and can end nothing any more."""
    said_when_ended = (
        "import signal, time; signal.signal(15, lambda *_: print('ended', flush=True) or exit())"
    )
    child = [sys.executable, "-c", f"{said_when_ended}; print('runs', flush=True); time.sleep(600)"]
    start = (
        "import os, subprocess, sys, time; "
        "subprocess.Popen([sys.executable, '-m', 'captiond_clients.tied', str(os.getpid()), *sys.argv[1:]]); "
        "time.sleep(600)"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", start, *child, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    async with asyncio.timeout(60):
        assert await parent.stdout.readline() == b"runs\n"
        parent.kill()
        assert await parent.stdout.read() == b"ended\n"


async def test_a_program_whose_parent_is_gone_already_is_not_started() -> None:
    late = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "captiond_clients.tied", "1", sys.executable, "-c", "print('runs')"),
        stdout=asyncio.subprocess.PIPE,
    )
    assert await late.communicate() == (b"", None)
