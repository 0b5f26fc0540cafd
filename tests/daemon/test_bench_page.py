"""The page and the comparison of live runs, and the bench of voice detectors, on made-up timelines."""

from __future__ import annotations

import json
import re
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import soundfile
from captiond_engine.types import samples_from_ms
from captiond_engine.vad.segmenter import SegmenterSettings
from click.testing import CliRunner
from rich.console import Console

from daemon.bench import live, page, report, vad
from daemon.bench.clips import Utterance
from daemon.bench.comparing import print_comparison
from tests.daemon.test_bench_metrics import EVENTS, recording, tone, write_set
from tests.sim.scripted import LoudDetector


def run_of(final: str = "Turn on.", **changes: object) -> tuple[dict[str, object], list[report.Recording]]:
    """The figures of one small run, and what its client saw; its sound lies in ``path``."""
    events = [(at, event | {"text": final} if "text" in event else event) for at, event in EVENTS]
    made = [recording("<a>", "turn on", *events, **changes), recording("b", "", seconds=1800.0)]
    figures = {
        "bench": "live",
        **report.provenance(Path(__file__).parents[2]),
        "model": "scripted",
        "pace": {"frame_ms": 20, "tail_s": 1.5, "parallel": 1},
        "settings": ["segment.silence_ms=400"],
        "figures": report.group_figures(made, {}),
    }
    return figures, made


def test_the_page_shows_figures_and_one_session_and_repeats_no_markup(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", tone((1.0, 3.0), seconds=4), 16_000)
    figures, recordings = run_of("<b>Turn</b> on.", path=tmp_path / "a.flac")
    drawn = page.html(figures, recordings)
    assert "&lt;a&gt; in time" in drawn
    assert "<b>Turn</b> on." not in drawn
    assert "&lt;b&gt;Turn" in drawn
    assert "segment.silence_ms=400" in drawn
    assert "0 finals in 1 clips without voices" in drawn
    pictures = re.findall(r"<svg.*?</svg>", drawn, re.S)
    assert len(pictures) == 2  # latencies; one strip of twenty seconds
    for picture in pictures:
        ElementTree.fromstring(picture)
    assert pictures[1].count("<title>turn on</title>") == 1
    assert drawn.count('class="tentative"') == 2  # both partials, as they grew


def test_two_runs_are_compared_by_group(tmp_path: Path) -> None:
    paths = []
    for name, final in (("one", "Turn on."), ("other", "Turn off.")):
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text('{"older": 1}\n' + json.dumps(run_of(final)[0]) + "\n", encoding="utf-8")
    one, other = (page.last_line(path.read_text(encoding="utf-8")) for path in paths)
    told = StringIO()
    print_comparison(Console(file=told, width=100), one, other, ("one", "other"))
    text = told.getvalue()
    assert re.search(r"WER streaming, % +│ +0\.0 +│ +50\.0 +│ +\+50\.0", text)
    assert re.search(r"first partial p50, ms +│ +800 +│ +800 +│ +\+0", text)
    assert re.search(r"WER offline, % +│ +– +│ +– +│ +–", text)
    done = CliRunner().invoke(live.main, ["--compare", *map(str, paths)])
    assert done.exit_code == 0, done.output


def test_a_file_that_is_no_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}", encoding="utf-8")
    done = CliRunner().invoke(live.main, ["--compare", str(tmp_path / "a.json"), str(tmp_path / "a.json")])
    assert done.exit_code == 1
    assert "a.json" in done.output
    assert "cannot be compared" in done.output


# --- voice detectors ---------------------------------------------------------------------------------


def test_missed_and_false_speech_and_delays_are_counted_on_a_grid() -> None:
    clip = recording("a", "x", utterances=(Utterance(1.0, 3.0, "x", (3.0,)),), seconds=10.0).clip
    tally = vad.Tally()
    tally.add(clip, [vad.Found(1.5, 3.5, 1.7, 4.0, True), vad.Found(6.0, 7.0, 6.1, 7.6, True)])
    figures = tally.figures()
    assert (figures["miss"], figures["false_alarm"]) == (0.25, 0.1875)
    assert (figures["segments"], figures["ended_early"]) == (2, 0)
    assert figures["onset_ms"]["p50"] == pytest.approx(700)
    assert figures["end_ms"]["p50"] == pytest.approx(1_000)
    tally.add(clip, [vad.Found(1.0, 2.0, 1.1, 2.5, True), vad.Found(2.6, 3.0, 2.7, 3.5, True)])
    assert tally.figures()["ended_early"] == 1


def test_segments_are_those_of_the_live_segmenter() -> None:
    pcm = tone((1.0, 2.0), (4.0, 5.0), seconds=6)
    found = vad.segments_of(pcm, LoudDetector(), SegmenterSettings(silence=samples_from_ms(500)))
    assert [round(one.onset) for one in found] == [1, 4]
    assert [round(one.speech_end) for one in found] == [2, 5]
    assert all(one.noticed - one.onset < 0.2 for one in found)
    assert all(0.5 <= one.told - one.speech_end < 0.6 for one in found)


def test_detectors_are_measured_from_the_command_line(tmp_path: Path) -> None:
    row = {"id": "a", "path": "a.flac", "seconds": 3.0, "text": "up", "speech_start": 1.0, "speech_end": 2.0}
    write_set(tmp_path / "set", row)
    soundfile.write(tmp_path / "set" / "a.flac", tone((1.0, 2.0), seconds=3), 16_000)
    done = CliRunner().invoke(vad.main, [str(tmp_path / "set"), "--detector", "webrtc"])
    assert done.exit_code == 0, done.output
    line = json.loads(next(line for line in done.output.splitlines() if line.startswith("{")))
    assert line["bench"] == "vad"
    assert line["figures"]["webrtc"]["set"]["clips"] == 1
    assert np.isfinite(line["figures"]["webrtc"]["set"]["rtf"])
